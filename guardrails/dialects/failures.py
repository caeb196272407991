"""What an endpoint's failure means for the caller: may it be tried again, or never?

A vendor says it in up to four ways: the HTTP status, a `type`, a `code`, and a sentence. The words decide
where they are known, the status decides otherwise. The sentence may quote the prompt, so it is looked into
for two well-known phrases and never repeated; `code`, `type` and `param` are repeated when they look like
words.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

import orjson

from guardrails.errors import (
    ASK_AGAIN,
    Blocked,
    BudgetExceeded,
    DeadlineExceeded,
    EndpointError,
    GuardrailsError,
    Interrupted,
    Refused,
    Rejected,
    Shed,
    Transient,
)

_WORD = re.compile(r"[A-Za-z0-9_.\-\[\]]{1,64}")

_TRANSIENT_STATUS = {
    408: "timeout",
    409: "conflict",
    425: "too_early",
    429: "rate_limited",
    500: "server_error",
    502: "bad_gateway",
    503: "unavailable",
    504: "timeout",
    529: "overloaded",
}
_REFUSED_STATUS = {
    400: "bad_request",
    401: "auth",
    402: "quota",
    403: "forbidden",
    404: "not_found",
    405: "not_found",
    501: "not_inference",  # what a plain web server says to a POST
    413: "too_large",
    422: "bad_request",
}
_TRANSIENT_WORDS = {
    "api_error": "server_error",
    "internal_error": "server_error",
    "internal_server_error": "server_error",
    "internalservererror": "server_error",
    "overloaded": "overloaded",
    "overloaded_error": "overloaded",
    "rate_limit_error": "rate_limited",
    "rate_limit_exceeded": "rate_limited",
    "server_error": "server_error",
    "server_overloaded": "overloaded",
    "service_unavailable": "unavailable",
    "timeout_error": "timeout",
}
_REFUSED_WORDS = {
    "authentication_error": "auth",
    "billing_error": "quota",
    "content_filter": "content_policy",
    "content_policy_violation": "content_policy",
    "context_length_exceeded": "context_length",
    "insufficient_quota": "quota",
    "invalid_api_key": "auth",
    "model_not_found": "not_found",
    "not_found_error": "not_found",
    "permission_error": "forbidden",
    "request_too_large": "too_large",
    "responsibleaipolicyviolation": "content_policy",
    "string_above_max_length": "context_length",
}
# Words that only say what the status says better.
_VAGUE_WORDS = {
    "bad_request": "bad_request",
    "badrequesterror": "bad_request",
    "invalid_request_error": "bad_request",
}
_LENGTH_PHRASES = ("maximum context length", "prompt is too long", "context window")

_HINTS = {
    "auth": "name an environment variable that holds a valid key for this endpoint: `key_env: NAME` in YAML, "
    "--key-env NAME on the command line, key_env= in Python",
    "bad_request": "the endpoint does not take this request: compare it with the endpoint's documentation",
    "content_policy": "the endpoint's own filter said no: change the prompt",
    "context_length": "shorten the prompt, lower max_tokens, or route to a model with a longer context",
    "forbidden": "the key is valid but may not do this: check the project, the region and the model's terms",
    "not_found": "check the model's name, and the base URL (did you forget /v1?)",
    "not_inference": "check the base URL: no inference server listens there (did you forget /v1?)",
    "quota": "the account has no credit left: add some, or route elsewhere; waiting will not help",
    "redirect": "the endpoint moved: put its new address into the base URL",
    "too_large": "make the request smaller: fewer or smaller images, a shorter prompt",
}
_ELSEWHERE = ASK_AGAIN + "another of `routes` takes over"
_TRANSIENT_HINTS = {
    "rate_limited": f"`rate_limit` keeps below its limits, {_ELSEWHERE}",
    "overloaded": f"`admit` sends it fewer calls at once, {_ELSEWHERE}",
    "unavailable": f"`admit` sends it fewer calls at once, {_ELSEWHERE}",
}
_TOO_LATE_HINT = (
    "after the first token nothing is tried again; `holdback` hides a failure among the first tokens, "
    "`restart` starts again on another of `routes`"
)
_NOT_INFERENCE = "this does not look like an inference endpoint: check the base URL (did you forget /v1?)"


class Said(NamedTuple):
    """What an error body says, as far as it can be repeated."""

    words: tuple[str, ...] = ()
    """`code`, `type` and `param`, in this order, those that are words."""
    status: int | None = None
    """A status that the body itself names, as vLLM's and OpenRouter's do."""
    too_long: bool = False
    """Whether the sentence is one of those about the context's length."""


def said(error: Any) -> Said:
    """Read the `error` value of a vendor's body, whatever its shape."""
    if not isinstance(error, dict):
        return Said(too_long=_about_length(error))
    code = error.get("code")
    status = code if type(code) is int else None
    if status is None and isinstance(code, str) and code.isascii() and code.isdigit() and len(code) == 3:
        status = int(code)
    values = (error.get(key) for key in ("code", "type", "param"))
    words = tuple(value for value in values if isinstance(value, str) and _WORD.fullmatch(value))
    return Said(
        words,
        status if status is not None and 400 <= status < 600 else None,
        _about_length(error.get("message")),
    )


def _about_length(message: Any) -> bool:
    return isinstance(message, str) and any(phrase in message[:4096].lower() for phrase in _LENGTH_PHRASES)


def failure(
    what: Said, *, status: int | None = None, retry_after: float | None = None, place: str = ""
) -> Transient | Refused:
    """The error for what an endpoint said before any answer. `place` is where, such as ` in its stream`."""
    code = status if status is not None else what.status
    words = f" ({', '.join(dict.fromkeys(what.words))})" if what.words else ""
    kind, transient = _judge(what, code)
    number = f" {code}" if code is not None else " an error"
    message = f"the endpoint answered{number}{place}: {kind}{words}"
    if transient:
        wish = f", and asked to wait {retry_after:g} s" if retry_after is not None else ""
        hint = _TRANSIENT_HINTS.get(kind, _ELSEWHERE)
        return Transient(message + wish, kind=kind, status=code, hint=hint, retry_after=retry_after)
    return Refused(message, kind=kind, status=code, hint=_HINTS.get(kind, ""))


def _judge(what: Said, status: int | None) -> tuple[str, bool]:
    """(kind, whether it may be tried again)."""
    lowered = [word.lower() for word in what.words]
    for word in lowered:
        if word in _REFUSED_WORDS:
            return _REFUSED_WORDS[word], False
    if what.too_long and (status is None or status in (400, 413, 422)):
        return "context_length", False
    if status is None or status >= 500 or status == 429:
        for word in lowered:
            if word in _TRANSIENT_WORDS:
                return _TRANSIENT_WORDS[word], True
    if status is None:
        vague = next((_VAGUE_WORDS[word] for word in lowered if word in _VAGUE_WORDS), None)
        # An error of no known word in the middle of a stream is the server's trouble more often than ours.
        return (vague, False) if vague else ("server_error", True)
    if status in _TRANSIENT_STATUS:
        return _TRANSIENT_STATUS[status], True
    if status in _REFUSED_STATUS:
        return _REFUSED_STATUS[status], False
    if status >= 500:
        return "server_error", True
    if status < 400:
        return "redirect" if status >= 300 else "bad_answer", False
    return "bad_request", False


def http_failure(status: int, headers: Mapping[str, str], body: bytes) -> EndpointError:
    """A failed HTTP answer of either vendor as one of our errors; `headers` have lower-case names."""
    try:
        parsed = orjson.loads(body) if body else None
    except (ValueError, RecursionError):
        parsed = None
    if isinstance(parsed, list) and parsed:
        parsed = parsed[0]  # Google's OpenAI-like endpoint wraps the error in a list
    error = parsed.get("error", parsed) if isinstance(parsed, dict) else None
    failed = failure_of(status, headers, error)
    if status < 500 and looks_like_html(body):
        failed.hint = _NOT_INFERENCE
    return failed


def failure_of(status: int, headers: Mapping[str, str], error: Any) -> Transient | Refused:
    """The same from a body's `error` value, if there was one."""
    return _as_told(failure(said(error), status=status, retry_after=retry_after(headers)), headers)


_FINAL = frozenset({"context_length", "content_policy"})


def _as_told(error: Transient | Refused, headers: Mapping[str, str]) -> Transient | Refused:
    """The error, as `x-should-retry` has it: the vendors' own word on whether to try again.

    A prompt that is too long or against a policy stays refused: the same request would fare the same.
    """
    wish = headers.get("x-should-retry", "").strip().lower()
    if wish == "true" and isinstance(error, Refused) and error.kind not in _FINAL:
        return Transient(
            error.message,
            kind=error.kind,
            hint=error.hint,
            status=error.status,
            retry_after=retry_after(headers),
        )
    if wish == "false" and isinstance(error, Transient):
        error.retry_here = False
    return error


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the endpoint wants us to wait, or None.

    Read from `retry-after-ms`, then `retry-after` in seconds, then `retry-after` as an HTTP date. A date
    counts from the answer's own `date` header, so that a wrong clock on either side does not matter; without
    that header a date says nothing.
    """
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) * unit
        except ValueError:
            continue
        if math.isfinite(seconds) and seconds >= 0:
            return seconds
    then, now = _date(headers.get("retry-after", "")), _date(headers.get("date", ""))
    return max(0.0, (then - now).total_seconds()) if then and now else None


def _date(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def looks_like_html(body: bytes) -> bool:
    """Whether a body is a web page (or XML) and no answer."""
    return body[:64].removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<")


def not_inference() -> Refused:
    """The error for an answer that is no stream at all."""
    return Refused(
        "the endpoint answered with something that is no event stream",
        kind="not_inference",
        hint=_NOT_INFERENCE,
    )


def interrupted(error: Transient | Refused) -> Interrupted:
    """The same failure after the answer began: too late for another try."""
    hint = _TOO_LATE_HINT if isinstance(error, Transient) else error.hint
    return Interrupted(error.message, kind=error.kind, hint=hint, status=error.status)


def http_status(error: GuardrailsError) -> int:
    """The status under which one of our errors is served."""
    if isinstance(error, Rejected):
        if isinstance(error, Shed | BudgetExceeded):
            return 429
        if isinstance(error, DeadlineExceeded):
            return 504
        return 400 if isinstance(error, Blocked) else 403
    if isinstance(error, EndpointError):
        if error.status is not None and 400 <= error.status < 600:
            return error.status
        if isinstance(error, Transient):
            return 503
        return 400 if isinstance(error, Refused) else 502
    return 500


def http_headers(error: GuardrailsError) -> dict[str, str]:
    """The headers under which one of our errors is served.

    `x-should-retry: false` stops the official SDKs, which would try again outside of our limits.
    """
    headers = {"content-type": "application/json"}
    if isinstance(error, Rejected) or not isinstance(error, EndpointError):
        headers["x-should-retry"] = "false"
    wait = error.retry_after if isinstance(error, Rejected | Transient) else None
    if wait is not None and math.isfinite(wait) and wait >= 0:
        headers["retry-after"] = str(math.ceil(wait))
        headers["retry-after-ms"] = str(math.ceil(wait * 1000))
    return headers


def code_of(error: GuardrailsError) -> str:
    """The machine-readable word for an error: the vendors' word for a blocked prompt, else our kind."""
    return "content_filter" if isinstance(error, Blocked) else error.kind
