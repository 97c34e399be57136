"""Any server that speaks OpenAI's chat completions (vLLM, llama.cpp, Ollama ...), with pictures as data URIs.

Request and answer as documented at https://platform.openai.com/docs/api-reference/chat and, for vLLM, at
https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html. Nothing is opened before the first question.
"""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import urlsplit

import httpx

from medmllm.errors import ModelUnavailable
from medmllm.ports import Prompt, View

MOST_TOKENS = 2048
MOST_OF_ANSWER = 4 * 2**20  # bytes


class OpenAiModel:
    """A model behind `openai+http://host:port/v1` or `openai+https://...`.

    model: its name on the server; None takes the only one that the server offers. api_key: sent as a bearer token.
    timeout_s: how long to wait for an answer, in seconds. Raises ValueError for a URL that is not of this kind.
    """

    def __init__(self, url: str, model: str | None = None, api_key: str = "", timeout_s: float = 120.0) -> None:
        scheme, _, rest = url.partition("+")
        parts = urlsplit(rest)
        if scheme != "openai" or parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("a language model's URL looks like openai+http://host:8000/v1 or openai+https://host/v1")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("a language model's URL holds no user, password or query; give the key as its own setting")
        self._base = rest.rstrip("/")
        self._where = parts.hostname
        self._model = model or None
        self._timeout_s = timeout_s
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}

    @property
    def name(self) -> str:
        """The model's name, as asked for or as the server gave it; the host before either is known."""
        return self._model or self._where

    @property
    def reads_prose(self) -> bool:
        """It does."""
        return True

    def complete(self, prompt: Prompt) -> str:
        """The model's answer, at temperature 0. Raises ModelUnavailable, with a sentence that holds no payload."""
        with httpx.Client(timeout=self._timeout_s, headers=self._headers, follow_redirects=False) as client:
            self._model = self._model or self._only_model(client)
            body = {
                "model": self._model,
                "messages": [
                    {"role": "system", "content": prompt.system},
                    {"role": "user", "content": content(prompt)},
                ],
                "temperature": 0,
                "max_tokens": MOST_TOKENS,
            }
            return _text(self._ask(client, "POST", "/chat/completions", body))

    def _only_model(self, client: httpx.Client) -> str:
        answer = self._ask(client, "GET", "/models")
        data = answer.get("data")
        names = [each.get("id") for each in data if isinstance(each, dict)] if isinstance(data, list) else []
        names = [each for each in names if isinstance(each, str) and each]
        if len(names) != 1:
            raise ModelUnavailable(f"the server offers {len(names)} models; name the one to use in the settings")
        return str(names[0])

    def _ask(self, client: httpx.Client, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """One exchange; every way in which it can go wrong becomes a ModelUnavailable."""
        try:
            with client.stream(method, f"{self._base}{path}", json=body) as response:
                if not response.is_success:
                    raise ModelUnavailable(_refusal(response.status_code))
                raw = bytearray()
                for piece in response.iter_bytes():
                    raw += piece
                    if len(raw) > MOST_OF_ANSWER:
                        raise ModelUnavailable("the language model's server sent an answer that is too long to be one")
        except httpx.TimeoutException as exc:
            raise ModelUnavailable(f"the language model gave no answer within {self._timeout_s:g} s") from exc
        except httpx.ConnectError as exc:
            raise ModelUnavailable("the language model's server cannot be reached") from exc
        except httpx.HTTPError as exc:
            raise ModelUnavailable("the connection to the language model's server broke off") from exc
        try:
            answer = httpx.Response(200, content=bytes(raw)).json()
        except ValueError as exc:
            raise ModelUnavailable("the language model's server sent an answer that is not JSON") from exc
        if not isinstance(answer, dict):
            raise ModelUnavailable("the language model's server sent an answer of an unknown form")
        return answer


def content(prompt: Prompt) -> list[dict[str, Any]]:
    """The user's message: each picture after its caption and regions, then the text."""
    parts: list[dict[str, Any]] = []
    for number, view in enumerate(prompt.views, 1):
        parts.append({"type": "text", "text": _caption(number, view)})
        uri = f"data:image/png;base64,{base64.b64encode(view.png).decode('ascii')}"
        parts.append({"type": "image_url", "image_url": {"url": uri}})
    parts.append({"type": "text", "text": prompt.text})
    return parts


def _caption(number: int, view: View) -> str:
    regions = "".join(f"\n<ref>{name}</ref><box>[{list(corners)}]</box>" for name, corners in view.regions)
    return f"Picture {number}: {view.caption}{regions}"


def _refusal(status: int) -> str:
    if status in (401, 403):
        return f"the language model's server refuses the key (HTTP {status})"
    if status == 404:
        return "the language model's server does not know the model or the address (HTTP 404)"
    if status in (400, 413, 422):
        return f"the language model's server does not accept the question (HTTP {status})"
    if status == 429:
        return "the language model's server is busy (HTTP 429)"
    return f"the language model's server answers with an error (HTTP {status})"


def _text(answer: dict[str, Any]) -> str:
    """The first choice's text; a list of text parts is joined."""
    try:
        message = answer["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError) as exc:
        raise ModelUnavailable("the language model's server sent an answer without a message") from exc
    if isinstance(message, list):
        message = "".join(str(part.get("text", "")) for part in message if isinstance(part, dict))
    if not isinstance(message, str) or not message.strip():
        raise ModelUnavailable("the language model gave an empty answer")
    return message
