"""Failed answers in and out: which may be tried again, what is said, and what is never said."""

from __future__ import annotations

import inspect
import json
import pickle
from typing import Any

import pytest

from guardrails.dialects import NAMES, dialect
from guardrails.dialects.failures import retry_after
from guardrails.errors import (
    Blocked,
    BudgetExceeded,
    ConfigError,
    DeadlineExceeded,
    GuardrailsError,
    Interrupted,
    Refused,
    Shed,
    Transient,
)

CHAT, CLAUDE = dialect("openai_chat"), dialect("anthropic")


def error(**fields: Any) -> bytes:
    return json.dumps({"error": {"message": "the prompt was: secret", **fields}}).encode()


CASES: list[tuple[int, bytes, type[GuardrailsError], str]] = [
    (400, error(type="invalid_request_error", param="messages[0].content"), Refused, "bad_request"),
    (400, error(code="context_length_exceeded"), Refused, "context_length"),
    (400, error(code="content_filter"), Refused, "content_policy"),
    (400, error(code="content_policy_violation"), Refused, "content_policy"),
    (
        400,
        b'{"object":"error","message":"maximum context length is 9","code":400}',
        Refused,
        "context_length",
    ),
    (
        400,
        error(type="invalid_request_error").replace(b"the prompt was", b"prompt is too long"),
        Refused,
        "context_length",
    ),
    (401, error(code="invalid_api_key"), Refused, "auth"),
    (401, b"", Refused, "auth"),
    (402, error(type="billing_error"), Refused, "quota"),
    (403, error(type="permission_error"), Refused, "forbidden"),
    (404, error(code="model_not_found"), Refused, "not_found"),
    (404, b"<html>nginx</html>", Refused, "not_found"),
    (405, b"", Refused, "not_found"),
    (408, b"", Transient, "timeout"),
    (409, b"", Transient, "conflict"),
    (413, error(type="request_too_large"), Refused, "too_large"),
    (418, b"", Refused, "bad_request"),
    (422, b'{"detail": [{"loc": ["body"]}]}', Refused, "bad_request"),
    (425, b"", Transient, "too_early"),
    (429, error(type="rate_limit_error"), Transient, "rate_limited"),
    (429, error(type="requests", code="rate_limit_exceeded"), Transient, "rate_limited"),
    (429, error(type="insufficient_quota", code="insufficient_quota"), Refused, "quota"),
    (429, b"slow down", Transient, "rate_limited"),
    (429, b'[{"error": {"code": "insufficient_quota"}}]', Refused, "quota"),
    (429, b"[]", Transient, "rate_limited"),
    (500, error(type="api_error"), Transient, "server_error"),
    (500, error(type="invalid_request_error"), Transient, "server_error"),
    (502, b"<html>bad gateway</html>", Transient, "bad_gateway"),
    (503, b"", Transient, "unavailable"),
    (503, error(type="overloaded_error"), Transient, "overloaded"),
    (504, b"[" * 9999, Transient, "timeout"),
    (520, b"\xff\xfe", Transient, "server_error"),
    (529, error(type="overloaded_error"), Transient, "overloaded"),
    (307, b"", Refused, "redirect"),
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("status", "body", "kind", "word"), CASES)
def test_a_failed_answer(name: str, status: int, body: bytes, kind: type[GuardrailsError], word: str) -> None:
    failed = dialect(name).decode_error(status, {"retry-after": "3"}, body)
    assert type(failed) is kind
    assert (failed.kind, failed.status) == (word, status)
    assert "secret" not in repr(failed) + str(failed)
    if isinstance(failed, Transient):
        assert failed.retry_after == 3


def test_words_are_repeated_and_sentences_are_not() -> None:
    failed = CHAT.decode_error(
        400, {}, error(type="invalid_request_error", param="messages[0].role", code="x y")
    )
    assert "invalid_request_error, messages[0].role" in str(failed)
    assert "x y" not in str(failed)
    long = CHAT.decode_error(400, {}, error(type="a" * 65, code="line\n"))
    assert "aaa" not in str(long)
    assert "line" not in str(long)


@pytest.mark.parametrize(
    ("status", "hint"),
    [
        (401, "--key-env NAME on the command line"),
        (401, "`key_env: NAME` in YAML"),
        (404, "model"),
        (404, "/v1"),
        (400, "documentation"),
        (413, "smaller"),
    ],
)
def test_hints_say_what_to_do(status: int, hint: str) -> None:
    assert hint in str(CHAT.decode_error(status, {}, b"{}"))


def test_a_web_page_points_at_the_base_url() -> None:
    assert "did you forget /v1?" in str(CHAT.decode_error(403, {}, b"\n<!doctype html>"))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "7"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "7"}, 7),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "later"}, None),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:10 GMT"}, None),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:10 GMT", "date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 10),
        ({"retry-after": "Wed, 21 Oct 2026 07:27:00 GMT", "date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 0),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:10 -0000", "date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 10),
        ({"retry-after": "Wed, 99 Oct 99999 07:28:10 GMT", "date": "x"}, None),
    ],
)
def test_how_long_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


SERVED: list[tuple[GuardrailsError, int, str, str]] = [
    (Shed("busy", retry_after=1.2), 429, "rate_limit_error", "rate_limit_error"),
    (BudgetExceeded("spent"), 429, "rate_limit_error", "rate_limit_error"),
    (Blocked("no"), 400, "invalid_request_error", "invalid_request_error"),
    (DeadlineExceeded("late"), 504, "timeout_error", "timeout_error"),
    (Refused("no", kind="auth", status=401), 401, "authentication_error", "authentication_error"),
    (Refused("no", kind="untranslatable"), 400, "invalid_request_error", "invalid_request_error"),
    (Transient("busy", kind="overloaded", status=529), 529, "server_error", "overloaded_error"),
    (Transient("down"), 503, "server_error", "api_error"),
    (Interrupted("cut"), 502, "server_error", "api_error"),
    (ConfigError("wrong"), 500, "server_error", "api_error"),
]


@pytest.mark.parametrize(("raised", "status", "chat", "claude"), SERVED)
def test_our_errors_as_served(raised: GuardrailsError, status: int, chat: str, claude: str) -> None:
    for name, word in (("openai_chat", chat), ("anthropic", claude)):
        code, headers, body = dialect(name).encode_error(raised)
        assert code == status
        assert json.loads(body)["error"]["type"] == word
        ours = not isinstance(raised, Refused | Transient | Interrupted)
        assert (headers.get("x-should-retry") == "false") is ours
        again = dialect(name).decode_error(code, headers, body)
        assert again.status == status


def test_waiting_and_blocking_keep_their_words() -> None:
    _, headers, _ = CHAT.encode_error(Shed("busy", retry_after=1.2))
    assert (headers["retry-after"], headers["retry-after-ms"]) == ("2", "1200")
    status, headers, body = CHAT.encode_error(Blocked("no", findings=(("ssn", 0.9),)))
    assert json.loads(body)["error"]["code"] == "content_filter"
    assert CHAT.decode_error(status, headers, body).kind == "content_policy"


@pytest.mark.parametrize(
    ("raised", "name"),
    [
        (Shed("a"), "RateLimitError"),
        (Blocked("a"), "BadRequestError"),
        (Refused("a", status=401), "AuthenticationError"),
        (Refused("a", status=404), "NotFoundError"),
        (Interrupted("a"), "InternalServerError"),
    ],
)
@pytest.mark.parametrize("package", ["openai", "anthropic"])
def test_the_official_clients_raise_their_own_errors(
    package: str, raised: GuardrailsError, name: str
) -> None:
    sdk = pytest.importorskip(package)
    web = pytest.importorskip("httpx2")
    status, headers, body = (CHAT if package == "openai" else CLAUDE).encode_error(raised)
    transport = web.MockTransport(lambda _: web.Response(status, headers=headers, content=body))
    kind = sdk.OpenAI if package == "openai" else sdk.Anthropic
    with kind(
        api_key="k", base_url="http://x", max_retries=0, http_client=web.Client(transport=transport)
    ) as client:
        hello: Any = [{"role": "user", "content": "hi"}]
        create = client.chat.completions.create if package == "openai" else client.messages.create
        with pytest.raises(getattr(sdk, name)):
            create(model="m", max_tokens=1, messages=hello)


@pytest.mark.parametrize("spoken", [CHAT, CLAUDE])
@pytest.mark.parametrize(
    ("status", "body", "wish", "kind", "again"),
    [
        (503, b"", "false", Transient, False),
        (503, b"", "true", Transient, True),
        (503, b"", "maybe", Transient, True),
        (400, b"", "true", Transient, True),
        (400, b"", "false", Refused, None),
        (400, error(code="context_length_exceeded"), "true", Refused, None),
        (400, error(code="content_filter"), " TRUE ", Refused, None),
    ],
)
def test_the_vendors_own_word_on_trying_again_counts(
    spoken: Any, status: int, body: bytes, wish: str, kind: type, again: bool | None
) -> None:
    failed = spoken.decode_error(status, {"x-should-retry": wish}, body)
    assert type(failed) is kind
    assert getattr(failed, "retry_here", None) is again
    assert getattr(pickle.loads(pickle.dumps(failed)), "retry_here", None) is again


def test_a_key_is_given_as_the_hint_says() -> None:
    from evalkit.cli import doctor
    from evalkit.commands.run import run
    from guardrails.config import HttpOptions

    assert "key_env" in HttpOptions.model_fields
    for command in (run, doctor):
        assert "key_env" in inspect.signature(command).parameters
