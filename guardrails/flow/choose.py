"""Which route is asked first? Orders for `FirstOf`: functions of the call and the routes.

`FirstOf(routes, order=…)` asks the first and falls back along the rest. Routes nest: a pool that is chosen
from by latency can itself be a route in an ordered fallback.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from hashlib import blake2b
from math import inf, log

from guardrails.call import Call, Usage
from guardrails.errors import ConfigError
from guardrails.flow.fallback import Order, as_listed
from guardrails.flow.route import Route
from guardrails.record import EXACT, PriceOf


@dataclass(frozen=True, slots=True)
class Weighted:
    """How do I split calls by shares, such as 80 to 20?

    Each route comes first in proportion to its `weight`, and second in proportion to what is then left. One
    of weight 0 is only fallen back to.
    """

    rng: random.Random = field(default_factory=random.Random, repr=False, compare=False)

    def __call__(self, _: Call, routes: Sequence[Route]) -> Sequence[Route]:
        """The routes, drawn without putting back."""
        # Efraimidis and Spirakis: sorted by u^(1/w), here its logarithm, is drawn in proportion to w.
        keys = {
            route.name: log(1.0 - self.rng.random()) / route.weight if route.weight > 0 else -inf
            for route in routes
        }
        return sorted(routes, key=lambda route: -keys[route.name])


def least_latency(call: Call, routes: Sequence[Route]) -> Sequence[Route]:
    """Which route gives its first token soonest?

    By each route's mean TTFT, recent samples first (`guardrails.flow.recent.Latency`). A failed attempt
    counts as a slow one. What is unknown comes first, and what was slow fades until it is tried again. TTFT
    grows with the prompt: among routes with very different prompts this compares prompts, not routes.
    """
    now = call.clock.now()
    return sorted(routes, key=lambda route: route.latency.estimate(now))


@dataclass(frozen=True, slots=True)
class Cheapest:
    """Which route that fits answers this call for the least money?

    By the price of the prompt and of `max_tokens` (or of `output` tokens when the call sets none): a route's
    own `price`, else what `price` says of its model (a `PriceBook`'s `cost`). Unknown prices come last.
    Caches and discounts are not foreseen: this is an estimate for an order, not for a bill.
    """

    price: PriceOf | None = None
    output: int = 500

    def __call__(self, call: Call, routes: Sequence[Route]) -> Sequence[Route]:
        """The routes, the cheapest first."""
        costs = {route.name: self._cost(call, route) for route in routes}
        return sorted(routes, key=lambda route: costs[route.name])

    def _cost(self, call: Call, route: Route) -> Decimal:
        request = call.request
        output = request.sampling.max_tokens or self.output
        usage = Usage(route.prompt_tokens(request), output * (request.sampling.n or 1))
        if route.price is not None:
            asked, answered = route.price
            micro = EXACT.fma(usage.input_tokens, asked, EXACT.multiply(usage.output_tokens, answered))
            return EXACT.scaleb(micro, -6)
        known = None if self.price is None else self.price(route.model or request.model, usage)
        return Decimal("Infinity") if known is None else known


def conversation_or_tenant(call: Call) -> str:
    """What calls have in common whose prompts begin alike; the call's own id when nothing is known."""
    return call.conversation or call.tenant or call.id


@dataclass(frozen=True, slots=True)
class Sticky:
    """How do calls of one conversation reach the server that has their prefix in its cache?

    By rendezvous hashing: each key has its own order of the routes, the same in every process. When a route
    goes away only its own keys move. `weight` counts. `key` gives the text that decides.
    """

    key: Callable[[Call], str] = conversation_or_tenant

    def __call__(self, call: Call, routes: Sequence[Route]) -> Sequence[Route]:
        """The routes in the order of the key."""
        key = self.key(call)

        def score(route: Route) -> float:
            if route.weight <= 0:
                return -inf
            digest = blake2b(f"{route.name}\0{key}".encode(), digest_size=8).digest()
            return log((int.from_bytes(digest) + 1) / 2**64) / route.weight

        return sorted(routes, key=score, reverse=True)


@dataclass(frozen=True, slots=True)
class Canary:
    """How do I let a few calls try a new route?

    A `share` of the calls (0 to 1), and those for which `when` says so, ask the route called `route` first
    and fall back along the others. All other calls never see it, as a fallback neither. `rest` orders the
    others.
    """

    route: str
    share: float = 0.0
    when: Callable[[Call], bool] | None = None
    rest: Order = as_listed
    rng: random.Random = field(default_factory=random.Random, repr=False, compare=False)

    def __call__(self, call: Call, routes: Sequence[Route]) -> Sequence[Route]:
        """The routes, the canary first or not at all."""
        others = self.rest(call, [route for route in routes if route.name != self.route])
        chosen = (self.when is not None and self.when(call)) or self.rng.random() < self.share
        return [*(route for route in routes if chosen and route.name == self.route), *others]


ORDERS: dict[str, Callable[..., Order]] = {
    "listed": lambda: as_listed,
    "weighted": Weighted,
    "least_latency": lambda: least_latency,
    "cheapest": Cheapest,
    "sticky": Sticky,
    "canary": Canary,
}
"""The orders by name."""


def order(name: str, **options: object) -> Order:
    """The order of that name, with its fields as options. Raises `ConfigError` for what there is not."""
    if name not in ORDERS:
        raise ConfigError(f"unknown order {name!r}", hint=f"use one of: {', '.join(ORDERS)}")
    try:
        return ORDERS[name](**options)
    except TypeError:
        raise ConfigError(f"the order {name!r} has no option {' or '.join(options)}") from None
