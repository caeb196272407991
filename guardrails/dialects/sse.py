"""Server-sent events out of bytes, however the network cut them.

Follows the WHATWG rules for an event stream (https://html.spec.whatwg.org/multipage/server-sent-events.html):
CR, LF and CRLF end a line, a blank line ends an event, a colon starts a comment, one space after the colon
is dropped, `data` lines are joined by LF. `id` and `retry` are read over: nothing here reconnects.

Why blocks and not lines: a model's stream is one short `data:` line per event, so splitting what arrived at
blank lines is a single C call. An event that is still incomplete is collected in a buffer that is joined
once, so feeding a long event in many small pieces stays linear, and its size is bounded.
"""

from __future__ import annotations

LIMIT = 16 * 1024 * 1024
"""Bytes that one event may have by default: more is a broken peer, or a hostile one."""

Frame = tuple[bytes, bytes]
"""One event: its name (`b""` when it has none) and its data."""

_BOM = b"\xef\xbb\xbf"
_HEAD = 64


class EventStream:
    """An incremental parser. It never raises: `oversized` says that it gave up on an event beyond `limit`."""

    __slots__ = ("_after_cr", "_between", "_fresh", "_held", "_limit", "head", "oversized", "received")

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._held = bytearray()
        self._after_cr = False
        self._fresh = True
        self._between = False
        self.oversized = False
        self.received = 0
        """Bytes fed so far."""
        self.head = b""
        """The first bytes of the stream, for telling an HTML page from a stream."""

    def feed(self, data: bytes) -> list[Frame]:
        """The events that `data` completes."""
        size = len(data)
        self.received += size
        # Nearly always a piece is one whole event on one line; then there is nothing to split or to join.
        if self._between and data[:6] == b"data: " and data[-2:] == b"\n\n" and size <= self._limit:
            line = data[6:-2]
            if b"\n" not in line and b"\r" not in line:
                return [(b"", line)]
        frames = self._feed(data)
        self._between = not (self._held or self._after_cr or self._fresh or len(self.head) < _HEAD)
        return frames

    def _feed(self, data: bytes) -> list[Frame]:
        if len(self.head) < _HEAD:
            self.head = (self.head + data[:_HEAD])[:_HEAD]
        if self._after_cr or b"\r" in data:
            data = self._with_line_feeds(data)
        if self.oversized or not data:
            return []
        held = self._held
        if held:
            joint = held[-1] == 0x0A and data[0] == 0x0A
            if not joint and b"\n\n" not in data:
                return self._hold(data)
            held += data
            data = bytes(held)
            self._held = bytearray()
        elif b"\n\n" not in data:
            return self._hold(data)
        blocks = data.split(b"\n\n")
        rest = blocks.pop()
        if rest:
            self._hold(rest)
        return self._frames(blocks)

    @property
    def rest(self) -> bytes:
        """What was fed after the last blank line."""
        return bytes(self._held)

    def close(self) -> Frame | None:
        """The last event, if the stream ended without the blank line that should follow it.

        The rules say to throw such an event away; a reader that can tell whole data from cut data need not.
        """
        frames = self._frames([bytes(self._held)])
        self._held = bytearray()
        return frames[0] if frames else None

    def _hold(self, data: bytes) -> list[Frame]:
        if len(self._held) + len(data) > self._limit:
            self.oversized = True
            self._held = bytearray()
        else:
            self._held += data
        return []

    def _frames(self, blocks: list[bytes]) -> list[Frame]:
        if self._fresh and blocks:
            self._fresh = False
            blocks[0] = blocks[0].removeprefix(_BOM)
        frames: list[Frame] = []
        for block in blocks:
            if len(block) > self._limit:
                self.oversized = True
                break
            if block[:6] == b"data: " and b"\n" not in block:
                frames.append((b"", block[6:]))
            elif block and (frame := _parse(block)) is not None:
                frames.append(frame)
        return frames

    def _with_line_feeds(self, data: bytes) -> bytes:
        # A CR ends its line at once; the LF that may follow it, perhaps in the next piece, adds nothing.
        if self._after_cr and data:
            data = data.removeprefix(b"\n")
            self._after_cr = False
        if data.endswith(b"\r"):
            self._after_cr = True
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _parse(block: bytes) -> Frame | None:
    """The event that a block of lines says; None when it has no data."""
    if block.startswith(b"event: ") and block.count(b"\n") == 1:
        head, both, value = block.partition(b"\ndata: ")
        if both:
            return head[7:], value
    name = b""
    data: list[bytes] = []
    for line in block.split(b"\n"):
        field, _, value = line.partition(b":")
        if field == b"data":
            data.append(value.removeprefix(b" "))
        elif field == b"event":
            name = value.removeprefix(b" ")
    return (name, b"\n".join(data)) if data else None
