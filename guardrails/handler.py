"""The one shape that everything has.

A `Handler` opens a stream of events for a call; a `Layer` is a handler's wrapper; `stack` puts layers around
an endpoint. **Entering succeeds when the first event has arrived**: everything that may be tried again
happens while entering, everything irrevocable happens in the body. Permits, connections and verdicts are
lexical `async with` blocks, so that an early `break` and a cancellation release them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from guardrails.call import Call, Event, Response, fold_response

Stream = AsyncIterator[Event]
Opening = AbstractAsyncContextManager[Stream]
Handler = Callable[[Call], Opening]


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


async def collect(handler: Handler, call: Call) -> Response:
    """Run the call to its end and return the whole answer."""
    async with handler(call) as stream:
        return fold_response([event async for event in stream])


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
