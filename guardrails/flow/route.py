"""One way to an answer – a handler, its layers, and what it can take – and when to leave it for another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal

from guardrails.call import Call, Request, Text
from guardrails.errors import (
    Blocked,
    BudgetExceeded,
    ConfigError,
    EndpointError,
    GuardrailsError,
    Interrupted,
    Refused,
    Shed,
    Transient,
)
from guardrails.flow.cold import is_cold
from guardrails.flow.entering import Kept
from guardrails.flow.recent import Latency
from guardrails.handler import Handler, Layer, Opening, Stream, close_all, stack, warm_all

REASONS = {
    "transient": "it failed before its first token: connection, timeout, 429, 5xx, an open circuit",
    "shed": "its own limiter or queue is full",
    "truncated": "its answer ended without its terminal event",
    "context_length": "the prompt is too long for it",
    "content_policy": "the endpoint's own filter said no",
    "blocked": "one of its own filters blocked the call",
    "budget": "its own budget of money or tokens is spent",
    "refused": "it refuses for another reason: key, quota, unknown model, bad request",
}
"""Why a call leaves a route for another one."""

DEFAULT_REASONS = frozenset({"transient", "shed"})
UNSENT = frozenset({"circuit_open", "does_not_fit"})
"""Kinds of failures for which nothing was sent: going on from them costs nobody anything."""

FAILED_SECONDS = 10.0
"""What a failed attempt counts as in a route's latency, at least: failing fast is not being fast."""


def reasons(error: GuardrailsError) -> frozenset[str]:
    """The words of `REASONS` that fit an error; none when no other route would help (a deadline)."""
    found: set[str] = set()
    if isinstance(error, Transient | Interrupted):
        found.add("transient")
        if error.kind == "truncated":
            found.add("truncated")
    elif isinstance(error, Refused):
        known = error.kind in ("context_length", "content_policy")
        found.add(error.kind if known else "refused")
    elif isinstance(error, Shed):
        found.add("shed")
    elif isinstance(error, Blocked):
        found.add("blocked")
    elif isinstance(error, BudgetExceeded):
        found.add("budget")
    return frozenset(found)


def was_sent(error: GuardrailsError) -> bool:
    """Whether an endpoint was bothered before this error."""
    return isinstance(error, EndpointError) and error.kind not in UNSENT


@dataclass(frozen=True, slots=True)
class Route:
    """Which way can a call go, and what fits through?

    `handler` with `layers` around it (the first is outermost; they belong to this route alone: its breaker,
    its limiter). `model` replaces the request's model, if given. `on` are the `REASONS` for which a call that
    another route failed comes here. `context` is the model's window in tokens (prompt and answer together),
    `tools` whether it can call any: what does not fit is refused before it is sent, kind `does_not_fit`.
    `weight` is for `Weighted`, `price` (USD per million tokens of input and of output) for `Cheapest`.

    A prompt's length is counted with `guardrails.tokens`, an estimate for most models: leave some room.
    """

    handler: Handler
    name: str = ""
    layers: Sequence[Layer] = field(default=(), repr=False)
    model: str = ""
    on: frozenset[str] = DEFAULT_REASONS
    context: int | None = None
    tools: bool = True
    weight: float = 1.0
    price: tuple[Decimal, Decimal] | None = None
    latency: Latency = field(default_factory=Latency, init=False, repr=False, compare=False)
    _stacked: Handler = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        unknown = sorted(set(self.on) - REASONS.keys())
        if unknown:
            raise ConfigError(
                f"unknown reason {', '.join(unknown)}", hint=f"use some of: {', '.join(REASONS)}"
            )
        object.__setattr__(self, "on", frozenset(self.on))
        object.__setattr__(self, "name", self.name or getattr(self.handler, "name", "") or self.model)
        object.__setattr__(self, "_stacked", stack(self.handler, *self.layers))

    def __call__(self, call: Call) -> Opening:
        """Open the stream for `call`. Raises `Refused` (`does_not_fit`) before anything is sent."""
        return Kept(lambda opened: self._open(call, opened))

    async def _open(self, call: Call, opened: Kept) -> Stream:
        if (why := self.misfit(call.request)) is not None:
            raise does_not_fit(f"{self.name}: {why}", self.name)
        if self.model and self.model != call.request.model:
            call = call.with_request(replace(call.request, model=self.model))
        clock = call.clock
        started = clock.now()
        try:
            stream = await opened.enter(self._stacked(call))
        except BaseException as error:
            now = clock.now()
            self._given_up(error, now, now - started)
            raise
        if not is_cold(call):
            now = clock.now()
            self.latency.add(now, now - started)
        return stream

    def misfit(self, request: Request) -> str | None:
        """Why this request cannot go this way; None when it can."""
        if not self.tools and request.tools:
            return "the model calls no tools"
        if self.context is None:
            return None
        answer = request.sampling.max_tokens or 0
        most = _tokens_at_most(request)
        if most is not None and most + answer <= self.context:
            return None
        needed = self.prompt_tokens(request) + answer
        return f"about {needed} tokens, it holds {self.context}" if needed > self.context else None

    def prompt_tokens(self, request: Request) -> int:
        """The prompt's length in this route's model, most often an estimate."""
        from guardrails import tokens

        return tokens.count_messages(request, self.model or request.model).n

    def _given_up(self, error: BaseException, now: float, seconds: float) -> None:
        if isinstance(error, Transient) and was_sent(error):
            self.latency.add(now, max(seconds, FAILED_SECONDS), at_least=True)
        elif not isinstance(error, GuardrailsError):  # somebody lost patience
            self.latency.add(now, seconds, at_least=True)

    def warm(self) -> None:
        """Load now what the first call would wait for."""
        from guardrails import tokens

        warm_all(self.handler, *self.layers)
        tokens.warm(self.model or getattr(getattr(self.handler, "config", self.handler), "model", ""))

    async def aclose(self) -> None:
        """Close the handler and the layers, as far as they hold anything."""
        await close_all(self.handler, *self.layers)


def _tokens_at_most(request: Request) -> int | None:
    """A bound for a prompt of text that needs no tokenizer: no token is shorter than a byte."""
    if request.tools:
        return None
    size = 8
    for message in request.messages:
        size += 8
        for part in message.parts:
            if not isinstance(part, Text):
                return None
            size += 4 * len(part.text)
    return size


def does_not_fit(why: str, endpoint: str = "") -> Refused:
    """The error for a request that no route can take."""
    return Refused(
        f"the request does not fit ({why}); nothing was sent",
        kind="does_not_fit",
        hint="shorten the prompt, lower max_tokens, or add a route with a longer context or with tools",
        endpoint=endpoint,
    )
