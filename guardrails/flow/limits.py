"""How many calls should an endpoint have in flight – and how would we know, with nobody to tell us?

Too few waste the server; too many make every answer late, and late answers are as good as lost. The right
number moves with the length of prompts and answers, with the hardware, and with who else uses the server. So
it is found from what comes back. Each algorithm here is a frozen value with a `limit`; `after(sample)` gives
the next value. No clock, no I/O: the same samples always give the same limits.

Which one?

- `TwoSignal` (default), for servers that batch. It asks how long prompts wait beyond the time that reading
  them takes, and how fast the tokens of running answers come. The first tells a long queue from a long
  prompt, the second sees that the batch is too large while the queue is still empty.
- `Aimd`, for vendors' APIs whose refusals (429) say more than their latency. Looks at plain TTFT.
- `Gradient2`, the algorithm of Netflix' concurrency-limits, on TTFT: compares the present with the long run,
  knows no target, and takes a lasting slowness for normal.
- `Fixed`, when you have measured the number, and nothing changes.
- `Unlimited`, when something else limits.

Time to first token (TTFT) is the signal, never the time of the whole call: that grows with the answer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal, Protocol

MOST = 255
"""How many earlier first tokens a window keeps: enough for a percentile, however many calls come."""

Outcome = Literal["success", "dropped", "ignored"]
"""`dropped`: the endpoint said that it is too busy (429, 503), or sent no first token in time."""


@dataclass(frozen=True, slots=True)
class Slo:
    """What makes an answer useful, in seconds: time to first token (from arrival), and time per token."""

    ttft: float = 2.0
    tpot: float = 0.05

    def __post_init__(self) -> None:
        if not (0 < self.ttft < math.inf and 0 < self.tpot < math.inf):
            raise ValueError("slo.ttft and slo.tpot must be above 0 (seconds)")


@dataclass(slots=True)
class Sample:
    """What was seen at `now` (seconds), with `in_flight` calls under way, this one included.

    `ttft`: seconds from sending to the first token, for a prompt of `tokens_in` tokens that no cache held.
    `tpot`: seconds per token of the answers under way, over `tokens_out` tokens. Either may be missing.

    A value; not frozen, since one is made for each call, and freezing makes that eight times as slow. The
    same goes for what `TwoSignal` makes of it.
    """

    now: float
    in_flight: int
    outcome: Outcome = "success"
    ttft: float | None = None
    tokens_in: int = 0
    tpot: float | None = None
    tokens_out: int = 1


class Limit(Protocol):
    """A limit at one moment."""

    @property
    def limit(self) -> float:
        """How many calls may be in flight; what is behind the point does not count."""

    def after(self, sample: Sample, /) -> Limit:
        """The limit once `sample` was seen. The old one stays as it is."""


def _check_range(start: float, floor: float, ceiling: float) -> None:
    if not 1 <= floor <= start <= ceiling:
        raise ValueError(f"a limit needs 1 <= floor <= start <= ceiling, not {floor} <= {start} <= {ceiling}")


@dataclass(frozen=True, slots=True)
class Unlimited:
    """No limit at all."""

    limit: float = field(default=math.inf, init=False)

    def after(self, sample: Sample, /) -> Unlimited:
        """Itself."""
        return self


@dataclass(frozen=True, slots=True)
class Fixed:
    """Always the same."""

    limit: float

    def __post_init__(self) -> None:
        if not self.limit >= 1:
            raise ValueError("a fixed limit must be 1 or more")

    def after(self, sample: Sample, /) -> Fixed:
        """Itself."""
        return self


# --- two signals -------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Envelope:
    """The TTFT that a prompt of n tokens has when it does not wait: `base + per_token · n` seconds.

    Online quantile regression at τ = 0.1: a sample above the line lifts it by 0.1 `step`, one below lowers
    it by 0.9 `step`, so that in the end a tenth of the samples lie below. Prompts count as `MAX_TOKENS` at
    most in the slope's steps, or a single one of a million tokens would throw it off.
    """

    base: float
    per_token: float
    step: float
    step_per_token: float

    TAU: ClassVar[float] = 0.1
    MAX_TOKENS: ClassVar[int] = 8000

    def excess(self, ttft: float, tokens: int) -> float:
        """Seconds above the line: what a prompt waited. Negative below it."""
        return ttft - (self.base + self.per_token * tokens)

    def after(self, ttft: float, tokens: int) -> Envelope:
        """The line, moved towards one sample."""
        slope = self.TAU if self.excess(ttft, tokens) > 0 else self.TAU - 1
        base = max(5 * self.step, self.base + self.step * slope)
        change = self.step_per_token * slope * min(tokens, self.MAX_TOKENS)
        return Envelope(base, max(1e-6, self.per_token + change), self.step, self.step_per_token)


@dataclass(slots=True)
class _Window:
    """What was seen since the last decision."""

    since: float = -math.inf
    excess: tuple[float, ...] = ()
    decode: float = 0.0
    tokens: float = 0.0


@dataclass(frozen=True, slots=True)
class TwoSignal:
    """Keep the wait for a first token, and the time per token, a little below what the SLO allows.

    `bad` = the larger of (the 90th percentile of the excess TTFT over its `Envelope`) / (`wait_share` ·
    slo.ttft) and (mean TPOT) / (`pace_share` · slo.tpot), over a window of at least `window` seconds and
    `samples` first tokens. Above 1 the limit is multiplied by max(0.7, 0.97 − 0.3·(bad − 1)), then holds for
    `hold` seconds; up to `calm`, with more than 0.8 of it in use, it grows by max(1, √limit / 2); in between
    it stays. A dropped call multiplies it by `drop`.

    Each window's tokens count `carry` as much in the next: to let calls in costs a step or two of reading
    their prompts, and without a memory every growth would look like a server at its end.
    """

    slo: Slo = Slo()
    start: float = 32.0
    floor: float = 4.0
    ceiling: float = 1024.0
    wait_share: float = 0.25
    pace_share: float = 0.92
    calm: float = 0.95
    drop: float = 0.8
    window: float = 1.0
    samples: int = 8
    hold: float = 2.0
    carry: float = 0.5

    def __post_init__(self) -> None:
        _check_range(self.start, self.floor, self.ceiling)

    @property
    def limit(self) -> float:
        """Where it begins."""
        return float(self.start)

    def after(self, sample: Sample, /) -> Limit:
        """Begin to learn."""
        if sample.outcome == "ignored":
            return self
        # Steps in proportion to the target: a reasoning model's TTFT is two orders above a small one's.
        scale = self.slo.ttft / 2.0
        envelope = Envelope(0.05 * scale, 7e-5 * scale, 1e-3 * scale, 2e-9 * scale)
        return _Learnt(self, self.limit, envelope).after(sample)


@dataclass(slots=True)
class _Learnt:
    """What `TwoSignal` has come to. Apart from its rules, since a new one is made for each first token."""

    rules: TwoSignal = field(repr=False)
    limit: float
    envelope: Envelope = field(repr=False)
    seen: _Window = field(default_factory=_Window, repr=False)
    held_until: float = field(default=-math.inf, repr=False)

    def after(self, sample: Sample, /) -> _Learnt:
        """Take a sample in; decide when the window is full."""
        if sample.outcome == "ignored":
            return self
        rules, seen, envelope = self.rules, self.seen, self.envelope
        if sample.outcome == "dropped":
            return self._shrunk(rules.drop, sample.now)
        since, excess, decode, tokens = seen.since, seen.excess, seen.decode, seen.tokens
        if since == -math.inf:
            since = sample.now
        if sample.tpot is not None:
            decode += sample.tpot * sample.tokens_out
            tokens += sample.tokens_out
        if sample.ttft is not None:
            waited = max(0.0, envelope.excess(sample.ttft, sample.tokens_in))
            excess = excess[-MOST:] + (waited,)  # noqa: RUF005 - unpacking would copy them twice
            envelope = envelope.after(sample.ttft, sample.tokens_in)
        seen = _Window(since, excess, decode, tokens)
        if sample.ttft is None or sample.now - since < rules.window or len(excess) < rules.samples:
            return _Learnt(rules, self.limit, envelope, seen, self.held_until)
        kept = _Window(sample.now, decode=rules.carry * decode, tokens=rules.carry * tokens)
        decided = _Learnt(rules, self.limit, envelope, kept, self.held_until)
        return decided._decided(sample, self._bad(seen))

    def _bad(self, seen: _Window) -> float:
        """How far the worse of the two signals is above its target (1: right at it)."""
        rules = self.rules
        wait = _quantile(seen.excess, 0.9) / (rules.wait_share * rules.slo.ttft)
        if not seen.tokens:
            return wait
        return max(wait, seen.decode / seen.tokens / (rules.pace_share * rules.slo.tpot))

    def _decided(self, sample: Sample, bad: float) -> _Learnt:
        if bad > 1:
            return self._shrunk(max(0.7, 0.97 - 0.3 * (bad - 1)), sample.now)
        if bad <= self.rules.calm and sample.in_flight > 0.8 * self.limit:
            grown = self.limit + max(1.0, math.sqrt(self.limit) / 2)
            return replace(self, limit=min(self.rules.ceiling, grown))
        return self

    def _shrunk(self, factor: float, now: float) -> _Learnt:
        rules = self.rules
        if now < self.held_until:
            return self
        limit = max(rules.floor, self.limit * factor)
        return replace(self, limit=limit, held_until=now + rules.hold)


def _quantile(values: tuple[float, ...], q: float) -> float:
    return sorted(values)[int(q * (len(values) - 1))]


# --- the named alternatives --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Aimd:
    """Add a little while all is well, take a fifth away when it is not.

    Well means: the 95th percentile of TTFT over a window of at least `window` seconds and `samples` first
    tokens is below `share` of the SLO. A long prompt looks like a long queue to it.
    """

    slo: Slo = Slo()
    start: float = 32.0
    floor: float = 4.0
    ceiling: float = 1024.0
    share: float = 0.5
    add: float = 4.0
    factor: float = 0.8
    window: float = 1.0
    samples: int = 10
    hold: float = 2.0
    limit: float = field(default=0.0, kw_only=True)
    seen: _Window = field(default_factory=_Window, kw_only=True, repr=False)
    held_until: float = field(default=-math.inf, kw_only=True, repr=False)

    def __post_init__(self) -> None:
        _check_range(self.start, self.floor, self.ceiling)
        if not self.limit:
            object.__setattr__(self, "limit", float(self.start))

    def after(self, sample: Sample, /) -> Aimd:
        """Take a sample in; decide when the window is full."""
        if sample.outcome == "dropped":
            if sample.now < self.held_until:
                return self
            return replace(self, limit=self._less(), held_until=sample.now + self.hold)
        if sample.outcome == "ignored" or sample.ttft is None:
            return self
        since = sample.now if self.seen.since == -math.inf else self.seen.since
        seen = _Window(since, (*self.seen.excess[-MOST:], sample.ttft))
        if sample.now - since < self.window or len(seen.excess) < self.samples:
            return replace(self, seen=seen)
        limit = self.limit
        if _quantile(seen.excess, 0.95) > self.share * self.slo.ttft:
            limit = self._less()
        elif sample.in_flight > 0.8 * limit:
            limit = min(self.ceiling, limit + self.add)
        return replace(self, seen=_Window(sample.now), limit=limit)

    def _less(self) -> float:
        return max(self.floor, self.limit * self.factor)


@dataclass(frozen=True, slots=True)
class Gradient2:
    """Compare TTFT now with its long-run average: gradient = tolerance · long / short, from 0.5 to 1.

    The new limit is limit · gradient + `queue`, smoothed. Its long run forgets over some 600 windows, so a
    server that stays slow becomes the new normal. Drops change nothing, as in the original.
    """

    start: float = 20.0
    floor: float = 20.0
    ceiling: float = 400.0
    tolerance: float = 1.5
    smoothing: float = 0.2
    queue: float = 4.0
    long_window: int = 600
    window: float = 1.0
    samples: int = 10
    limit: float = field(default=0.0, kw_only=True)
    seen: _Window = field(default_factory=_Window, kw_only=True, repr=False)
    long: float = field(default=0.0, kw_only=True, repr=False)
    windows: int = field(default=0, kw_only=True, repr=False)

    def __post_init__(self) -> None:
        _check_range(self.start, self.floor, self.ceiling)
        if not self.limit:
            object.__setattr__(self, "limit", float(self.start))

    def after(self, sample: Sample, /) -> Gradient2:
        """Take a sample in; decide when the window is full."""
        if sample.outcome != "success" or sample.ttft is None:
            return self
        since = sample.now if self.seen.since == -math.inf else self.seen.since
        seen = _Window(since, (*self.seen.excess[-MOST:], sample.ttft))
        if sample.now - since < self.window or len(seen.excess) < self.samples:
            return replace(self, seen=seen)
        short = max(1e-9, sum(seen.excess) / len(seen.excess))
        windows = self.windows + 1
        weight = 1 / windows if windows <= 10 else 2 / (self.long_window + 1)
        long = self.long + (short - self.long) * weight
        if long / short > 2:
            long *= 0.95  # the long run was a bad time: forget it faster
        limit = self.limit
        if sample.in_flight >= limit / 2:
            wanted = limit * max(0.5, min(1.0, self.tolerance * long / short)) + self.queue
            smooth = limit * (1 - self.smoothing) + wanted * self.smoothing
            limit = max(self.floor, min(self.ceiling, smooth))
        return replace(self, seen=_Window(sample.now), long=long, windows=windows, limit=limit)
