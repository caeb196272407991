"""An opening that finds out while it is entered which other one it will be."""

from __future__ import annotations

import pytest

from guardrails import Call, Handler, Request, Transient, collect
from guardrails.flow.entering import Kept
from guardrails.handler import Stream
from guardrails.testing import FakeClock, ScriptedEndpoint


def call() -> Call:
    return Call(Request.of("hi"), clock=FakeClock())


@pytest.mark.asyncio
async def test_it_is_the_opening_that_was_chosen() -> None:
    endpoint = ScriptedEndpoint("chosen")
    assert (
        await collect(lambda asked: Kept(lambda kept: kept.enter(endpoint(asked))), call())
    ).text == "chosen"
    assert (endpoint.opened, endpoint.active) == (1, 0)


@pytest.mark.asyncio
async def test_what_ends_the_block_ends_the_opening() -> None:
    endpoint = ScriptedEndpoint("chosen")

    async def broken() -> None:
        async with Kept(lambda kept: kept.enter(endpoint(call()))):
            assert endpoint.active == 1
            raise KeyError

    with pytest.raises(KeyError):
        await broken()
    assert endpoint.active == 0


@pytest.mark.asyncio
async def test_an_error_after_entering_closes_what_was_entered() -> None:
    endpoint = ScriptedEndpoint("chosen")

    async def choose(kept: Kept) -> Stream:
        await kept.enter(endpoint(call()))
        assert endpoint.active == 1
        raise KeyError

    with pytest.raises(KeyError):
        await Kept(choose).__aenter__()
    assert (endpoint.opened, endpoint.active) == (1, 0)


@pytest.mark.asyncio
async def test_an_error_before_entering_is_raised_as_it_is() -> None:
    endpoint = ScriptedEndpoint(Transient("busy", kind="unavailable"))
    with pytest.raises(Transient, match="busy"):
        await Kept(lambda kept: kept.enter(endpoint(call()))).__aenter__()
    assert endpoint.active == 0


@pytest.mark.asyncio
async def test_one_that_was_left_is_closed_before_the_next_is_entered() -> None:
    endpoint = ScriptedEndpoint("first", "second")
    handler: Handler = endpoint

    async def choose(kept: Kept) -> Stream:
        await kept.enter(handler(call()))
        await kept.leave()
        assert endpoint.active == 0
        return await kept.enter(handler(call()))

    async with Kept(choose):
        assert (endpoint.opened, endpoint.active) == (2, 1)
    assert endpoint.active == 0
