"""similar: cosines, embedders of both kinds, and what becomes of their failures."""

from __future__ import annotations

import asyncio
import json
import math
import pickle
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrails.errors import ConfigError
from judges import similar
from judges.judge import Answer, Question, Score
from judges.registry import judge
from judges.similar import Similar, cosine

FUNCTIONS = Path(__file__).parent / "sample_functions.py"
VECTORS = st.lists(st.floats(-1e150, 1e150), min_size=3, max_size=3).map(tuple)


def ask(made: Any, answer: str, *references: str) -> Score:
    return asyncio.run(made(Question("?", references), Answer(answer)))


def test_the_nearest_reference_counts() -> None:
    made = judge({"similar": {"embedder": "sample_functions.py:embed"}}, folder=FUNCTIONS.parent)
    assert ask(made, "abc", "cab").value == pytest.approx(1.0)
    assert ask(made, "abc", "hij", "abd").value == pytest.approx(2 / 3)
    assert ask(made, "abc", "hij", "abd").reason == "cosine 0.667"
    assert ask(made, "abc", "hij").passed is False
    assert ask(made, "  ", "abc") == Score(0.0, False, "the answer is empty")


@pytest.mark.parametrize("kind", ["too few", "zeros", "nan", "lengths", "words", "nothing", "raises"])
def test_what_an_embedder_gets_wrong_is_an_error_row(kind: str) -> None:
    said = ask(judge({"similar": {"embedder": f"{FUNCTIONS}:embed_badly"}}), kind, "zqr")
    assert said.error == "embedder"
    assert "zqr" not in said.reason


def test_an_answer_that_is_a_known_reference_is_alike_and_needs_no_embedder() -> None:
    asked: list[list[str]] = []

    async def embed(texts: list[str]) -> list[list[float]]:
        asked.append(texts)
        return [[0.1 * len(text), 0.7, 0.3] for text in texts]

    made = judge({"similar": {"embedder": f"{FUNCTIONS}:embed"}})
    object.__setattr__(made, "_embed", embed)
    assert [ask(made, "abc", "abc", "de") for _ in range(2)] == [Score(1.0, True, "cosine 1.000")] * 2
    assert asked == [["abc", "de"]]


def test_an_embedder_that_is_cancelled_by_nobody_or_does_not_return_is_an_error_row(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    over = Event()
    monkeypatch.setattr(similar, "TIMEOUT", 0.05)
    made = judge({"similar": {"embedder": f"{FUNCTIONS}:embed_never"}})
    made._embed.args[0].__globals__["OVER"] = over  # type: ignore[attr-defined] # the loaded file's own
    try:
        assert ask(made, "hangs", "zqr").error == "timeout"
        said = ask(made, "cancels", "zqr")
    finally:
        over.set()
    assert (said.error, said.reason) == ("embedder", "the embedder raised CancelledError")


@given(left=VECTORS, right=VECTORS)
def test_cosine_is_symmetric_bounded_and_blind_to_length(
    left: tuple[float, ...], right: tuple[float, ...]
) -> None:
    try:
        value = cosine(left, right)
    except Exception:
        assert not any(left) or not any(right) or math.inf in (math.hypot(*left), math.hypot(*right))
        return
    assert -1 <= value <= 1
    assert cosine(right, left) == pytest.approx(value)
    assert cosine(left, left) == 1


# --- over HTTP ---------------------------------------------------------------------------------------------


class Server:
    """An embeddings endpoint on loopback; `reply` makes (status, body) of what was asked."""

    def __init__(self, reply: Callable[[dict[str, Any]], tuple[int, Any]]) -> None:
        self.asked: list[tuple[dict[str, Any], str | None]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                outer.asked.append((body, self.headers["authorization"]))
                status, said = reply(body)
                data = said if isinstance(said, bytes) else json.dumps(said).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1/embeddings"


def by_length(body: dict[str, Any]) -> tuple[int, Any]:
    rows = [{"index": i, "embedding": [1.0, float(len(text))]} for i, text in enumerate(body["input"])]
    return 200, {"data": rows[::-1]}  # the order is said by the index


def test_one_request_an_answer_with_the_texts_that_are_new(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "sk-secret")
    with Server(by_length) as server:
        options = {"url": server.url, "model": "m", "key_env": "MY_KEY", "dimensions": 2}
        made = judge({"similar": options})
        assert ask(made, "1234", "1234", "12").passed
        assert ask(made, "12345\ud800", "12").error is None
    (first, key), (second, _) = server.asked
    assert first == {"model": "m", "input": ["1234", "12"], "encoding_format": "float", "dimensions": 2}
    assert second["input"] == ["12345?"]
    assert key == "Bearer sk-secret"
    assert "sk-secret" not in repr(made)


@pytest.mark.parametrize(
    "reply", [(500, {}), (200, {}), (200, b"no json"), (200, {"data": [{"index": 0}]}), (200, b"[" * 100_000)]
)
def test_a_broken_endpoint_is_an_error_row(reply: tuple[int, Any]) -> None:
    with Server(lambda body: reply) as server:
        assert ask(judge({"similar": {"url": server.url}}), "x", "y").error == "embedder"


def test_nobody_there_is_an_error_row() -> None:
    assert ask(judge({"similar": {"url": "http://127.0.0.1:9/v1/embeddings"}}), "x", "y").error == "embedder"


def test_vectors_of_references_are_kept_within_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("judges.similar.KEPT", 2)
    made = Similar(embedder=f"{FUNCTIONS}:embed")
    for reference in ("a", "b", "c"):
        ask(made, "abc", reference)
    assert list(made._kept) == ["b", "c"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "one of the two"),
        ({"embedder": "a.py:f", "url": "http://x"}, "one of the two"),
        ({"url": "file:///etc/passwd"}, "http://"),
        ({"url": "http://x", "key_env": "NO_SUCH_KEY"}, "NO_SUCH_KEY is not set"),
        ({"url": "http://x", "threshold": 2}, "threshold"),
        ({"url": "http://x", "timeout": 0}, "timeout"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        judge({"similar": options})


def test_an_embedder_that_has_changed_makes_another_judge(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def f(texts):\n    return [[1.0] for _ in texts]\n", encoding="utf-8")
    options = {"similar": {"embedder": "mine.py:f"}}
    old, same = (judge(options, folder=tmp_path) for _ in range(2))
    (tmp_path / "mine.py").write_text("def f(texts):\n    return [[2.0] for _ in texts]\n", encoding="utf-8")
    new = judge(options, folder=tmp_path)

    assert repr(old) == repr(same)
    assert repr(old) != repr(new), "a row's key is made of it"
    assert repr(pickle.loads(pickle.dumps(new))) == repr(new)
