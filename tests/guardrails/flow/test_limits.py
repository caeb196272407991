from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardrails.flow.limits import Aimd, Envelope, Fixed, Gradient2, Limit, Sample, Slo, TwoSignal, Unlimited

ALGORITHMS = [TwoSignal(), Aimd(), Gradient2(), Fixed(7), Unlimited(), TwoSignal(start=6, floor=2, ceiling=9)]

seconds = st.floats(0, 100, allow_nan=False)


@st.composite
def histories(draw: st.DrawFn, longest: int = 60) -> list[Sample]:
    now, found = 0.0, []
    for _ in range(draw(st.integers(0, longest))):
        now += draw(st.floats(0, 1.5))
        found.append(
            Sample(
                now,
                draw(st.integers(1, 2000)),
                draw(st.sampled_from(["success", "success", "success", "dropped", "ignored"])),
                draw(st.none() | seconds),
                draw(st.integers(0, 200_000)),
                draw(st.none() | st.floats(0, 2)),
                draw(st.integers(0, 500)),
            )
        )
    return found


def fed(limit: Limit, samples: list[Sample]) -> Any:
    for sample in samples:
        limit = limit.after(sample)
    return limit


def window(
    now: float,
    *,
    ttft: float,
    tpot: float | None = None,
    in_flight: int = 1000,
    n: int = 8,
    tokens_in: int = 0,
) -> list[Sample]:
    """Samples that fill a window which ends just after `now + 1`."""
    times = [now + 1.001 * number / (n - 1) for number in range(n)]
    return [Sample(at, in_flight, "success", ttft, tokens_in, tpot, 100) for at in times]


@settings(max_examples=60, deadline=None)
@given(histories(), st.sampled_from(ALGORITHMS))
def test_the_limit_stays_within_its_range_and_the_same_samples_give_the_same_limit(
    samples: list[Sample], first: Limit
) -> None:
    before = repr(first), first.limit
    low, high = getattr(first, "floor", first.limit), getattr(first, "ceiling", first.limit)
    limit = first
    for sample in samples:
        limit = limit.after(sample)
        assert low <= limit.limit <= high
    assert fed(first, samples) == limit
    assert (repr(first), first.limit) == before


@settings(max_examples=60, deadline=None)
@given(histories(), seconds, seconds, st.integers(0, 9000), st.sampled_from([TwoSignal(), Aimd()]))
def test_a_slower_first_token_never_earns_a_higher_limit(
    samples: list[Sample], one: float, other: float, tokens: int, first: Limit
) -> None:
    state = fed(first, samples)
    now = (samples[-1].now if samples else 0.0) + 1.0
    fast, slow = sorted((one, other))
    quick = state.after(Sample(now, 999, ttft=fast, tokens_in=tokens))
    assert state.after(Sample(now, 999, ttft=slow, tokens_in=tokens)).limit <= quick.limit


@settings(max_examples=60, deadline=None)
@given(histories(), st.floats(0, 1), st.floats(0, 1))
def test_slower_tokens_never_earn_a_higher_limit(samples: list[Sample], one: float, other: float) -> None:
    state = fed(TwoSignal(), samples)
    now = (samples[-1].now if samples else 0.0) + 1.0
    fast, slow = sorted((one, other))
    quick = state.after(Sample(now, 999, ttft=0.1, tpot=fast, tokens_out=50))
    assert state.after(Sample(now, 999, ttft=0.1, tpot=slow, tokens_out=50)).limit <= quick.limit


@settings(max_examples=40, deadline=None)
@given(histories(), st.sampled_from(ALGORITHMS))
def test_a_drop_never_raises_the_limit_and_an_ignored_sample_changes_nothing(
    samples: list[Sample], first: Limit
) -> None:
    state = fed(first, samples)
    assert state.after(Sample(1e6, 1, "dropped")).limit <= state.limit
    assert state.after(Sample(1e6, 1, "ignored", 99.0, 5, 9.0)) == state


def test_it_grows_by_half_a_root_while_all_is_well_and_in_use() -> None:
    grown = fed(TwoSignal(), window(0, ttft=0.05, tpot=0.02))
    assert grown.limit == pytest.approx(32 + math.sqrt(32) / 2)


def test_it_does_not_grow_while_slots_are_left_over() -> None:
    assert fed(TwoSignal(), window(0, ttft=0.05, tpot=0.02, in_flight=20)).limit == 32


def test_between_calm_and_target_it_stays() -> None:
    assert fed(TwoSignal(), window(0, ttft=0.05, tpot=0.97 * 0.92 * 0.05)).limit == 32


@pytest.mark.parametrize(("over", "factor"), [(1.1, 0.97 - 0.03), (1.5, 0.97 - 0.15), (9.0, 0.7)])
def test_slow_tokens_shrink_it_by_how_slow_they_are(over: float, factor: float) -> None:
    shrunk = fed(TwoSignal(), window(0, ttft=0.05, tpot=over * 0.92 * 0.05))
    assert shrunk.limit == pytest.approx(32 * factor)


def test_after_shrinking_it_holds_for_two_seconds() -> None:
    slow = {"ttft": 0.05, "tpot": 1.0}
    once = fed(TwoSignal(), window(0, **slow))
    assert once.limit == pytest.approx(32 * 0.7)
    again = fed(once, window(1.01, **slow))
    assert again.limit == once.limit
    assert fed(again, window(3.1, **slow)).limit == pytest.approx(32 * 0.49)


def test_a_window_needs_a_second_and_eight_first_tokens() -> None:
    slow = Sample(0.0, 999, ttft=9.0)
    many = fed(TwoSignal(), [replace(slow, now=number / 1000) for number in range(50)])
    assert many.limit == 32
    few = fed(TwoSignal(), [replace(slow, now=float(number)) for number in range(7)])
    assert few.limit == 32
    assert few.after(replace(slow, now=7.0)).limit < 32


def test_a_long_prompt_is_not_mistaken_for_a_queue() -> None:
    long = [
        Sample(number * 0.2, 999, ttft=0.05 + 7e-5 * 20_000, tokens_in=20_000, tpot=0.02)
        for number in range(60)
    ]
    assert fed(TwoSignal(), long).limit > 32
    waiting = [replace(sample, tokens_in=100) for sample in long]
    assert fed(TwoSignal(), waiting).limit < 32
    assert fed(Aimd(), long).limit < 32  # which is why it is not the default


def test_the_envelope_finds_the_time_that_an_unqueued_prompt_takes() -> None:
    line = Envelope(0.5, 1e-5, step=1e-3, step_per_token=2e-9)
    for number in range(20_000):
        tokens = 100 + (number * 37) % 3000
        queued = 0.0 if number % 5 == 0 else ((number * 17) % 100) / 100
        line = line.after(0.1 + 5e-5 * tokens + queued, tokens)
    for tokens in (300, 1500, 3000):
        assert line.base + line.per_token * tokens == pytest.approx(0.1 + 5e-5 * tokens, abs=0.05)


def test_a_drop_takes_a_fifth_and_those_right_after_it_nothing() -> None:
    once = TwoSignal().after(Sample(5.0, 30, "dropped"))
    assert once.limit == pytest.approx(32 * 0.8)
    assert once.after(Sample(6.9, 30, "dropped")).limit == once.limit
    assert once.after(Sample(7.0, 30, "dropped")).limit == pytest.approx(32 * 0.64)


def test_targets_scale_with_the_slo() -> None:
    patient = TwoSignal(Slo(ttft=60.0, tpot=0.2))
    assert fed(patient, window(0, ttft=12.0, tpot=0.1)).limit > 32
    assert fed(TwoSignal(), window(0, ttft=12.0, tpot=0.1)).limit < 32


def test_gradient2_shrinks_when_first_tokens_get_slower_and_takes_a_lasting_slowness_for_normal() -> None:
    state: Any = Gradient2(start=100)
    now = 0.0
    for _ in range(10):
        state = fed(state, window(now, ttft=0.1, n=10))
        now += 1.01
    calm = state.limit
    assert calm > 100
    for _ in range(10):
        state = fed(state, window(now, ttft=1.0, n=10))
        now += 1.01
    assert state.limit < calm


def test_aimd_adds_four_and_takes_a_fifth() -> None:
    assert fed(Aimd(), window(0, ttft=0.1, n=10)).limit == 36
    assert fed(Aimd(), window(0, ttft=1.1, n=10)).limit == pytest.approx(25.6)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Fixed(0),
        lambda: TwoSignal(floor=0),
        lambda: TwoSignal(start=3, floor=4),
        lambda: Aimd(ceiling=8),
        lambda: Gradient2(start=500),
        lambda: Slo(ttft=0),
        lambda: Slo(tpot=math.inf),
    ],
)
def test_numbers_that_cannot_work_are_refused(make: Any) -> None:
    with pytest.raises(ValueError, match=r"must be|needs"):
        make()


def test_each_window_needs_a_second_of_its_own() -> None:
    once = fed(TwoSignal(), window(0, ttft=0.05, tpot=0.02))
    burst = [Sample(1.01 + number / 1000, 999, ttft=0.05) for number in range(50)]
    assert fed(once, burst).limit == once.limit


def test_one_slow_window_after_fast_ones_counts_half_and_a_second_one_counts() -> None:
    fast, slow = 0.6 * 0.92 * 0.05, 1.3 * 0.92 * 0.05
    state = TwoSignal()
    for number in range(4):
        state = fed(state, window(number * 1.01, ttft=0.05, tpot=fast))
    after_one = fed(state, window(4.04, ttft=0.05, tpot=slow))
    assert after_one.limit == state.limit  # (750 · 0.6 + 800 · 1.3) / 1550 = 0.96
    assert fed(after_one, window(5.05, ttft=0.05, tpot=slow)).limit < state.limit
