"""What reading a stream costs per chunk, beside parsing the same JSON and nothing else.

    python tests/bench/dialect_decode.py

Prints the best of many rounds in microseconds per chunk, for both dialects, with one event per read and with
ten. The parser alone runs in the same round, so that a busy machine slows both.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import orjson

from guardrails.call import Event, Request
from guardrails.dialects import NAMES, dialect

CHUNKS = 1000
ROUNDS = 30


def chat() -> list[bytes]:
    """Chunks as OpenAI sends them."""

    def chunk(delta: dict[str, Any], reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        head = {"id": "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT", "object": "chat.completion.chunk"}
        tail = {"service_tier": "default", "system_fingerprint": "fp_44added55e", "usage": None}
        body = {**head, "created": 1741569952, "model": "gpt-4o-mini-2024-07-18", **tail, "choices": [choice]}
        return b"data: " + orjson.dumps(body) + b"\n\n"

    texts = [chunk({"content": f" token{number}"}) for number in range(CHUNKS)]
    return [chunk({"role": "assistant", "content": ""}), *texts, chunk({}, "stop"), b"data: [DONE]\n\n"]


def claude() -> list[bytes]:
    """Events as Anthropic sends them."""

    def event(raw: dict[str, Any]) -> bytes:
        return b"event: " + raw["type"].encode() + b"\ndata: " + orjson.dumps(raw) + b"\n\n"

    texts = [{"type": "text_delta", "text": f" token{number}"} for number in range(CHUNKS)]
    return [
        event(
            {
                "type": "message_start",
                "message": {"id": "msg_1", "model": "claude", "usage": {"input_tokens": 9}},
            }
        ),
        event({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        *(event({"type": "content_block_delta", "index": 0, "delta": delta}) for delta in texts),
        event({"type": "content_block_stop", "index": 0}),
        event({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 9}}),
        event({"type": "message_stop"}),
    ]


def best(run: Callable[[], object], times: dict[str, float], name: str) -> None:
    """Keep the best time of `run`, in microseconds per chunk."""
    start = time.perf_counter()
    run()
    times[name] = min(times.get(name, 1e9), (time.perf_counter() - start) / CHUNKS * 1e6)


def main() -> None:
    """Print the table."""
    for name, pieces in zip(NAMES, (chat(), claude()), strict=True):
        spoken = dialect(name)
        payloads = [piece.split(b"data: ")[1] for piece in pieces if b"[DONE]" not in piece]
        tens = [b"".join(pieces[start : start + 10]) for start in range(0, len(pieces), 10)]

        def decode(reads: list[bytes]) -> list[Event]:
            decoder = spoken.decoder()  # noqa: B023 - called within this turn of the loop
            return [event for data in reads for event in decoder.feed(data)] + decoder.close()

        def encode(events: list[Event]) -> None:
            encoder = spoken.encoder(Request.of("x"), response_id="r", created=1)  # noqa: B023 - same
            for event in events:
                encoder.feed(event)

        events, times = decode(pieces), dict[str, float]()
        for _ in range(ROUNDS):
            best(lambda: [orjson.loads(data) for data in payloads], times, "orjson.loads alone")  # noqa: B023 - same
            best(lambda: decode(pieces), times, "decode, one event per read")  # noqa: B023 - same
            best(lambda: decode(tens), times, "decode, ten events per read")  # noqa: B023 - same
            best(lambda: encode(events), times, "encode, untouched")  # noqa: B023 - same
        for what, cost in times.items():
            print(f"{name:12} {what:30} {cost:6.2f} µs per chunk")


if __name__ == "__main__":
    main()
