"""Bytes to frames: the cases of the WHATWG rules, every split, and bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrails.dialects.sse import EventStream, Frame

CASES: list[tuple[bytes, list[Frame]]] = [
    (b"data: a\n\n", [(b"", b"a")]),
    (b"data:a\n\n", [(b"", b"a")]),
    (b"data:  a\n\n", [(b"", b" a")]),
    (b"data: a\r\n\r\n", [(b"", b"a")]),
    (b"data: a\r\rdata: b\r\r", [(b"", b"a"), (b"", b"b")]),
    (b"data: a\r\n\ndata: b\n\r", [(b"", b"a"), (b"", b"b")]),
    (b"data: a\r\ndata: b\r\n\r\n", [(b"", b"a\nb")]),
    (b"data: YHOO\ndata: +2\ndata: 10\n\n", [(b"", b"YHOO\n+2\n10")]),
    (b": comment\n\ndata: a\nid: 1\nretry: 5\n\n", [(b"", b"a")]),
    (b"data\n\ndata\ndata\n\ndata:", [(b"", b""), (b"", b"\n"), (b"", b"")]),
    (b"event: ping\n\ndata: a\n\n", [(b"", b"a")]),
    (b"event: one\nevent: two\ndata: a\n\n", [(b"two", b"a")]),
    (b"\xef\xbb\xbfdata: a\n\n\xef\xbb\xbfdata: b\n\n", [(b"", b"a")]),
    (b"\n\n\n\ndata: a\n\n\n\n\ndata: b\n\n", [(b"", b"a"), (b"", b"b")]),
    (b"\ndata: a\n\n", [(b"", b"a")]),
    (b"datas: a\n data: b\nDATA: c\n\n", []),
    (b"data: last", [(b"", b"last")]),
    (b"event: x\ndata: last\n", [(b"x", b"last")]),
    (b"data: a:b: c\n\n", [(b"", b"a:b: c")]),
    (b"", []),
]


def frames_of(pieces: list[bytes]) -> list[Frame]:
    stream = EventStream()
    frames = [frame for piece in pieces for frame in stream.feed(piece)]
    last = stream.close()
    return [*frames, last] if last is not None else frames


@pytest.mark.parametrize(("data", "frames"), CASES)
def test_whole_and_at_every_split(data: bytes, frames: list[Frame]) -> None:
    assert frames_of([data]) == frames
    assert frames_of([data[i : i + 1] for i in range(len(data))]) == frames
    for cut in range(len(data)):
        assert frames_of([data[:cut], data[cut:]]) == frames
        assert frames_of([data[:cut], b"", data[cut:]]) == frames


def by_lines(data: bytes) -> list[Frame]:
    """The rules written down the slow way, line by line."""
    text = data.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    frames, name, lines = [], b"", []
    for line in [*text.split(b"\n"), b""]:
        if not line:
            if lines:
                frames.append((name, b"\n".join(lines)))
            name, lines = b"", []
            continue
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            lines.append(value)
        elif field == b"event":
            name = value
    return frames


TOKENS = st.sampled_from(
    [b"data", b"event", b":", b" ", b"\n", b"\r", b"\r\n", b"\n\n", b"x", b"\xef\xbb\xbf", b"\xff"]
)


@given(st.lists(TOKENS, max_size=40).map(b"".join), st.lists(st.integers(1, 8), max_size=40))
def test_agrees_with_the_rules_however_it_is_cut(data: bytes, sizes: list[int]) -> None:
    pieces, rest = [], data
    for size in sizes:
        pieces.append(rest[:size])
        rest = rest[size:]
    assert frames_of([*pieces, rest]) == by_lines(data)


def test_an_event_beyond_the_limit_is_given_up_and_not_kept() -> None:
    stream = EventStream(limit=1000)
    assert stream.feed(b"data: ok\n\n") == [(b"", b"ok")]
    for _ in range(50):
        assert stream.feed(b"x" * 100) == []
    assert stream.oversized
    assert stream.rest == b""


def test_a_long_event_in_one_piece_is_bounded_too() -> None:
    stream = EventStream(limit=1000)
    assert stream.feed(b"data: ok\n\ndata: " + b"x" * 1000 + b"\n\ndata: late\n\n") == [(b"", b"ok")]
    assert stream.oversized


def test_many_events_in_one_piece_may_be_larger_than_the_limit_of_one() -> None:
    stream = EventStream(limit=20)
    assert len(stream.feed(b"data: 0123456789\n\n" * 100)) == 100
    assert not stream.oversized


def test_lines_without_a_blank_one_are_joined_once() -> None:
    # Were the buffer joined or searched anew for each piece, this would take minutes.
    stream = EventStream()
    for _ in range(200_000):
        stream.feed(b"data: 0123456789012345678901234567890123456789\n")
    assert len(stream.feed(b"\n")) == 1
