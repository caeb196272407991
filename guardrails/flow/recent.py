"""What happened lately? Counts, quantiles and means that forget, as pure functions of samples and time.

Times are seconds on the caller's clock; nothing here looks at one.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from math import ceil, exp


class RecentCount:
    """How many of these were there in the last `window` seconds?

    Counted in `slots` slices of time, so the window's edge is off by one slice at most; O(1) memory.
    """

    __slots__ = ("_at", "_counts", "_slice", "_total")

    def __init__(self, window: float, slots: int = 10) -> None:
        if not window > 0 or slots < 1:
            raise ValueError(f"a window of {window} s in {slots} slices counts nothing")
        self._slice = window / slots
        self._counts = [0] * slots
        self._total = 0
        self._at: int | None = None

    def add(self, now: float, n: int = 1) -> None:
        """Count `n` more."""
        self._move(now)
        assert self._at is not None
        self._counts[self._at % len(self._counts)] += n
        self._total += n

    def total(self, now: float) -> int:
        """The count of the window that ends now."""
        self._move(now)
        return self._total

    def clear(self) -> None:
        """Forget everything."""
        self._counts = [0] * len(self._counts)
        self._total = 0

    def _move(self, now: float) -> None:
        at = int(now // self._slice)
        if at == self._at:
            return
        if self._at is None:
            self._at = at
        slots = len(self._counts)
        for slot in range(self._at + 1, min(at, self._at + slots) + 1):
            self._total -= self._counts[slot % slots]
            self._counts[slot % slots] = 0
        self._at = max(at, self._at)


class RecentValues:
    """Which value do q of the last `size` samples stay below? Exact (nearest rank), O(size) a sample."""

    __slots__ = ("_order", "_sorted", "size")

    def __init__(self, size: int = 256) -> None:
        self.size = size
        self._order: deque[float] = deque()
        self._sorted: list[float] = []

    def __len__(self) -> int:
        return len(self._order)

    def add(self, value: float) -> None:
        """Take a sample; the oldest goes when there are more than `size`."""
        if len(self._order) >= self.size:
            del self._sorted[bisect_left(self._sorted, self._order.popleft())]
        self._order.append(value)
        insort(self._sorted, value)

    def quantile(self, q: float) -> float | None:
        """The q-quantile for q in (0, 1], None without a sample."""
        if not self._sorted:
            return None
        return self._sorted[max(0, ceil(q * len(self._sorted)) - 1)]


class Latency:
    """How long does this take, as far as we still know?

    A mean that weights samples by their age: one of `settle` seconds ago counts 1/e. Without any it fades
    towards zero over `fade` seconds, so that what was slow once is tried again some time.
    """

    __slots__ = ("_at", "_fade", "_mean", "_settle")

    def __init__(self, settle: float = 10.0, fade: float = 60.0) -> None:
        self._settle = settle
        self._fade = fade
        self._mean = 0.0
        self._at: float | None = None

    def add(self, now: float, seconds: float, *, at_least: bool = False) -> None:
        """Take a sample. `at_least`: given up after so long, which says something only if it is more."""
        if self._at is None:
            self._mean = seconds
        else:
            if at_least and seconds <= self.estimate(now):
                return
            # A sample after a long silence counts nearly alone; of many at one moment each counts a tenth.
            weight = max(0.1, 1.0 - exp(-(now - self._at) / self._settle))
            self._mean += weight * (seconds - self._mean)
        self._at = now

    def estimate(self, now: float) -> float:
        """Seconds; 0 while nothing is known."""
        return 0.0 if self._at is None else self._mean * exp(-max(0.0, now - self._at) / self._fade)
