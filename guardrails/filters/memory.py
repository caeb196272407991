"""What was found in texts that were seen before: the history of a conversation comes with every request.

Holds findings (kinds and places) under a keyed hash, never a text. The key is of this process and this memory
only, so nobody can tell from a hash what was said, and no two policies share a verdict.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Sequence

from guardrails.filters.detector import Finding

_MOST_FINDINGS = 256  # of a text with more, nothing is kept: it is cheaper to look again


class Memory:
    """Findings by text, of the `most` texts that were seen last. Safe in any thread; does not pickle its key.

    `key` is secret; a new one is drawn from the system when it is left out.
    """

    __slots__ = ("_key", "_known", "_lock", "_most")

    def __init__(self, most: int = 4096, key: bytes | None = None) -> None:
        self._most = most
        self._key = os.urandom(32) if key is None else key
        self._known: OrderedDict[bytes, tuple[Finding, ...]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, text: str, about: str) -> tuple[Finding, ...] | None:
        """What was found, or None for a text that is new to `about` (the direction and its rules)."""
        digest = self._digest(text, about)
        with self._lock:
            found = self._known.get(digest)
            if found is not None:
                self._known.move_to_end(digest)
            return found

    def put(self, text: str, about: str, findings: Sequence[Finding]) -> None:
        """Remember what was found by all rules of `about`, none of which failed."""
        if len(findings) > _MOST_FINDINGS or not self._most:
            return
        digest = self._digest(text, about)
        with self._lock:
            self._known[digest] = tuple(findings)
            self._known.move_to_end(digest)
            if len(self._known) > self._most:
                self._known.popitem(last=False)

    def _digest(self, text: str, about: str) -> bytes:
        data = f"{about}\0{text}".encode("utf-8", "surrogatepass")
        return hashlib.blake2b(data, key=self._key, digest_size=16).digest()

    def __len__(self) -> int:
        return len(self._known)

    def __repr__(self) -> str:
        return f"Memory(texts={len(self)})"

    def __reduce__(self) -> tuple[type[Memory], tuple[int]]:
        return Memory, (self._most,)
