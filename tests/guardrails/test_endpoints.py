"""Function and replay endpoints."""

from __future__ import annotations

import traceback
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrails import (
    Call,
    ConfigError,
    Delta,
    Finish,
    Interrupted,
    Message,
    Refused,
    Request,
    Response,
    Sampling,
    Text,
    ToolHead,
    Transient,
    Truncated,
    Usage,
    collect,
    endpoint,
    stack,
)
from guardrails.call import fold_response
from guardrails.endpoints.function import Function, FunctionEndpoint
from guardrails.endpoints.replay import Replay, Tape, fingerprint
from guardrails.testing import FakeClock, Script, ScriptedEndpoint

ASK = Request.of("hi")


async def answer(function: Function) -> Response:
    return await collect(FunctionEndpoint(function), Call(ASK, clock=FakeClock()))


@pytest.mark.asyncio
async def test_an_async_function_gives_a_whole_answer() -> None:
    async def text(request: Request) -> str:
        return f"you said {request.messages[0].parts[0].text}"  # type: ignore[union-attr]

    got = await answer(text)
    assert got.text == "you said hi"
    assert got.choices[0].finish_reason == "stop"

    async def response(_: Request) -> Response:
        return got

    assert await answer(response) == got


@pytest.mark.asyncio
async def test_an_async_generator_streams_text() -> None:
    async def pieces(_: Request) -> AsyncIterator[str]:
        yield "a"
        yield ""
        yield "b"

    call = Call(ASK, clock=FakeClock())
    async with FunctionEndpoint(pieces)(call) as stream:
        assert [event async for event in stream] == [Delta("a"), Delta("b"), Finish("stop")]


@pytest.mark.asyncio
@pytest.mark.parametrize("function", [lambda _: "an answer", lambda _: (piece for piece in "abc")])
async def test_a_function_that_is_not_async_is_told_so(function: Any) -> None:
    with pytest.raises(ConfigError, match="async def"):
        await answer(function)


@pytest.mark.parametrize("target", [42, None, ["http://a/v1"]])
def test_what_cannot_be_called_is_no_endpoint(target: Any) -> None:
    with pytest.raises(ConfigError, match="async def"):
        endpoint(target)


@pytest.mark.asyncio
async def test_events_without_a_finish_are_truncated() -> None:
    async def cut(_: Request) -> AsyncIterator[Delta]:
        yield Delta("half an ans")

    with pytest.raises(Truncated, match="without a Finish"):
        await answer(cut)


@pytest.mark.asyncio
async def test_the_functions_own_errors_are_wrapped_without_their_text() -> None:
    async def broken(_: Request) -> str:
        raise ValueError("secret prompt: jane@example.com")

    async def unreachable(_: Request) -> str:
        raise ConnectionRefusedError

    async def later(_: Request) -> AsyncIterator[str]:
        yield "a"
        raise ValueError("secret")

    with pytest.raises(Refused, match="ValueError") as caught:
        await answer(broken)
    assert "test_endpoints.py:" in str(caught.value), "the place is named"
    assert "jane" not in "".join(traceback.format_exception(caught.value))
    with pytest.raises(Transient):
        await answer(unreachable)
    with pytest.raises(Interrupted):
        await answer(later)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (42, "the function returned a value of type int, which is no answer"),
        (None, "the function returned None, which is no answer"),
        ({"text": "hi"}, "the function returned a value of type dict, which is no answer"),
        (["hi"], "the function returned a list with a value of type str, which is no event"),
    ],
)
@pytest.mark.asyncio
async def test_what_is_no_answer_is_named_by_its_type(given: Any, said: str) -> None:
    async def odd(_: Request) -> Any:
        return given

    async def later(_: Request) -> AsyncIterator[Any]:
        yield "yes"
        yield given

    with pytest.raises(Refused) as found:
        await answer(odd)
    assert found.value.message == said
    assert "it returns a str, a guardrails.Response or a list of events" in found.value.hint
    with pytest.raises(Interrupted, match=r"the function yielded .*, which is no event"):
        await answer(later)


@pytest.mark.asyncio
async def test_an_early_break_closes_the_generator() -> None:
    closed = []

    async def pieces(_: Request) -> AsyncIterator[str]:
        try:
            while True:
                yield "x"
        finally:
            closed.append(True)

    async with FunctionEndpoint(pieces)(Call(ASK, clock=FakeClock())) as stream:
        async for _ in stream:
            break
    assert closed == [True]


# --- replay


@pytest.mark.asyncio
async def test_a_tape_plays_again_what_it_heard(tmp_path: Path) -> None:
    usage = Usage(3, 2, cost=Decimal("0.0001"))
    events = [
        Delta("think", "reasoning"),
        Delta("Hello", "text"),
        Delta("{}", "tool:0", tool=ToolHead("id", "f")),
        Finish("stop"),
        Finish(None, usage),
    ]
    clock = FakeClock()
    tape = Tape(tmp_path / "tape.jsonl")
    endpoint = ScriptedEndpoint(Script(events, ttft=1, tpot=0.5, finish=None), "second")
    recorded = stack(endpoint, tape)
    first = await clock.run(collect(recorded, Call(ASK, clock=clock)))
    second = await clock.run(collect(recorded, Call(ASK, clock=clock)))

    replay = Replay.load(tape.path, timed=True)
    started = clock.now()
    assert await clock.run(collect(replay, Call(ASK, clock=clock))) == first
    assert clock.now() - started == pytest.approx(3.0), "at the recorded pace"
    assert await clock.run(collect(replay, Call(ASK, clock=clock))) == second
    assert await clock.run(collect(replay, Call(ASK, clock=clock))) == first, "and over again"
    assert "hi" not in tape.path.read_text().replace("think", ""), "prompts are kept as fingerprints only"


@pytest.mark.asyncio
async def test_an_answer_that_broke_is_not_recorded(tmp_path: Path) -> None:
    tape = Tape(tmp_path / "tape.jsonl")
    with pytest.raises(Interrupted):
        await collect(
            stack(ScriptedEndpoint(Script("a b c", fail_after=2)), tape), Call(ASK, clock=FakeClock())
        )
    assert not tape.path.exists()


@pytest.mark.asyncio
async def test_an_unrecorded_request_is_refused() -> None:
    with pytest.raises(Refused, match="no answer to this request"):
        await collect(Replay({}), Call(ASK, clock=FakeClock()))


def test_a_broken_tape_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / "tape.jsonl"
    path.write_text('\n{"key": "k", "events": [[0, {"nothing": 1}]]}\n')
    with pytest.raises(ConfigError, match=r"tape\.jsonl:2"):
        Replay.load(path)


@given(st.text(), st.text(), st.integers(1, 9))
def test_a_fingerprint_sees_every_part_that_shapes_the_answer(one: str, two: str, tokens: int) -> None:
    base = Request((Message.of("user", one),), sampling=Sampling(max_tokens=tokens))
    same = Request(
        (Message("user", (Text(one),), form="list"),), sampling=Sampling(max_tokens=tokens), stream=False
    )
    assert fingerprint(base) == fingerprint(same)
    other = Request((Message.of("user", two),), sampling=Sampling(max_tokens=tokens))
    assert (fingerprint(base) == fingerprint(other)) == (one == two)
    assert fingerprint(base) != fingerprint(Request(base.messages, sampling=Sampling(max_tokens=tokens + 1)))


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["text", "reasoning", "refusal", "tool:0", "tool:1"]),
            st.text(),
            st.integers(0, 2),
        )
    )
)
def test_collecting_does_not_depend_on_how_text_was_cut(pieces: list[tuple[str, str, int]]) -> None:
    whole = [Delta(text, channel, choice) for channel, text, choice in pieces]
    cut = [
        Delta(char, channel, choice)
        for channel, text, choice in pieces
        for char in (text or " ")[: len(text)] or [""]
    ]
    assert fold_response(whole) == fold_response(cut)
