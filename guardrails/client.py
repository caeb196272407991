"""The simplest use: ask a model, get an answer and its record.

llm = guardrails.endpoint("http://localhost:8000/v1", model="my-model")
answer = await llm.ask("What is TTFT?")
print(answer.text, answer.record.ttft_ms)
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Self, TypeVar

from guardrails.call import Call, Json, Message, Request, Response
from guardrails.clock import SYSTEM, Clock
from guardrails.errors import ConfigError
from guardrails.handler import Handler, Layer, Opening, close_all, collect, stack, warm_all
from guardrails.recorder import Record, Sink, default_meter

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from guardrails.endpoints.function import Function
    from guardrails.handler import Stream
    from guardrails.record import CallRecord, Meter

T = TypeVar("T")
Prompt = str | Request | Sequence[Message] | Sequence[Json]
"""A text, a list of messages (ours or OpenAI's), or a whole request."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer with the record of the call that brought it."""

    response: Response
    record: CallRecord

    @property
    def text(self) -> str:
        """The visible text of the first choice."""
        return self.response.text


class Llm:
    """An endpoint with its layers, ready to be asked. It is itself a `Handler`, so it stacks like any other.

    `handler` and `layers` are put together with a `Record` layer outermost; every call leaves one record, and
    each of `sinks` gets it. Use it as an async context manager, or call `aclose()`, to free its connections.
    """

    def __init__(
        self,
        handler: Handler,
        *layers: Layer,
        name: str = "",
        model: str = "",
        sinks: tuple[Sink, ...] = (),
        meter: Meter | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        self.name = name or getattr(handler, "name", "") or "endpoint"
        self.model = model or getattr(getattr(handler, "config", handler), "model", "")
        self._endpoint = handler
        self._layers = layers
        self._clock = clock
        self._meter = meter
        self._handler = stack(handler, Record(sinks, meter), *layers)

    def __repr__(self) -> str:
        return f"Llm({self.name!r}, model={self.model!r})"

    def __call__(self, call: Call) -> Opening:
        """Open the stream for a `Call` of your own (with its deadline, priority, tenant, labels)."""
        return self._handler(call)

    async def ask(self, prompt: Prompt, *, system: str | None = None, **sampling: Any) -> Answer:
        """Ask and wait for the whole answer. `sampling` are fields of `Sampling`, such as `max_tokens`.

        Raises a `GuardrailsError`: `guardrails.errors` says which, and what to do next.
        """
        call = Call(Request.of(prompt, system=system, **sampling), clock=self._clock)
        response = await collect(self, call)
        assert call.journal.record is not None, "the Record layer is part of every Llm"
        return Answer(response, call.journal.record)

    @asynccontextmanager
    async def stream(
        self, prompt: Prompt, *, system: str | None = None, **sampling: Any
    ) -> AsyncGenerator[Stream]:
        """Open the answer as a stream of events: `async with llm.stream("…") as events`."""
        async with self(Call(Request.of(prompt, system=system, **sampling), clock=self._clock)) as events:
            yield events

    def warm(self) -> None:
        """Load now what the first call would wait for, so that its TTFT is not that of an import.

        That is the filters' patterns and models, the vocabularies of the endpoints' models and the prices.
        Nothing is sent. It blocks, and is safe in any thread: `await asyncio.to_thread(llm.warm)`.
        """
        from guardrails import tokens

        warm_all(*self._layers, self._endpoint)
        tokens.warm(self.model)
        if self._meter is None:
            default_meter(self._clock.wall().date())

    async def aclose(self) -> None:
        """End what the layers still do in the background, and free the endpoint's connections."""
        await close_all(*self._layers, self._endpoint)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def endpoint(
    target: str | Function, *layers: Layer, model: str = "", sinks: tuple[Sink, ...] = (), **options: Any
) -> Llm:
    """An `Llm` for a base URL (`http://host/v1`) or for any async callable.

    `options` are the fields of `guardrails.endpoints.http.HttpConfig` (`dialect`, `key`, `key_env`,
    `timeouts`, …) or of `FunctionEndpoint`. Raises `ConfigError` for what cannot work; nothing is sent yet.
    """
    if isinstance(target, str):
        from guardrails.endpoints.http import HttpConfig, HttpEndpoint

        return Llm(
            HttpEndpoint(_options(HttpConfig, url=target, model=model, **options)), *layers, sinks=sinks
        )
    from guardrails.endpoints.function import FunctionEndpoint

    return Llm(_options(FunctionEndpoint, function=target, model=model, **options), *layers, sinks=sinks)


def _options(cls: type[T], **options: Any) -> T:
    known = [spec.name for spec in fields(cls)]  # type: ignore[arg-type] # both callers pass dataclasses
    unknown = sorted(options.keys() - set(known))
    if unknown:
        raise ConfigError(f"unknown option {', '.join(unknown)}", hint=f"allowed: {', '.join(known)}")
    return cls(**options)
