"""From a composed answer, or a fault, to the bytes of an HTTP reply and the way they come to an end. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Literal

import orjson

from guardrails.call import Request
from guardrails.dialects import Dialect
from guardrails.errors import EndpointError, Interrupted, Refused, Transient
from guardrails.testing.compose import Composed
from guardrails.testing.faults import NONE, Fault

Ending = Literal["done", "reset", "stall"]

_HTML = b"<!DOCTYPE html>\n<html><head><title>Welcome</title></head><body><h1>It works!</h1></body></html>\n"
_STREAM_TYPE = "text/event-stream; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP reply. `ticks` are written one per token, in time; then it ends as `ending` says.

    `stream` replies are chunked, others declare their length (the sum of `ticks`). `headless` replies send
    not even a status line. `drip_ms` is the pause after every single byte.
    """

    status: int
    ticks: tuple[bytes, ...] = field(default=(), repr=False)
    stream: bool = False
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    ending: Ending = "done"
    headless: bool = False
    declared: int | None = None
    drip_ms: float = 0.0

    def head(self, extra: Mapping[str, str]) -> bytes:
        """Status line and headers."""
        length = sum(map(len, self.ticks)) if self.declared is None else self.declared
        framing = "transfer-encoding: chunked" if self.stream else f"content-length: {length}"
        lines = [
            f"HTTP/1.1 {self.status} {_phrase(self.status)}",
            f"content-type: {self.content_type}",
            framing,
            *(f"{name}: {value}" for name, value in {**extra, **self.headers}.items()),
        ]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def body(self) -> bytes:
        """All ticks as they go over the wire, with the terminator if this reply is chunked and ends well."""
        data = b"".join(self.ticks)
        if not self.stream:
            return data
        return chunk(data) + (b"0\r\n\r\n" if self.ending == "done" else b"")


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body; nothing for nothing, since an empty chunk would end the body."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Overloaded" if status == 529 else "Unknown"


def error_reply(
    dialect: Dialect, status: int, kind: str, message: str, *, retry_after: float | None = None
) -> Reply:
    """An HTTP error in the vendor's words."""
    error: EndpointError
    if status in (408, 409, 429) or status >= 500:
        error = Transient(message, kind=kind, status=status, retry_after=retry_after)
    else:
        error = Refused(message, kind=kind, status=status)
    _, headers, body = dialect.encode_error(error)
    rest = {k: v for k, v in headers.items() if k not in ("content-type", "content-length")}
    return Reply(status, (body,), headers=rest)


@dataclass(frozen=True, slots=True)
class Writer:
    """Writes one answer in one dialect."""

    dialect: Dialect
    request: Request
    response_id: str
    created: int
    model: str

    def reply(self, answer: Composed, fault: Fault = NONE) -> Reply:
        """The answer, with the fault in it if there is one."""
        if (early := self._instead(fault)) is not None:
            return early
        made = self._stream(answer, fault) if self.request.stream else self._whole(answer, fault)
        if fault.name == "wrong_type":
            return replace(made, content_type="text/plain; charset=utf-8")
        if fault.name == "drip":
            return replace(made, drip_ms=fault.value)
        return made

    def _instead(self, fault: Fault) -> Reply | None:
        """The reply of a fault that leaves no answer at all."""
        streamed = self.request.stream
        kind = _STREAM_TYPE if streamed else "application/json"
        match fault.name:
            case "reset":
                return Reply(200, headless=True, ending="reset")
            case "stall_headers":
                return Reply(200, headless=True, ending="stall")
            case "stall_first":
                return Reply(200, stream=streamed, content_type=kind, ending="stall", declared=1)
            case "html":
                return Reply(200, (_HTML,), content_type="text/html; charset=utf-8")
            case "empty":
                return Reply(200, content_type=kind)
            case "rate_limit":
                return self._error(429, "rate_limited", retry_after=fault.value)
            case "rate_limit_bare":
                return self._error(429, "rate_limited")
            case "status":
                return self._error(int(fault.value), "server_error")
            case "sse_error" if not streamed:
                return self._error(500, "server_error")
        return None

    def _error(self, status: int, kind: str, *, retry_after: float | None = None) -> Reply:
        message = f"simulated fault: {status} {_phrase(status)}"
        return error_reply(self.dialect, status, kind, message, retry_after=retry_after)

    def _stream(self, answer: Composed, fault: Fault) -> Reply:
        encoder = self.dialect.encoder(
            self.request, response_id=self.response_id, created=self.created, model=self.model
        )
        feed = encoder.feed
        stop = fault.tokens if fault.name == "sse_error" else len(answer.steps)
        ticks = [b"".join([feed(event) for event in step]) for step in answer.steps[:stop]]
        if fault.name == "sse_error":
            error = Interrupted("simulated fault: error in the stream", kind="server_error")
            return self._sse([*ticks, encoder.fail(error)])
        tail = b"".join([feed(event) for event in answer.end]) + encoder.close()
        at = min(fault.tokens, len(ticks))
        match fault.name:
            case "reset_after":
                return self._sse(ticks[:at], "reset")
            case "stall_after":
                return self._sse(ticks[:at], "stall")
            case "eof_after":
                return self._sse(ticks[:at])
            case "oversized_line":
                return self._sse([*ticks[:1], b"data: " + _filler(fault) + b"\n\n", *ticks[1:], tail])
            case "malformed" | "invalid_utf8":
                ticks.append(tail)
                ticks[at] = _broken(ticks[at], fault)
                return self._sse(ticks)
        if ticks:  # the end comes together with the last token, as a model knows it then
            ticks[-1] += tail
            return self._sse(ticks)
        return self._sse([tail])

    def _sse(self, ticks: list[bytes], ending: Ending = "done") -> Reply:
        return Reply(200, tuple(ticks), stream=True, content_type=_STREAM_TYPE, ending=ending)

    def _whole(self, answer: Composed, fault: Fault) -> Reply:
        body = orjson.dumps(
            self.dialect.encode_response(
                answer.events(),
                self.request,
                response_id=self.response_id,
                created=self.created,
                model=self.model,
            )
        )
        waits = (b"",) * (len(answer.steps) - 1)
        half = body[: len(body) // 2]
        match fault.name:
            case "reset_after":
                return Reply(200, (*waits, half), ending="reset", declared=len(body))
            case "stall_after":
                return Reply(200, (*waits, half), ending="stall", declared=len(body))
            case "eof_after" | "malformed":
                return Reply(200, (*waits, half))
            case "invalid_utf8":
                return Reply(200, (*waits, _broken(body, fault)))
            case "oversized_line":
                return Reply(200, (*waits, b'{"padding":"' + _filler(fault) + b'",' + body[1:]))
        return Reply(200, (*waits, body))


def _filler(fault: Fault) -> bytes:
    return b"x" * int(fault.value * 1_000_000)


def _broken(data: bytes, fault: Fault) -> bytes:
    """The same bytes with their last JSON object unclosed, or with bytes that are no UTF-8 in a string."""
    if fault.name == "invalid_utf8":
        head, quote, rest = data.rpartition(b'"')
        return head + b"\xff\xfe" + quote + rest
    head, _, rest = data.rpartition(b"}")
    return head + rest
