"""One record per call, whatever happens to it, and figures that follow their definitions."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import math
import os
import threading
from dataclasses import replace
from decimal import Context, Decimal, localcontext
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrails import (
    Blocked,
    Call,
    CallRecord,
    ConfigError,
    Delta,
    Finish,
    GuardrailsError,
    Interrupted,
    JsonlSink,
    Llm,
    Opaque,
    Request,
    Transient,
    Usage,
    build,
    collect,
)
from guardrails.call import Event
from guardrails.record import Meter, fold
from guardrails.testing import FakeClock, Script, ScriptedEndpoint

METER = Meter(
    count=lambda text, _: (len(text.split()), "estimate"),
    count_prompt=lambda request, _: (sum(len(m.text.split()) for m in request.messages), "estimate"),
    price=lambda model, usage: None if not model else Decimal(usage.output_tokens) / 1000,
    price_version="test",
)
PROMPT = "my own secret words"


async def run(script: Script | Exception, clock: FakeClock | None = None, **fields: object) -> CallRecord:
    clock = clock or FakeClock()
    records: list[CallRecord] = []
    llm = Llm(ScriptedEndpoint(script, name="e", model="m"), sinks=(records.append,), meter=METER)
    call = Call(Request.of(PROMPT), clock=clock, **fields)  # type: ignore[arg-type]
    with contextlib.suppress(GuardrailsError):
        await clock.run(collect(llm, call))
    assert len(records) == 1, "exactly one record"
    assert call.journal.record is records[0]
    return records[0]


@pytest.mark.asyncio
async def test_the_times_of_a_plain_answer() -> None:
    clock = FakeClock(now=100.0)
    usage = Usage(10, 5, cached_tokens=4)
    got = await run(Script("a b c d e", ttft=0.2, tpot=0.05, usage=usage), clock, arrived=99.5)
    assert got.queue_ms == pytest.approx(500)
    assert got.ttft_ms == pytest.approx(700)
    assert got.ttfot_ms == pytest.approx(700)
    assert got.attempt_ttft_ms == pytest.approx(200)
    assert got.released_ms == pytest.approx(700)
    assert got.decode_ms == pytest.approx(200)
    assert got.tpot_ms == pytest.approx(50)
    assert got.e2e_ms == pytest.approx(950), "the finish comes one gap after the last token"
    assert got.icl_ms is not None
    assert (got.icl_ms.n, got.icl_ms.p50, got.icl_ms.max) == (4, pytest.approx(50), pytest.approx(50))
    assert (got.input_tokens, got.output_tokens, got.cached_tokens, got.token_source) == (10, 5, 4, "usage")
    assert got.cost_usd == Decimal("0.005")
    assert (got.outcome, got.finish_reason, got.error) == ("complete", "stop", None)
    assert len(got.attempts) == 1


@pytest.mark.asyncio
async def test_the_empty_role_chunk_is_not_a_first_token() -> None:
    events: list[Event] = [Opaque({"role": "assistant"}), Delta(""), Delta("a"), Delta("b"), Finish("stop")]
    got = await run(Script(events, ttft=0.1, tpot=0.1, finish=None))
    assert got.ttft_ms == pytest.approx(300)


@pytest.mark.asyncio
async def test_reasoning_counts_for_ttft_and_not_for_ttfot() -> None:
    events: list[Event] = [Delta("hm", "reasoning"), Delta("a"), Finish("stop")]
    got = await run(Script(events, ttft=0.1, tpot=0.4, finish=None))
    assert (got.ttft_ms, got.ttfot_ms) == (pytest.approx(100), pytest.approx(500))


@pytest.mark.asyncio
async def test_reasoning_tokens_that_were_never_streamed_do_not_speed_up_tpot() -> None:
    usage = Usage(10, 104, reasoning_tokens=100)
    got = await run(Script("a b c d", ttft=1, tpot=0.1, usage=usage))
    assert got.tpot_ms == pytest.approx(100)


@pytest.mark.asyncio
async def test_a_single_chunk_has_no_tpot() -> None:
    assert (await run(Script("a"))).tpot_ms is None
    whole = await run(Script([Delta("a b c d"), Finish("stop", Usage(1, 4))], finish=None))
    assert whole.tpot_ms is None


@pytest.mark.asyncio
async def test_tokens_are_counted_when_nobody_reports_them() -> None:
    got = await run(Script("one two three"))
    assert (got.input_tokens, got.output_tokens, got.token_source) == (4, 3, "estimate")


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("script", "outcome", "error", "cost"),
    [
        (Transient("x", kind="connect"), "failed", "connect", Decimal(0)),
        (Transient("x", kind="timeout_first_event"), "failed", "timeout_first_event", None),
        (Blocked("x"), "rejected", "blocked", None),
        (
            Script("a b c", fail_after=2, error=Interrupted("x", kind="reset")),
            "failed",
            "reset",
            Decimal("0.002"),
        ),
    ],
)
async def test_failures_leave_a_record_too(
    script: Script | Exception, outcome: str, error: str, cost: Decimal | None
) -> None:
    got = await run(script)
    assert (got.outcome, got.error, got.cost_usd) == (outcome, error, cost)


@pytest.mark.asyncio
async def test_cancelled_and_abandoned_calls_leave_a_record() -> None:
    clock, records = FakeClock(), []
    llm = Llm(ScriptedEndpoint(Script("a b", tpot=math.inf)), sinks=(records.append,), meter=METER)
    task = asyncio.ensure_future(collect(llm, Call(Request.of("x"), clock=clock)))
    await clock.settle()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with llm(Call(Request.of("x"), clock=clock)) as stream:
        async for _ in stream:
            break
    with pytest.raises(KeyError):
        async with llm(Call(Request.of("x"), clock=clock)):
            raise KeyError("the consumer's own")
    assert [record.outcome for record in records] == ["cancelled", "abandoned", "abandoned"]


@pytest.mark.asyncio
async def test_leaving_after_the_finish_is_complete() -> None:
    records: list[CallRecord] = []
    llm = Llm(ScriptedEndpoint("a b"), sinks=(records.append,), meter=METER)
    async with llm(Call(Request.of("x"), clock=FakeClock())) as stream:
        async for event in stream:
            if isinstance(event, Finish):
                break
    assert records[0].outcome == "complete"


@pytest.mark.asyncio
async def test_a_sink_that_fails_does_not_fail_the_call(caplog: pytest.LogCaptureFixture) -> None:
    def broken(_: CallRecord) -> None:
        raise OSError("disk full")

    kept: list[CallRecord] = []
    llm = Llm(ScriptedEndpoint("fine"), sinks=(broken, kept.append), meter=METER, clock=FakeClock())
    assert (await llm.ask("x")).text == "fine"
    assert len(kept) == 1
    assert "the calls themselves are not affected" in caplog.text


class Failing:
    """A sink of somebody else's: its place cannot be asked for."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    @property
    def path(self) -> str:
        raise RuntimeError("a secret")

    def __call__(self, _: CallRecord) -> None:
        raise self.error


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "a secret"), os.strerror(errno.ENOSPC)),
        (OSError(10**9, "a secret"), "OSError at test_record.py:"),
        (OSError("a secret", "a secret"), "OSError at test_record.py:"),
        (OSError("a secret"), "OSError at test_record.py:"),
        (ValueError("a secret"), "ValueError at test_record.py:"),
    ],
)
async def test_a_sinks_own_words_and_attributes_neither_fail_the_call_nor_reach_the_log(
    error: Exception, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    llm = Llm(ScriptedEndpoint("fine"), sinks=(Failing(error),), meter=METER, clock=FakeClock())
    assert (await llm.ask("x")).text == "fine"
    assert f"a record sink failed (Failing: {said}" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.asyncio
async def test_lost_records_are_counted_and_told_of_once_a_minute(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def mine(_: CallRecord) -> None:
        raise ValueError("a secret")

    clock = FakeClock()
    sinks = (JsonlSink(tmp_path), mine)
    llm = Llm(ScriptedEndpoint("fine"), sinks=sinks, meter=METER, clock=clock)
    for _ in range(5):
        await llm.ask("x")
    clock.advance(60.0)
    await llm.ask("x")
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 4, "two sinks, two minutes"
    assert f"({tmp_path}: Is a directory): 1 record was lost" in said[0]
    assert "5 records were lost" in said[2]
    assert "(mine: ValueError at test_record.py:" in said[1]
    assert "secret" not in caplog.text
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("make", [Path.mkdir, None])
def test_records_that_cannot_be_written_are_found_when_the_policy_is_read(
    make: object, tmp_path: Path
) -> None:
    path = tmp_path / "calls.jsonl"
    if make is None:
        path.write_text("")
        path = path / "deeper" / "calls.jsonl"
    else:
        path.mkdir()
    with pytest.raises(ConfigError, match=r"records.*calls\.jsonl.*directory"):
        build({"url": "http://h/v1", "records": str(path)})


def test_a_pipe_without_a_reader_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    policy = {"url": "http://h/v1", "model": "m", "records": str(path)}
    building = threading.Thread(target=build, args=(policy,), daemon=True)
    building.start()
    building.join(10.0)
    waits = building.is_alive()
    os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))  # lets it go on, for the tests that follow
    assert not waits


def test_a_full_device_is_found_and_a_good_place_is_left_alone(tmp_path: Path) -> None:
    if Path("/dev/full").exists():
        with pytest.raises(ConfigError, match="no space left"):
            JsonlSink("/dev/full").check()
    JsonlSink(tmp_path / "new" / "calls.jsonl").check()
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_the_right_to_write_is_found(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ConfigError, match="permission denied"):
        JsonlSink(tmp_path / "calls.jsonl").check()


@pytest.mark.asyncio
async def test_records_and_reprs_hold_neither_prompt_nor_answer(tmp_path: Path) -> None:
    sink = JsonlSink(tmp_path / "deep" / "calls.jsonl")
    llm = Llm(ScriptedEndpoint("an answer of secret kind"), sinks=(sink,), meter=METER, clock=FakeClock())
    answer = await llm.ask(PROMPT)
    await llm.ask(PROMPT)
    lines = sink.path.read_bytes().splitlines()
    assert [orjson.loads(line)["outcome"] for line in lines] == ["complete", "complete"]
    call = Call(Request.of(PROMPT))
    everything = f"{lines}{answer!r}{call!r}{call.request!r}{Delta('secret')!r}"
    assert "secret" not in everything


def test_a_record_names_each_of_its_fields_once() -> None:
    assert len(set(CallRecord.names())) == len(CallRecord.names())


def test_no_caller_rounds_the_waste_with_a_coarse_decimal_context() -> None:
    call = Call(Request.of("x"), clock=FakeClock(), arrived=0.0)
    for cost in ("0.123456", "1234.5", "7"):
        attempt = call.journal.attempt("e", "m")
        attempt.log.append((0.0, Finish("stop", Usage(1, 1, cost=Decimal(cost)))))
    meter = replace(METER, price=lambda _model, usage: usage.cost)
    with localcontext(Context(prec=4)):
        got = fold(call, meter, at=call.clock.wall(), ended=1.0, outcome="complete")
    assert (got.cost_usd, got.wasted_usd) == (Decimal(7), Decimal("1234.623456"))


gaps = st.lists(st.floats(0, 5), min_size=1, max_size=20)


@given(gaps=gaps, queue=st.floats(0, 5))
def test_the_parts_add_up(gaps: list[float], queue: float) -> None:
    call = Call(Request.of("x"), clock=FakeClock(), arrived=0.0)
    attempt = call.journal.attempt("e", "m")
    now = queue
    attempt.note(now, "sent")
    for gap in gaps:
        now += gap
        attempt.log.append((now, Delta("w ")))
    attempt.log.append((now, Finish("stop", Usage(1, len(gaps)))))
    attempt.note(now, "ended", None)
    got = fold(call, METER, at=call.clock.wall(), ended=now + 9, outcome="complete")
    assert got.queue_ms is not None
    assert got.attempt_ttft_ms is not None
    assert got.ttft_ms is not None
    assert got.decode_ms is not None
    assert got.ttft_ms == pytest.approx(got.queue_ms + got.attempt_ttft_ms, abs=1e-3)
    assert got.e2e_ms == pytest.approx(got.ttft_ms + got.decode_ms, abs=1e-3)
    if got.tpot_ms is not None:
        assert got.tpot_ms <= got.decode_ms + 1e-3
    if got.icl_ms is not None:
        assert got.icl_ms.p50 <= got.icl_ms.p90 <= got.icl_ms.p99 <= got.icl_ms.max
