"""The part of reading a stream that is the same for every dialect: frames, JSON, failures, the end.

A failure never overtakes what came before it: when one piece of bytes holds two events and then an error, the
events are returned, `done` turns true, and `close()` (or the next `feed()`) raises. So what a reader sees
does not depend on how the network cut the stream.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from guardrails.call import Event, Opaque
from guardrails.dialects.failures import failure, interrupted, looks_like_html, not_inference, said
from guardrails.dialects.sse import EventStream, Frame
from guardrails.dialects.wire import Unreadable, malformed, read_object
from guardrails.errors import EndpointError, Interrupted, Refused, Truncated

_SSE_STARTS = (b"data", b"event", b"id", b"retry", b":")


class StreamReader(ABC):
    """A `Decoder` but for its dialect's own events."""

    leniency_name: str
    """The leniency under which `may_end` is asked."""
    terminal: str
    """What the dialect calls its last event, for messages."""

    def __init__(self, leniency: frozenset[str]) -> None:
        self.model: str | None = None
        self.response_id: str | None = None
        self.done = False
        """The terminal event was read or the stream failed: read no further, call `close()`."""
        self._leniency = leniency
        self._sse = EventStream()
        self._frames = 0
        self._answered = False
        self._failure: EndpointError | None = None

    @abstractmethod
    def read(self, name: bytes, data: bytes, events: list[Event]) -> None:
        """Append the events of one frame. Raises `Unreadable` or `EndpointError`; sets `done`."""

    @abstractmethod
    def finished(self) -> bool:
        """Whether every answer that began has said how it ended."""

    def feed(self, data: bytes) -> list[Event]:
        """Events completed by `data`."""
        if self.done:
            return self._fail_or([])
        events: list[Event] = []
        self._read_all(self._sse.feed(data), events)
        if not self.done:
            if self._sse.oversized:
                self._stop(Interrupted("the endpoint sent an event beyond all bounds", kind="oversized"))
            elif not self._frames and looks_like_html(self._sse.head):
                self._stop(not_inference())
        return events or self._fail_or(events)

    def close(self) -> list[Event]:
        """The bytes have ended."""
        events: list[Event] = []
        if not self.done:
            rest = self._sse.rest
            last = self._sse.close()
            # A last event without its blank line counts if it is whole: cut JSON is never valid JSON.
            whole = last is not None and self._is_whole(last[1])
            if last is not None and whole:
                self._read_all([last], events)
            if not self.done:
                self._end(rest, cut=last is not None and not whole)
        if self._failure is not None and events:
            # Nobody will ask again after this, so here the failure goes first.
            raise self._failure
        return self._fail_or(events)

    def _is_whole(self, data: bytes) -> bool:
        if data.strip() in (b"", b"[DONE]"):
            return True
        try:
            read_object(data)
        except Unreadable:
            return False
        return True

    def _read_all(self, frames: list[Frame], events: list[Event]) -> None:
        read = self.read
        try:
            for name, data in frames:
                self._frames += 1
                read(name, data, events)
                if self.done:
                    break
        except Unreadable as reason:
            expected = str(reason)
            place = f"as event {self._frames}, within the first {self._sse.received} bytes of the stream"
            self._stop(malformed(expected, place))
        except EndpointError as error:
            self._stop(error)
        if not self._answered and any(type(event) is not Opaque for event in events):
            self._answered = True

    def vendor_error(self, error: Any, events: list[Event]) -> EndpointError:
        """The error for a failure told inside the stream; `events` are those of this feed so far."""
        failed = failure(said(error), place=" inside its stream")
        began = self._answered or any(type(event) is not Opaque for event in events)
        return interrupted(failed) if began else failed

    def _stop(self, error: EndpointError) -> None:
        self._failure = error
        self.done = True

    def _fail_or(self, events: list[Event]) -> list[Event]:
        if self._failure is not None and not events:
            raise self._failure
        return events

    def _end(self, rest: bytes, *, cut: bool) -> None:
        """The bytes ended without the terminal event: say how bad that is."""
        head = self._sse.head.lstrip(b"\xef\xbb\xbf \t\r\n")
        if not self._frames and head and not head.startswith(_SSE_STARTS):
            self._stop(self._whole_body_error(rest))
        elif not self._frames:
            what = "the endpoint answered 200 and then nothing: the stream ended before its first event"
            self._stop(
                Truncated(what, hint="look into the endpoint's own log: it broke off without an error")
            )
        elif cut:
            self._stop(Truncated("the stream was cut in the middle of an event: the answer is incomplete"))
        elif not (self.finished() and self.leniency_name in self._leniency):
            self._stop(self._unfinished())

    def _whole_body_error(self, rest: bytes) -> EndpointError:
        try:
            body = read_object(rest)
        except Unreadable:
            return not_inference()
        if body.get("error"):
            return self.vendor_error(body["error"], [])
        return Refused(
            "a stream was asked for, and the endpoint answered with one whole JSON body",
            kind="not_inference",
            hint="send stream=false to this endpoint, or check the base URL (did you forget /v1?)",
        )

    def _unfinished(self) -> Truncated:
        if self.finished():
            return Truncated(
                f"the stream ended without {self.terminal}, although the answer said how it finished",
                hint=f"if this endpoint always ends so, allow the leniency {self.leniency_name!r}",
            )
        return Truncated(
            f"the stream ended without {self.terminal} and without a finish reason: the answer is incomplete",
            hint=f"the leniency {self.leniency_name!r} would not help: it only accepts finished answers",
        )
