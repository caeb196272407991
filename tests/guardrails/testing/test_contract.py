"""The contract catches the layers that it is there to catch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import pytest

from guardrails.call import Call, Delta
from guardrails.errors import Shed
from guardrails.handler import Handler, Stream
from guardrails.testing.contract import LAYER_CASES, check_layer


@asynccontextmanager
async def plain(call: Call, inner: Handler) -> AsyncGenerator[Stream]:
    async with inner(call) as stream:
        yield stream


@asynccontextmanager
async def never_closes(call: Call, inner: Handler) -> AsyncGenerator[Stream]:
    opening = inner(call)
    never_closes.kept.append(opening)  # type: ignore[attr-defined]
    yield await opening.__aenter__()


never_closes.kept = []  # type: ignore[attr-defined]


@asynccontextmanager
async def swallows(call: Call, inner: Handler) -> AsyncGenerator[Stream]:
    async def nothing() -> Stream:
        for _ in ():
            yield Delta("")

    entered = False
    with suppress(Exception, asyncio.CancelledError):
        async with inner(call) as stream:
            entered = True
            yield stream
    if not entered:
        yield nothing()


@asynccontextmanager
async def translates(call: Call, inner: Handler) -> AsyncGenerator[Stream]:
    try:
        async with inner(call) as stream:
            yield stream
    except Exception as error:
        raise Shed("something") from error


@dataclass
class Drops:
    kind: type

    @asynccontextmanager
    async def __call__(self, call: Call, inner: Handler) -> AsyncGenerator[Stream]:
        async with inner(call) as stream:
            yield (event async for event in stream if not isinstance(event, self.kind))


@pytest.mark.asyncio
@pytest.mark.parametrize("case", LAYER_CASES)
async def test_a_layer_that_only_passes_on_keeps_it(case: str) -> None:
    await check_layer(plain, case)


@pytest.mark.asyncio
@pytest.mark.parametrize("case", [case for case in LAYER_CASES if "entering" not in case])
async def test_a_stream_left_open_is_seen(case: str) -> None:
    with pytest.raises(AssertionError, match="close"):
        await check_layer(never_closes, case)
    for opening in never_closes.kept:  # type: ignore[attr-defined]
        await opening.__aexit__(None, None, None)
    never_closes.kept.clear()  # type: ignore[attr-defined]


@pytest.mark.asyncio
@pytest.mark.parametrize("case", [case for case in LAYER_CASES if "error" in case or "cancel" in case])
async def test_a_swallowed_error_is_seen(case: str) -> None:
    with pytest.raises(AssertionError, match="became None"):
        await check_layer(swallows, case)


@pytest.mark.asyncio
@pytest.mark.parametrize("case", [case for case in LAYER_CASES if "error" in case])
async def test_a_changed_error_is_seen(case: str) -> None:
    with pytest.raises(AssertionError, match="became Shed"):
        await check_layer(translates, case)


@pytest.mark.asyncio
async def test_lost_text_is_seen() -> None:
    with pytest.raises(AssertionError, match="whole"):
        await check_layer(Drops(Delta), "success")
