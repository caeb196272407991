"""Any async callable as an endpoint: a local model, somebody's SDK, a stub.

What the callable may be, given the `Request`:

- an async function that returns the answer (`str`, `Response`, or a list of events);
- an async generator that yields pieces of text, or events.

Text that ends without an error is a complete answer: a `Finish("stop")` is added. Events have to bring their
own `Finish`; an end without one is `Truncated`, as it is on the wire.

Exceptions of the usual clients are understood (`guardrails.endpoints.clients`): a 429 of `openai` may be
tried again, its 401 not. Say yourself what others mean, since retries, fallbacks and breakers go by it:

    async def answer(request):
        try:
            return await my_client.complete(request.messages[-1].text)
        except MyClientIsBusy as busy:
            raise Transient("my model is busy", kind="overloaded", retry_after=busy.seconds) from None
        except MyClientSaysNo:
            raise Refused("my model refuses this", kind="content_policy") from None
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from guardrails.call import Call, Delta, Event, Finish, Opaque, Request, Response, ToolHead
from guardrails.endpoints.clients import read
from guardrails.endpoints.opening import Batches, Timeouts, open_events
from guardrails.errors import ConfigError, GuardrailsError, Interrupted, Refused, Transient, Truncated
from guardrails.handler import Opening
from guardrails.telling import whence

Answer = str | Response | Iterable[Event]
Function = Callable[[Request], Awaitable[Answer] | AsyncIterator[str | Event]]


@dataclass(frozen=True, slots=True)
class FunctionEndpoint:
    """A `Handler` around `function`. `model` names it in records and in the price list."""

    function: Function = field(repr=False)
    name: str = "function"
    model: str = ""
    timeouts: Timeouts = Timeouts()

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise ConfigError(
                f"an endpoint is a url or an async function, not a {type(self.function).__name__}",
                hint="write async def answer(request): …, and give the function itself",
            )

    def __call__(self, call: Call) -> Opening:
        """Open the stream for `call`."""
        return open_events(
            call,
            endpoint=self.name,
            model=call.request.model or self.model,
            source=lambda _: self._batches(call.request),
            timeouts=self.timeouts,
        )

    async def _batches(self, request: Request) -> Batches:
        entered = False
        finished = False
        failed: GuardrailsError | None = None
        try:
            async with aclosing(_batched(self.function(request))) as batches:
                async for batch in batches:
                    finished = finished or any(isinstance(event, Finish) for event in batch)
                    entered = True
                    yield batch
        except GuardrailsError:
            raise
        except Exception as error:
            failed = read(error, self.name, entered=entered) or _broken(entered, self.name, error)
        if failed is not None:
            raise failed  # out here: the exception may quote the prompt, so it is not chained
        if not finished:
            raise Truncated(
                "the function's events ended without a Finish",
                hint="yield a Finish event last, or yield plain text",
                endpoint=self.name,
            )

    async def aclose(self) -> None:
        """Nothing is held open."""


class _Unfit(TypeError):
    """The function gave what is no answer. The message names the type and quotes nothing."""


def _broken(entered: bool, name: str, error: Exception) -> GuardrailsError:
    """The error for an exception that nobody but the function's author knows."""
    if isinstance(error, _Unfit):
        made = Interrupted if entered else Refused
        hint = (
            "it returns a str, a guardrails.Response or a list of events, or yields pieces of text or events"
        )
        return made(str(error), kind="exception", hint=hint, endpoint=name)
    before = Transient if isinstance(error, OSError) else Refused
    hint = (
        "raise guardrails.Transient instead for what may be tried again, guardrails.Refused for what may not"
    )
    cls = Interrupted if entered else before
    return cls(f"the function raised {whence(error)}", kind="exception", hint=hint, endpoint=name)


async def _batched(answer: Any) -> Batches:
    if not hasattr(answer, "__aiter__"):
        if not isinstance(answer, Awaitable):
            raise ConfigError(
                f"the endpoint's function is no async one: it gave a {type(answer).__name__} at once",
                hint="write async def in front of it, and await inside whatever takes time "
                "(await asyncio.to_thread(…) for what cannot be awaited)",
            )
        yield _whole(await answer)
        return
    text_only = True
    try:
        async for piece in answer:
            if isinstance(piece, str):
                if piece:
                    yield [Delta(piece)]
            else:
                text_only = False
                yield [_checked(piece)]
    finally:
        close = getattr(answer, "aclose", None)
        if close is not None:
            await close()
    if text_only:
        yield [Finish("stop")]


def _whole(answer: Any) -> list[Event]:
    if isinstance(answer, str):
        return [Delta(answer), Finish("stop")]
    if isinstance(answer, Response):
        return _events(answer)
    if not isinstance(answer, Iterable) or isinstance(answer, Mapping | bytes):
        raise _Unfit(f"the function returned {_kind(answer)}, which is no answer")
    return [_checked(event, "returned a list with") for event in answer]


def _checked(event: Any, how: str = "yielded") -> Event:
    if isinstance(event, Delta | Finish | Opaque):
        return event
    raise _Unfit(f"the function {how} {_kind(event)}, which is no event")


def _kind(value: Any) -> str:
    return "None" if value is None else f"a value of type {type(value).__name__}"


def _events(response: Response) -> list[Event]:
    """A collected answer as the events that fold into it again."""
    events: list[Event] = []
    for number, choice in enumerate(response.choices):
        channels = ("reasoning", choice.reasoning), ("text", choice.text), ("refusal", choice.refusal)
        events.extend(Delta(text, channel, number) for channel, text in channels if text)
        events.extend(
            Delta(tool.arguments, f"tool:{index}", number, tool=ToolHead(tool.id, tool.name))
            for index, tool in enumerate(choice.tool_calls)
        )
        events.append(Finish(choice.finish_reason or "stop", choice=number))
    if response.usage is not None:
        events.append(Finish(None, response.usage))
    return events
