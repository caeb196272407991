"""A streamed answer: chunks to events, and events to chunks."""

from __future__ import annotations

from guardrails.call import Event
from guardrails.dialects.openai_chat.answers import events_of, index_of
from guardrails.dialects.reading import StreamReader
from guardrails.dialects.wire import read_object


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
                return
            if not plain:
                return
        chunk = read_object(data)
        if chunk.get("error") or name == b"error":
            raise self.vendor_error(chunk.get("error") or chunk, events)
        if self.model is None:
            self._read_envelope(chunk)
        choices = chunk.get("choices")
        if type(choices) is list:
            for position, choice in enumerate(choices):
                if type(choice) is dict:
                    self._running[index_of(choice, position)] = not choice.get("finish_reason")
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
