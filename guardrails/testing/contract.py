"""What every `Layer` owes to what is around it, as cases that a test runs on yours.

::

    @pytest.mark.asyncio
    @pytest.mark.parametrize("case", LAYER_CASES)
    async def test_my_layer_keeps_the_contract(case):
        await check_layer(MyLayer(), case)

A layer closes each inner stream that it opened exactly once, however the call ends; it lets errors through
as they are, the consumer's as well as the endpoint's; it does not keep the answer's text or its end. Not
covered: what your layer is for, and layers that answer without their inner handler.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

from guardrails.call import Call, Delta, Event, Finish, Request, Response, Usage, fold_response
from guardrails.errors import Interrupted, Refused
from guardrails.handler import Handler, Layer, Stream, stack

_TEXT = "All is well, and nobody has anything to hide in these quite ordinary words."
_ANSWER = Response(fold_response([Delta(_TEXT), Finish("stop")]).choices, Usage(3, 4))


class _Probe:
    """An endpoint that counts what is opened and closed, and can fail or hang at an event."""

    def __init__(self, *, fail_at: int = -1, hang_at: int = -1) -> None:
        self.fail_at, self.hang_at = fail_at, hang_at
        self.opened = self.closed = 0
        self.hanging = asyncio.Event()
        self.error = Refused("no") if fail_at == 0 else Interrupted("cut")

    @asynccontextmanager
    async def __call__(self, call: Call) -> AsyncGenerator[Stream]:
        self.opened += 1
        try:
            await self._meet(0)
            yield self._events()
        finally:
            self.closed += 1

    async def _events(self) -> AsyncGenerator[Event]:
        words = _TEXT.split(" ")
        for number, word in enumerate(words):
            await self._meet(number + 1)
            yield Delta(f" {word}" if number else word)
        yield Finish("stop")
        yield Finish(None, Usage(3, 4))

    async def _meet(self, event: int) -> None:
        if event == self.fail_at:
            raise self.error
        if event == self.hang_at:
            self.hanging.set()
            await asyncio.Event().wait()


def _call() -> Call:
    return Call(Request.of("How are things?"))


async def _drain(handler: Handler) -> list[Event]:
    async with handler(_call()) as stream:
        return [event async for event in stream]


async def _seen(work: Awaitable[object]) -> BaseException | None:
    try:
        await work
    except (Exception, asyncio.CancelledError) as error:
        return error
    return None


async def _success(layer: Layer, probe: _Probe) -> None:
    response = fold_response(await _drain(stack(probe, layer)))
    assert response == _ANSWER, "the answer has to arrive whole, with its end and its usage"


async def _error(layer: Layer, probe: _Probe) -> None:
    seen = await _seen(_drain(stack(probe, layer)))
    assert type(seen) is type(probe.error), f"the endpoint's {probe.error!r} became {seen!r}"


async def _early_break(layer: Layer, probe: _Probe) -> None:
    async with stack(probe, layer)(_call()) as stream:
        async for _ in stream:
            break
    assert probe.closed == probe.opened, "an early break has to close the inner stream at once"


async def _unread(layer: Layer, probe: _Probe) -> None:
    async with stack(probe, layer)(_call()):
        pass


async def _consumer_error(layer: Layer, probe: _Probe) -> None:
    mine = ZeroDivisionError("the consumer's own")

    async def consume() -> None:
        async with stack(probe, layer)(_call()) as stream:
            await anext(stream)
            raise mine

    seen = await _seen(consume())
    assert seen is mine, f"the consumer's error became {seen!r}"


async def _cancellation(layer: Layer, probe: _Probe) -> None:
    task = asyncio.create_task(_drain(stack(probe, layer)))
    await probe.hanging.wait()
    task.cancel()
    seen = await _seen(task)
    assert isinstance(seen, asyncio.CancelledError), f"the cancellation became {seen!r}"


_Check = Callable[[Layer, _Probe], Awaitable[None]]
_CASES: dict[str, tuple[_Check, int, int]] = {  # the check; where the endpoint fails; where it hangs
    "success": (_success, -1, -1),
    "error while entering": (_error, 0, -1),
    "error in the stream": (_error, 4, -1),
    "early break": (_early_break, -1, -1),
    "left unread": (_unread, -1, -1),
    "error of the consumer": (_consumer_error, -1, -1),
    "cancelled while entering": (_cancellation, -1, 0),
    "cancelled in the stream": (_cancellation, -1, 4),
}

LAYER_CASES = tuple(_CASES)
"""The names of the cases, for a parametrized test."""


async def check_layer(layer: Layer, case: str) -> None:
    """Run one case on the layer. Raises `AssertionError` with the promise that was broken."""
    check, fail_at, hang_at = _CASES[case]
    probe = _Probe(fail_at=fail_at, hang_at=hang_at)
    await check(layer, probe)
    assert probe.opened, "the layer never opened its inner handler"
    assert probe.closed == probe.opened, f"opened {probe.opened} inner streams, closed {probe.closed}"
