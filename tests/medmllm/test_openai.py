"""The adapter for OpenAI-compatible servers, against a real HTTP server in a thread."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from medmllm.adapters.openai import OpenAiModel
from medmllm.errors import ModelUnavailable
from medmllm.ports import Prompt, View

PROMPT = Prompt("You draft.", "PATIENT-WORDS", (View(b"\x89PNG fake", "current study: PA", (("f1", (1, 2, 3, 4)),)),))


class FakeServer(ThreadingHTTPServer):
    """Speaks the two calls that the adapter makes; each test says what it answers."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), FakeHandler)
        self.models: list[str] = ["only-model"]
        self.status = 200
        self.raw: bytes | None = None
        self.content: Any = "findings | x | f1"
        self.delay_s = 0.0
        self.hangs_up = False
        self.seen: list[tuple[str, dict[str, str], Any]] = []

    @property
    def url(self) -> str:
        return f"openai+http://127.0.0.1:{self.server_address[1]}/v1"


class FakeHandler(BaseHTTPRequestHandler):
    server: FakeServer

    def do_GET(self) -> None:
        self.server.seen.append((self.path, dict(self.headers), None))
        self.reply({"object": "list", "data": [{"id": name} for name in self.server.models]}, 200)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.seen.append((self.path, dict(self.headers), body))
        time.sleep(self.server.delay_s)
        if self.server.hangs_up:
            self.close_connection = True
            return
        message = {"role": "assistant", "content": self.server.content}
        self.reply({"choices": [{"index": 0, "message": message}]}, self.server.status, self.server.raw)

    def reply(self, answer: Any, status: int, raw: bytes | None = None) -> None:
        body = json.dumps(answer).encode() if raw is None else raw
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing on standard error."""


@pytest.fixture
def server() -> Iterator[FakeServer]:
    fake = FakeServer()
    thread = threading.Thread(target=fake.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield fake
    fake.shutdown()
    fake.server_close()
    thread.join()


def test_a_question_and_its_answer(server) -> None:
    model = OpenAiModel(server.url, model="vlm", api_key="sk-1")
    assert model.complete(PROMPT) == "findings | x | f1"
    ((path, headers, body),) = server.seen
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == "Bearer sk-1"
    assert (body["model"], body["temperature"]) == ("vlm", 0)
    assert body["messages"][0] == {"role": "system", "content": "You draft."}
    caption, picture, text = body["messages"][1]["content"]
    assert caption["text"] == "Picture 1: current study: PA\n<ref>f1</ref><box>[[1, 2, 3, 4]]</box>"
    kind, _, data = picture["image_url"]["url"].partition(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(data) == b"\x89PNG fake"
    assert text == {"type": "text", "text": "PATIENT-WORDS"}


def test_the_only_model_is_taken_and_remembered(server) -> None:
    model = OpenAiModel(server.url + "/")
    assert model.name == "127.0.0.1"
    model.complete(PROMPT)
    model.complete(PROMPT)
    assert model.name == "only-model"
    assert [path for path, _, _ in server.seen].count("/v1/models") == 1
    assert "Authorization" not in server.seen[0][1]


@pytest.mark.parametrize("models", [[], ["a", "b"]])
def test_none_or_several_models_must_be_named(server, models) -> None:
    server.models = models
    with pytest.raises(ModelUnavailable, match=f"offers {len(models)} models; name the one"):
        OpenAiModel(server.url).complete(PROMPT)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (400, "does not accept the question"),
        (401, "refuses the key"),
        (404, "does not know the model"),
        (429, "is busy"),
        (500, "answers with an error"),
        (302, "answers with an error"),
    ],
)
def test_refusals_are_sentences_without_payload_or_key(server, status, words) -> None:
    server.status, server.raw = status, b'{"error": "sk-secret PATIENT-WORDS"}'
    with pytest.raises(ModelUnavailable, match=words) as caught:
        OpenAiModel(server.url, model="vlm", api_key="sk-secret").complete(PROMPT)
    assert f"(HTTP {status})" in str(caught.value)
    assert "sk-secret" not in str(caught.value)
    assert "PATIENT-WORDS" not in str(caught.value)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"<html>", "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        (b"", "not JSON"),
        (b"[]", "unknown form"),
        (b"{}", "without a message"),
        (b'{"choices": []}', "without a message"),
        (b'{"choices": [{"message": {"content": null}}]}', "empty answer"),
        (b'{"choices": [{"message": {"content": "  "}}]}', "empty answer"),
    ],
)
def test_answers_that_are_none(server, raw, words) -> None:
    server.raw = raw
    with pytest.raises(ModelUnavailable, match=words):
        OpenAiModel(server.url, model="vlm").complete(PROMPT)


def test_an_answer_without_end_is_cut_off(server) -> None:
    server.raw = b'"' + b"x" * (5 * 2**20) + b'"'
    with pytest.raises(ModelUnavailable, match="too long"):
        OpenAiModel(server.url, model="vlm").complete(PROMPT)


def test_an_answer_in_parts_is_joined(server) -> None:
    server.content = [{"type": "text", "text": "findings | "}, {"type": "text", "text": "x | f1"}]
    assert OpenAiModel(server.url, model="vlm").complete(PROMPT) == "findings | x | f1"


def test_a_slow_server_is_not_waited_for(server) -> None:
    server.delay_s = 1.5
    started = time.perf_counter()
    with pytest.raises(ModelUnavailable, match=r"no answer within 0\.2 s"):
        OpenAiModel(server.url, model="vlm", timeout_s=0.2).complete(PROMPT)
    assert time.perf_counter() - started < 1.4


def test_a_server_that_hangs_up(server) -> None:
    server.hangs_up = True
    with pytest.raises(ModelUnavailable, match="broke off"):
        OpenAiModel(server.url, model="vlm").complete(PROMPT)


def test_no_server_at_all(server) -> None:
    server.shutdown()
    server.server_close()
    with pytest.raises(ModelUnavailable, match="cannot be reached"):
        OpenAiModel(server.url, model="vlm").complete(PROMPT)


@pytest.mark.parametrize(
    "url",
    [
        "http://host/v1", "openai+ftp://host", "openai+http://", "openai+http:///v1", "openai",
        "openai+https://user:secret@host/v1", "openai+https://host/v1?key=secret",
    ],
)  # fmt: skip
def test_urls_of_another_kind_are_refused(url) -> None:
    with pytest.raises(ValueError, match="language model's URL") as caught:
        OpenAiModel(url)
    assert "secret" not in str(caught.value)


def test_https_is_spoken_where_the_url_says_so(server) -> None:
    url = server.url.replace("openai+http:", "openai+https:")
    with pytest.raises(ModelUnavailable):  # the server speaks no TLS, so nothing is sent in the clear
        OpenAiModel(url, model="vlm").complete(PROMPT)
    assert server.seen == []


def test_the_writer_loads_no_heavy_library() -> None:
    code = (
        "import sys, medmllm.write, medmllm.adapters.openai, medmllm.adapters.scripted\n"
        "print([name for name in ('torch', 'transformers', 'monai', 'chromadb') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
