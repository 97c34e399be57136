"""One suite for every LanguageModel: what the writer may rely on, whatever stands behind the port."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from medmllm.adapters.openai import OpenAiModel
from medmllm.adapters.scripted import ScriptedModel
from medmllm.errors import ModelUnavailable
from medmllm.ports import LanguageModel, Prompt, View

PROMPT = Prompt("system", "text", (View(b"png", "a caption", (("f1", (0, 0, 999, 999)),)),))
Open = Callable[[list[str]], LanguageModel]


class Answers(BaseHTTPRequestHandler):
    """Gives the server's answers in order, then refuses."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        answers: list[str] = self.server.answers  # type: ignore[attr-defined]
        status = 200 if answers else 503
        message = {"choices": [{"message": {"content": answers.pop(0)}}]} if answers else {}
        body = json.dumps(message).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing on standard error."""


@pytest.fixture(params=["scripted:", "openai+http:"])
def open_model(request: pytest.FixtureRequest) -> Iterator[Open]:
    if request.param == "scripted:":
        yield lambda answers: ScriptedModel(answers)
        return
    server = HTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()

    def connect(answers: list[str]) -> LanguageModel:
        server.answers = list(answers)  # type: ignore[attr-defined]
        return OpenAiModel(f"openai+http://127.0.0.1:{server.server_address[1]}/v1", model="tiny", timeout_s=5)

    yield connect
    server.shutdown()
    server.server_close()
    thread.join()


def test_it_answers_each_question_in_order(open_model: Open) -> None:
    model = open_model(["findings | one | f1", "findings | zwei ± 2 × 3 | f1"])
    assert model.complete(PROMPT) == "findings | one | f1"
    assert model.complete(PROMPT) == "findings | zwei ± 2 × 3 | f1"


def test_it_has_a_name_for_the_report(open_model: Open) -> None:
    name = open_model(["x"]).name
    assert name
    assert "://" not in name


def test_no_answer_is_model_unavailable_with_a_sentence(open_model: Open) -> None:
    with pytest.raises(ModelUnavailable) as caught:
        open_model([]).complete(PROMPT)
    assert len(str(caught.value).split()) > 3
    assert "system" not in str(caught.value)


def test_it_takes_a_prompt_without_pictures(open_model: Open) -> None:
    assert open_model(["findings | x | f1"]).complete(Prompt("system", "text")) == "findings | x | f1"
