"""Whose turn is it? Programs with the same tests follow each other, so that a worker prepares tests once."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Hashable

LONGEST = 100
"""Every so many turns one goes to who came first, whatever the tests: nobody waits for ever."""


class Turns:
    """At most so many at a time. `key` is what is kept ready: tests that compare equal are the same.

    A turn that ends goes on to the next with the same key; if there is none, to the first with a key that
    nobody has at the moment, and else to the first.
    """

    def __init__(self, most: int) -> None:
        self._free = most
        self._given = 0
        self._running: Counter[Hashable] = Counter()
        self._waiting: dict[Hashable, deque[asyncio.Future[None]]] = {}  # keys in order of arrival

    async def take(self, key: Hashable) -> None:
        """Wait for a turn. Whoever got it calls `end`; whoever was cancelled has none."""
        if self._free:
            self._free -= 1
            self._running[key] += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # it had just been given
                self.end(key)
            raise

    def end(self, key: Hashable) -> None:
        """Give a turn on."""
        self._running -= Counter((key,))
        while self._waiting:
            chosen = self._next(key)
            line = self._waiting[chosen]
            turn = line.popleft()
            if not line:
                del self._waiting[chosen]
            if not turn.done():  # else it was cancelled
                self._running[chosen] += 1
                turn.set_result(None)
                return
        self._free += 1

    def _next(self, key: Hashable) -> Hashable:
        self._given += 1
        first = next(iter(self._waiting))
        if self._given % LONGEST == 0:
            return first
        if key in self._waiting:
            return key
        return next((each for each in self._waiting if each not in self._running), first)
