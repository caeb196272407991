from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrails.testing import FakeClock
from guardrails.testing.engine import Batcher, Engine, StepModel, plan

sequences = st.lists(st.tuples(st.integers(1, 3000), st.integers(1, 20)), min_size=1, max_size=12)


def nothing() -> None:
    pass


def test_a_step_costs_what_the_model_says() -> None:
    model = StepModel(base_ms=17, per_sequence_ms=0.17, per_prefill_token_ms=0.07)
    assert plan(model, [0] * 100).seconds == pytest.approx(0.034)
    assert plan(model, [1000]).seconds == pytest.approx(0.087)
    assert plan(model, [0, 0, 100]).seconds == pytest.approx((17 + 0.34 + 7) / 1000)


@given(st.lists(st.integers(0, 5000), max_size=50), st.integers(1, 4096))
def test_a_step_reads_in_order_and_within_its_chunk(unread: list[int], size: int) -> None:
    planned = plan(StepModel(prefill_chunk=size), unread)
    assert sum(planned.prefill) <= max(1, size - unread.count(0))
    assert all(0 <= read <= left for read, left in zip(planned.prefill, unread, strict=True))
    short = [n for n, (read, left) in enumerate(zip(planned.prefill, unread, strict=True)) if read < left]
    assert all(planned.prefill[n] == 0 for n in short[1:])


@given(sequences, st.integers(1, 8), st.integers(1, 2048))
def test_everybody_gets_all_tokens_and_nobody_more(
    wanted: list[tuple[int, int]], batch: int, size: int
) -> None:
    engine = Engine(StepModel(max_batch=batch, prefill_chunk=size))
    tickets = [engine.submit(prompt, output, nothing) for prompt, output in wanted]
    got = dict.fromkeys(tickets, 0)
    while (step := engine.step()) is not None:
        assert len(engine.running) <= batch
        assert step[0] > 0
        for ticket in step[1]:
            got[ticket] += 1
    assert list(got.values()) == [output for _, output in wanted]


def test_a_full_queue_turns_away() -> None:
    engine = Engine(StepModel(max_batch=2, max_queue=1))
    assert [engine.submit(1, 5, nothing) is None for _ in range(4)] == [False, False, False, True]
    engine.step()
    assert engine.submit(1, 5, nothing) is None
    engine.waiting[0].cancel()
    assert engine.submit(1, 5, nothing) is not None


def test_a_batch_without_queue_still_serves() -> None:
    engine = Engine(StepModel(max_batch=1, max_queue=0))
    assert engine.submit(1, 1, nothing) is not None
    assert engine.submit(1, 1, nothing) is None


def test_a_long_prompt_slows_down_the_tokens_of_others() -> None:
    alone, crowded = Engine(StepModel()), Engine(StepModel())
    for engine in (alone, crowded):
        engine.submit(1, 3, nothing)
        engine.step()
    crowded.submit(4000, 1, nothing)
    first, second = alone.step(), crowded.step()
    assert first is not None
    assert second is not None
    assert second[0] > 5 * first[0]


def test_the_batcher_calls_at_the_end_of_each_step() -> None:
    clock, seen = FakeClock(), []
    batcher = Batcher(Engine(StepModel(base_ms=100, per_sequence_ms=0, per_prefill_token_ms=0)), clock)
    batcher.submit(10, 3, lambda: seen.append(("a", round(clock.now(), 6))))
    clock.advance(0.15)
    batcher.submit(10, 1, lambda: seen.append(("b", round(clock.now(), 6))))
    clock.advance(10)
    assert seen == [("a", 0.1), ("a", 0.2), ("a", 0.3), ("b", 0.3)]
    assert clock.pending == 0


def test_the_batcher_has_one_timer_however_many_streams() -> None:
    clock = FakeClock()
    batcher = Batcher(Engine(StepModel()), clock)
    for _ in range(50):
        batcher.submit(10, 100, nothing)
    assert clock.pending == 1
    clock.advance(1)
    assert clock.pending == 1
    batcher.close()
    assert clock.pending == 0


def test_a_cancelled_sequence_gets_nothing_more_and_makes_room() -> None:
    clock, seen = FakeClock(), []
    batcher = Batcher(
        Engine(StepModel(base_ms=100, per_sequence_ms=0, per_prefill_token_ms=0, max_batch=1)), clock
    )
    first = batcher.submit(1, 100, lambda: seen.append("first"))
    batcher.submit(1, 1, lambda: seen.append("second"))
    clock.advance(0.15)
    assert first is not None
    first.cancel()
    clock.advance(1)
    assert seen == ["first", "second"]


@pytest.mark.parametrize("wrong", [{"max_batch": 0}, {"base_ms": -1}, {"prefill_chunk": 0}])
def test_an_impossible_engine_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="engine's"):
        StepModel(**wrong)
