"""A language model for tests and demonstrations: it gives the answers it was given, in order."""

from __future__ import annotations

from collections.abc import Sequence

from medmllm.errors import ModelUnavailable
from medmllm.ports import Prompt


class ScriptedModel:
    """Answers from a list; a WriterError in the list is raised instead. It remembers every prompt."""

    def __init__(self, answers: Sequence[str | Exception], name: str = "scripted") -> None:
        self._answers = list(answers)
        self._name = name
        self.prompts: list[Prompt] = []

    @property
    def name(self) -> str:
        """The name it was given."""
        return self._name

    @property
    def reads_prose(self) -> bool:
        """It does."""
        return True

    def complete(self, prompt: Prompt) -> str:
        """The next answer. Raises ModelUnavailable when none is left."""
        self.prompts.append(prompt)
        if not self._answers:
            raise ModelUnavailable("the script has no further answer")
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer
