"""A streamed answer of the Messages API: blocks that start, grow and stop, one after another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from guardrails.call import Delta, Event, Finish, Json, Opaque, Origin, Reset, ToolHead, Usage
from guardrails.dialects.anthropic.answers import reason_of, reason_to, usage_of, usage_to
from guardrails.dialects.anthropic.failures import error_body
from guardrails.dialects.anthropic.requests import NAME
from guardrails.dialects.reading import StreamReader
from guardrails.dialects.wire import Unreadable, read_object, untranslatable, write
from guardrails.errors import GuardrailsError

_DELTAS = {
    "text_delta": ("text", "text"),
    "thinking_delta": ("thinking", "reasoning"),
    "input_json_delta": ("partial_json", "tool"),
}
_CHANNELS = {"text": "text", "thinking": "reasoning"}
"""The channel of a block, by its kind; its text is under the name of its kind."""
_STRUCTURE = frozenset({"message_start", "content_block_stop", "ping"})


class Decoder(StreamReader):
    """Reads the events of one answer."""

    leniency_name = "missing_stop"
    terminal = "message_stop"

    def __init__(self, leniency: frozenset[str]) -> None:
        super().__init__(leniency)
        self._usage: Any = None
        self._finished = False
        self._tools: dict[Any, str] = {}
        """The channel of every tool call, by the index of its block."""

    def finished(self) -> bool:
        """Whether the answer has said how it ended."""
        return self._finished

    def read(self, name: bytes, data: bytes, events: list[Event]) -> None:
        """Append the events of one frame."""
        if not data.strip():
            return
        raw = read_object(data)
        kind = raw.get("type")
        if kind == "error" or name == b"error":
            raise self.vendor_error(raw.get("error") or raw, events)
        if kind == "message_stop":
            self.done = True
            return
        origin = Origin(raw, NAME)
        if kind == "content_block_delta":
            events.append(self._delta(raw, origin))
        elif kind == "content_block_start":
            events.append(self._start(raw, origin))
        elif kind == "message_delta":
            events.append(self._finish(raw, origin))
        else:
            if kind == "message_start":
                self._read_envelope(raw.get("message"))
            events.append(Opaque(raw, NAME, _word(raw) in _STRUCTURE, origin))

    def _read_envelope(self, message: Any) -> None:
        if type(message) is not dict:
            raise Unreadable("`message` as an object")
        model, known_id = message.get("model"), message.get("id")
        self.model = model if type(model) is str and model else None
        self.response_id = known_id if type(known_id) is str and known_id else None
        self._usage = message.get("usage")

    def _delta(self, raw: dict[str, Any], origin: Origin) -> Event:
        delta = raw.get("delta")
        if type(delta) is not dict:
            raise Unreadable("`delta` as an object")
        key, channel = _DELTAS.get(_word(delta), ("", ""))
        if channel == "tool":
            channel = self._tools.get(_index(raw), "")
        text = delta.get(key)
        if not channel or type(text) is not str:
            return Opaque(raw, NAME, structural=False, origin=origin)
        # An empty piece is how a block of tool input begins: nobody loses anything by it.
        return Delta(text, channel, origin=origin) if text else Opaque(raw, NAME, origin=origin)

    def _start(self, raw: dict[str, Any], origin: Origin) -> Event:
        block = raw.get("content_block")
        if type(block) is not dict:
            raise Unreadable("`content_block` as an object")
        kind = _word(block)
        if kind == "tool_use" and type(block.get("id")) is str and type(block.get("name")) is str:
            channel = self._tools.setdefault(_index(raw), f"tool:{len(self._tools)}")
            return Delta("", channel, tool=ToolHead(block["id"], block["name"]), origin=origin)
        if kind in _CHANNELS:
            text = block.get(kind)
            if text and type(text) is str:
                return Delta(text, _CHANNELS[kind], origin=origin)
            return Opaque(raw, NAME, structural=not block.get("citations"), origin=origin)
        return Opaque(raw, NAME, structural=False, origin=origin)

    def _finish(self, raw: dict[str, Any], origin: Origin) -> Event:
        delta = raw.get("delta")
        reason = reason_of(delta.get("stop_reason")) if type(delta) is dict else None
        self._finished = self._finished or reason is not None
        return Finish(reason, usage_of(raw.get("usage"), self._usage), origin=origin)


def _word(raw: Json) -> str:
    kind = raw.get("type")
    return kind if type(kind) is str else ""


def _index(raw: Json) -> int | None:
    index = raw.get("index")
    return index if type(index) is int else None


class Encoder:
    """Writes the events of one answer.

    An event with its origin is written as it was, with the text that it holds now. An event without one, or
    one that comes when its block is not open any more, goes into a block that is opened for it; the numbers
    of the blocks that follow move up.
    """

    def __init__(self, *, response_id: str, model: str) -> None:
        self._response_id = response_id
        self._model = model
        self._started = False
        self._next = 0
        """The number that the next block gets."""
        self._open: tuple[int, str] | None = None
        """The block that is open, as (its number as written, its channel)."""
        self._numbers: dict[int | None, int] = {}
        """The number as read to the number as written."""
        self._tools: dict[int | None, str] = {}
        self._written: Origin | None = None
        self._held: tuple[str | None, Usage | None] | None = None
        """An ending that is not written yet: elsewhere, reason and usage may come apart."""

    def feed(self, event: Event) -> bytes:
        """What this event adds to the stream, possibly nothing yet."""
        if getattr(event, "choice", 0):
            raise untranslatable("a second choice", NAME)
        if isinstance(event, Reset):
            raise untranslatable("an answer that starts again", NAME)
        origin = event.origin
        own = None
        if origin is not None and origin.dialect == NAME and origin is not self._written:
            own = self._written = origin
        if isinstance(event, Delta):
            return self._delta(event, own)
        if isinstance(event, Finish):
            return self._finish(event, own)
        return self._opaque(event)

    # --- what each kind of event becomes

    def _opaque(self, event: Opaque) -> bytes:
        raw = event.raw
        if event.dialect != NAME or not isinstance(raw, Mapping):
            if event.structural:
                return b""
            raise untranslatable(f"an event of {event.dialect or 'no dialect'}", NAME)
        kind = raw.get("type")
        if kind == "message_start":
            if self._started:
                return b""
            self._started = True
            return _frame(raw)
        if kind == "content_block_start":
            block = raw.get("content_block")
            channel = _CHANNELS.get(_word(block), "") if isinstance(block, Mapping) else ""
            return self._begin() + self._start_as(raw, channel)
        if kind in ("content_block_delta", "content_block_stop"):
            if not self._is_open(raw):
                return b""
            written = _frame(self._numbered(raw))
            if kind == "content_block_stop":
                self._open = None
            return written
        return _frame(raw)

    def _delta(self, event: Delta, own: Origin | None) -> bytes:
        begun = self._begin()
        if own is not None and own.raw.get("type") == "content_block_start":
            return begun + self._start_of(event, own.raw)
        grows = own is not None and own.raw.get("type") == "content_block_delta" and event.tool is None
        if own is not None and grows and self._is_open(own.raw, event.channel):
            raw = own.raw
            key, _ = _DELTAS[_word(raw["delta"])]
            if raw["delta"][key] != event.text:
                if not event.text:
                    return begun
                # Other fields of the delta may say the old text in another way.
                raw = {**raw, "delta": {"type": raw["delta"]["type"], key: event.text}}
            return begun + _frame(self._numbered(raw))
        return begun + self._fresh(event)

    def _start_of(self, event: Delta, raw: Json) -> bytes:
        """The start of a block that is a `Delta`: a tool call, or a text that begins with its start."""
        block = raw["content_block"]
        if block["type"] == "tool_use":
            head = event.tool
            if head is None or event.text or (head.id, head.name) != (block["id"], block["name"]):
                return self._fresh(event)
        else:
            key = block["type"]
            if block[key] != event.text:
                raw = {**raw, "content_block": {"type": key, key: event.text}}
        return self._start_as(raw, event.channel)

    def _finish(self, event: Finish, own: Origin | None) -> bytes:
        begun = self._begin()
        if own is not None and own.raw.get("type") == "message_delta":
            delta = own.raw.get("delta")
            if event.reason == (reason_of(delta.get("stop_reason")) if type(delta) is dict else None):
                return begun + self._stop() + _frame(own.raw)
        reason, usage = self._held or (None, None)
        self._held = (event.reason or reason, event.usage or usage)
        return begun

    def _fresh(self, event: Delta) -> bytes:
        """An event in a block of our own, or in the open one if that fits."""
        if not event.text and event.tool is None:
            return b""
        kind, _, _ = event.channel.partition(":")
        if kind not in ("text", "reasoning", "tool"):
            raise untranslatable(f"the channel {kind!r}", NAME)
        written = b""
        if self._open is None or self._open[1] != event.channel:
            if kind == "tool" and event.tool is None:
                raise untranslatable("a tool call that has no name, or is not in one piece", NAME)
            written = self._stop() + self._start(_new_block(event), event.channel)
        assert self._open is not None
        if event.text:
            name = {"text": "text_delta", "reasoning": "thinking_delta", "tool": "input_json_delta"}[kind]
            delta = {"type": name, _DELTAS[name][0]: event.text}
            written += _frame({"type": "content_block_delta", "index": self._open[0], "delta": delta})
        return written

    # --- blocks

    def _start_as(self, raw: Json, channel: str) -> bytes:
        """A block as it was started, under the number that is next."""
        stopped = self._stop()
        self._numbers[_index(raw)] = self._next
        self._open = (self._next, channel)
        self._next += 1
        return stopped + _frame(self._numbered(raw))

    def _start(self, block: dict[str, Any], channel: str) -> bytes:
        self._open = (self._next, channel)
        self._next += 1
        return _frame({"type": "content_block_start", "index": self._open[0], "content_block": block})

    def _stop(self) -> bytes:
        if self._open is None:
            return b""
        number, self._open = self._open[0], None
        return _frame({"type": "content_block_stop", "index": number})

    def _is_open(self, raw: Json, channel: str | None = None) -> bool:
        if self._open is None or self._numbers.get(_index(raw)) != self._open[0]:
            return False
        return channel is None or channel == self._open[1]

    def _numbered(self, raw: Json) -> Json:
        number = self._numbers.get(_index(raw))
        return raw if number is None or number == raw.get("index") else {**raw, "index": number}

    # --- the frame around it all

    def _begin(self) -> bytes:
        if self._started:
            return b""
        self._started = True
        message: dict[str, Any] = {
            "id": self._response_id,
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": 0, "output_tokens": 0},
        }
        return _frame({"type": "message_start", "message": message})

    def close(self) -> bytes:
        """The terminal bytes."""
        written = self._begin() + self._stop()
        if self._held is not None:
            reason, usage = self._held
            delta = {"stop_reason": reason_to(reason), "stop_sequence": None}
            written += _frame({"type": "message_delta", "delta": delta, "usage": usage_to(usage)})
        return written + _frame({"type": "message_stop"})

    def fail(self, error: GuardrailsError) -> bytes:
        """An error after the stream began."""
        return _frame(error_body(error))


def _new_block(event: Delta) -> dict[str, Any]:
    if event.tool is not None:
        return {"type": "tool_use", "id": event.tool.id, "name": event.tool.name, "input": {}}
    if event.channel == "reasoning":
        return {"type": "thinking", "thinking": "", "signature": ""}
    return {"type": "text", "text": ""}


def _frame(raw: Json) -> bytes:
    kind = raw.get("type")
    named = isinstance(kind, str) and kind.isidentifier() and kind.isascii()
    return (f"event: {kind}\n".encode() if named else b"") + b"data: " + write(raw) + b"\n\n"
