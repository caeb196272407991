"""A streamed answer: chunks to events, and events to chunks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from guardrails.call import Delta, Event, Finish, Json, Opaque, Origin, Reset
from guardrails.dialects.openai_chat.answers import NAME, events_of, index_of, plain_delta
from guardrails.dialects.openai_chat.failures import error_body
from guardrails.dialects.openai_chat.writing import delta_of, rewrite, usage_to
from guardrails.dialects.reading import StreamReader
from guardrails.dialects.wire import read_object, untranslatable, write
from guardrails.errors import GuardrailsError


class Decoder(StreamReader):
    """Reads the chunks of one answer."""

    leniency_name = "missing_done"
    terminal = "[DONE]"

    def __init__(self, leniency: frozenset[str]) -> None:
        super().__init__(leniency)
        self._running: dict[int, bool] = {}
        """Per choice seen: whether it still runs, that is, has no finish reason yet."""

    def read(self, name: bytes, data: bytes, events: list[Event]) -> None:
        """Append the events of one frame."""
        if data[:1] != b"{":
            plain = data.strip()
            if plain == b"[DONE]":
                self.done = True
            if plain in (b"", b"[DONE]"):
                return
        chunk = read_object(data)
        delta = None if name or self.model is None else plain_delta(chunk)
        if delta is not None:
            if delta.choice not in self._running:
                self._running[delta.choice] = True
            events.append(delta)
        else:
            self._read_chunk(name, chunk, events)

    def _read_chunk(self, name: bytes, chunk: dict[str, Any], events: list[Event]) -> None:
        if chunk.get("error") or name == b"error":
            raise self.vendor_error(chunk.get("error") or chunk, events)
        if self.model is None:
            self._read_envelope(chunk)
        choices = chunk.get("choices")
        if type(choices) is list:
            for position, choice in enumerate(choices):
                if type(choice) is dict:
                    # What has ended stays so: OpenRouter's usage comes with one more choice, without reason.
                    number = index_of(choice, position)
                    running = self._running.get(number, True)
                    self._running[number] = running and not choice.get("finish_reason")
        # vLLM can report a running count with every chunk. The one that counts comes with or after the end.
        final = not choices or not any(self._running.values())
        events += events_of(chunk, "delta", final_usage=final)

    def _read_envelope(self, chunk: dict[str, object]) -> None:
        model, known_id = chunk.get("model"), chunk.get("id")
        self.model = model if isinstance(model, str) and model else None
        if self.response_id is None and isinstance(known_id, str) and known_id:
            self.response_id = known_id

    def finished(self) -> bool:
        """Whether every choice that was seen has a finish reason."""
        return bool(self._running) and not any(self._running.values())


class Encoder:
    """Writes the chunks of one answer.

    Events that still form the whole chunk they were read from are written as that chunk, with the texts they
    hold now. All others get chunks of their own, in the envelope of the first chunk seen.
    """

    def __init__(self, *, response_id: str, created: int, model: str, usage: bool = True) -> None:
        self._envelope: dict[str, Any] | None = None
        self._default = {"id": response_id, "created": created, "model": model}
        self._usage = usage
        self._group: list[Event] = []
        self._written: Origin | None = None
        self._begun: set[int] = set()

    def feed(self, event: Event) -> bytes:
        """What this event adds to the stream, possibly nothing yet."""
        origin = event.origin
        if origin is None or origin.dialect != NAME or origin is self._written:
            return self._flush() + self._fresh(event)
        flushed = b""
        if self._group and self._group[0].origin is not origin:
            flushed = self._flush()
        if self._envelope is None:
            self._envelope = {key: origin.raw.get(key, value) for key, value in self._default.items()}
        self._group.append(event)
        if len(self._group) < origin.parts:
            return flushed
        group, self._group, self._written = self._group, [], origin
        raw = rewrite(origin.raw, group, "delta")
        if raw is None:
            return flushed + b"".join(map(self._fresh, group))
        return flushed + self._again(raw, group)

    def _again(self, raw: Json, group: list[Event]) -> bytes:
        choices = raw.get("choices") or ()
        if not choices and raw.get("usage") and not self._usage:
            # The caller did not ask for it, and many read `choices[0]` of every chunk.
            return b""
        if len(group) == 1 and _is_void(group[0], choices):
            return b""
        self._begun.update(index_of(choice, place) for place, choice in enumerate(choices))
        return _frame(raw)

    def _flush(self) -> bytes:
        """The events of a chunk of which some are missing."""
        if not self._group:
            return b""
        group, self._group = self._group, []
        self._written = group[0].origin
        return b"".join(map(self._fresh, group))

    def _fresh(self, event: Event) -> bytes:
        """The chunks that say an event without its origin."""
        if type(event) is Opaque:
            return self._opaque(event)
        if type(event) is Reset:
            raise untranslatable("an answer that starts again", NAME)
        if type(event) is Delta:
            if not event.text and event.tool is None:
                return b""
            # Of a chunk that came apart we do not know whether its log probabilities still fit the text.
            logprobs = None if event.origin is not None else event.logprobs
            choice = {"delta": delta_of(event), "logprobs": logprobs, "finish_reason": None}
            return _frame(self._chunk([{"index": event.choice, **self._role(event.choice, choice)}]))
        assert isinstance(event, Finish)
        written = b""
        if event.reason is not None:
            choice = {"index": event.choice, "delta": {}, "logprobs": None, "finish_reason": event.reason}
            written = _frame(self._chunk([choice]))
        if event.usage is not None and self._usage:
            written += _frame({**self._chunk([]), "usage": usage_to(event.usage)})
        return written

    def _role(self, number: int, choice: dict[str, Any]) -> dict[str, Any]:
        if number not in self._begun:
            self._begun.add(number)
            choice["delta"] = {"role": "assistant", **choice["delta"]}
        return choice

    def _opaque(self, event: Opaque) -> bytes:
        if event.dialect != NAME:
            if event.structural:
                return b""
            raise untranslatable(f"an event of {event.dialect or 'no dialect'}", NAME)
        if not isinstance(event.raw, Mapping):
            return b""
        alone = event.raw.keys() == {"choices"} and event.raw["choices"]
        return _frame(self._chunk(event.raw["choices"]) if alone else event.raw)

    def _chunk(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        envelope = self._envelope or self._default
        return {"object": "chat.completion.chunk", **envelope, "choices": choices}

    def close(self) -> bytes:
        """The terminal bytes."""
        return self._flush() + b"data: [DONE]\n\n"

    def fail(self, error: GuardrailsError) -> bytes:
        """An error after the stream began."""
        return self._flush() + _frame(error_body(error))


def _is_void(event: Event, choices: Any) -> bool:
    """Whether a filter left nothing of a chunk that was one piece of text."""
    if type(event) is not Delta or event.text or event.tool is not None:
        return False
    return not any((choice.get("delta") or {}).get("role") for choice in choices)


def _frame(chunk: Json) -> bytes:
    return b"data: " + write(chunk) + b"\n\n"
