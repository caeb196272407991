"""The one shape that everything has.

A `Handler` opens a stream of events for a call; a `Layer` is a handler's wrapper; `stack` puts layers around
an endpoint. **Entering succeeds when the first event has arrived**: everything that may be tried again
happens while entering, everything irrevocable happens in the body. Permits, connections and verdicts are
lexical `async with` blocks, so that an early `break` and a cancellation release them.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import wraps
from types import TracebackType
from typing import ParamSpec, Protocol

from guardrails.call import Call, Event, Response, fold_response

Stream = AsyncIterator[Event]
Opening = AbstractAsyncContextManager[Stream]
Handler = Callable[[Call], Opening]
P = ParamSpec("P")


class Layer(Protocol):
    """Something around a handler: look at the call, open the inner stream (or refuse to), pass it on."""

    def __call__(self, call: Call, inner: Handler, /) -> Opening:
        """Open the stream for `call` through `inner`."""


def stack(endpoint: Handler, *layers: Layer) -> Handler:
    """Put `layers` around `endpoint`; the first one is outermost."""
    handler = endpoint
    for layer in reversed(layers):
        handler = _around(layer, handler)
    return handler


def _around(layer: Layer, inner: Handler) -> Handler:
    return lambda call: layer(call, inner)


def opening(body: Callable[P, AsyncGenerator[Stream]]) -> Callable[P, Opening]:
    """Make an `Opening` of a function that yields its stream once, as `asynccontextmanager` does.

    Every layer of every call goes through here, and this is a third cheaper: no object but the generator is
    kept, and entering makes no coroutine of its own.
    """

    @wraps(body)
    def opened(*args: P.args, **kwargs: P.kwargs) -> Opening:
        return _Body(body(*args, **kwargs))

    return opened


class _Body(AbstractAsyncContextManager[Stream]):
    """A generator that yields one stream, as a context manager."""

    __slots__ = ("_body",)

    def __init__(self, body: AsyncGenerator[Stream]) -> None:
        self._body = body

    def __aenter__(self) -> Awaitable[Stream]:  # type: ignore[override] # all that `async with` needs
        return anext(self._body)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> bool:
        if error is None:
            try:
                await anext(self._body)
            except StopAsyncIteration:
                return False
            raise RuntimeError("a layer yields one stream")
        try:
            await self._body.athrow(error)
        except StopAsyncIteration as stop:
            return stop is not error  # else it is the caller's own, and goes on
        except BaseException as raised:
            # A generator cannot raise these two; where one comes from the caller it goes on as it was.
            ends = isinstance(error, StopIteration | StopAsyncIteration)
            if raised is not error and not (ends and raised.__cause__ is error):
                raise
            error.__traceback__ = tb
            return False
        raise RuntimeError("a layer yields one stream, and ends with the error that it is told")


async def collect(handler: Handler, call: Call) -> Response:
    """Run the call to its end and return the whole answer."""
    async with handler(call) as stream:
        return fold_response([event async for event in stream])


def warm_all(*things: object) -> None:
    """`warm()` of each thing that has one: what its first call would wait for is loaded now."""
    for thing in things:
        warm: Callable[[], object] | None = getattr(thing, "warm", None)
        if warm is not None:
            warm()


async def close_all(*things: object) -> None:
    """`aclose()` of each thing that has one, the later ones even if an earlier one fails."""
    failed: Exception | None = None
    for thing in things:
        close: Callable[[], Awaitable[None]] | None = getattr(thing, "aclose", None)
        if close is not None:
            try:
                await close()
            except Exception as error:
                failed = failed or error
    if failed is not None:
        raise failed
