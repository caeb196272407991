"""Messages over a stream socket: a length, then JSON. Neither side trusts the other to keep to it."""

from __future__ import annotations

import json
import os
from typing import Any

_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False, check_circular=False).encode
_decoded = (
    json.JSONDecoder().raw_decode
)  # what `json.loads` ends in; most messages cost less than the way there


class Lost(BaseException):
    """The other side is gone, or does not keep to the protocol. No test may catch it by accident."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class Line:
    """One end. A message longer than `most` bytes ends the conversation."""

    def __init__(self, descriptor: int, most: int) -> None:
        self._descriptor = descriptor
        self._most = most
        self._read = b""
        self.broken = ""

    def send(self, message: Any) -> None:
        """Send one message. Raises `Lost` when nobody is there to take it."""
        data = _encode(message).encode()
        left = len(data).to_bytes(4, "big") + data
        try:
            while left:
                left = left[os.write(self._descriptor, left) :]
        except OSError:
            raise self.lost("it ended") from None

    def receive(self) -> list[Any]:
        """The next message, a list that begins with a word. Raises `Lost` when there will be none."""
        while len(self._read) < 4:
            self._more(65_536)
        length = int.from_bytes(self._read[:4], "big")
        if length > self._most:
            raise self.lost(f"it sent more than {self._most:,} bytes at once")
        if length + 4 > len(self._read):
            self._fill(length + 4)
        data, self._read = self._read[4 : length + 4], self._read[length + 4 :]
        try:
            text = data.decode()
            message, end = _decoded(text)
        except (ValueError, RecursionError):
            raise self.lost("it sent what is no message") from None
        if not (end == len(text) and isinstance(message, list) and message and isinstance(message[0], str)):
            raise self.lost("it sent what is no message")
        return message

    def close(self) -> None:
        """Close this end. Whoever still holds the line talks to nobody, and not on its successor's number."""
        descriptor, self._descriptor = self._descriptor, -1
        os.close(descriptor)

    def lost(self, why: str) -> Lost:
        """The error to raise; what happened first is kept, whatever becomes of the error."""
        self.broken = self.broken or why
        return Lost(self.broken)

    def _more(self, size: int) -> None:
        try:
            data = os.read(self._descriptor, size)
        except OSError:
            data = b""
        if not data:
            raise self.lost("it ended")
        self._read += data

    def _fill(self, length: int) -> None:
        parts, have = [self._read], len(self._read)
        while have < length:
            self._read = b""
            self._more(min(length - have, 1 << 20))
            parts.append(self._read)
            have += len(self._read)
        self._read = b"".join(parts)
