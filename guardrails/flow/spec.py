"""The flow layers in a configuration file.

    retry_budget: {share: 0.2, floor: 10, window: 30}      # shared by retries, fallbacks and hedges
    retry: {attempts: 3, patience: 20}
    breaker: {consecutive: 5, ratio: 0.5}
    hedge: {quantile: 0.95}
    admit: {limit: two_signal, slo: {ttft: 2.0, tpot: 0.05}, length: 1000}
    rate_limit: {requests: 500, tokens: 200000}            # per minute
    budget: {name: team, allow: [{per: day, usd: 30}]}
    cache: {store: memory, ttl: 3600}                      # off unless it stands here
    cold_start: {after: 300}
    keep_warm: {every: 240}                                # from the first call on, while nobody else asks
    store: {redis: "redis://localhost:6379/0", when_gone: local_share, replicas: 4}

or, with several endpoints, `routes:` instead of an endpoint of its own; `retry`, `breaker`, `hedge`, `admit`,
`rate_limit`, `holdback`, `keep_warm` and `cold_start` then stand in each route:

    order: weighted                                        # left out: as they are listed
    restart: false                                         # true: start again elsewhere after a broken stream
    routes:
      - {name: main, url: "http://a/v1", model: m, breaker: {consecutive: 5}}
      - {name: backup, url: "http://b/v1", model: m, on: [transient, shed, budget]}

or a small model before a large one, and a candidate that gets copies of what is asked:

    cascade: {small: {name: s, url: "http://a/v1"}, large: {name: l, url: "http://b/v1"}}
    shadow: {candidate: {name: next, url: "http://c/v1"}, share: 0.1}

Outermost first the layers are: the deadline, the cache, `admit`, the filters; then, around each endpoint, its
retries, hedge, hold-back, keep-warm, cold start, breaker, own `admit`, budget and rates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from guardrails.errors import ConfigError
from guardrails.flow.retry import RetryBudget
from guardrails.flow.route import DEFAULT_REASONS, Route
from guardrails.handler import Handler, Layer
from guardrails.named import Named, Strict
from guardrails.source import no_truth

if TYPE_CHECKING:
    from guardrails.flow.admit import Admit
    from guardrails.flow.cold import ColdStart
    from guardrails.flow.fallback import Order
    from guardrails.flow.store import Store
    from guardrails.record import PriceOf
    from guardrails.recorder import Record


class RetryBudgetSpec(Strict):
    """At most this share of the calls of a window, plus a floor, may be tried again."""

    share: float = Field(default=0.2, ge=0, le=1)
    floor: int = Field(default=10, ge=0)
    window: float = Field(default=30.0, gt=0)


class RetrySpec(Strict):
    """How often, and how patiently (seconds)."""

    attempts: int = Field(default=3, ge=1)
    base: float = Field(default=0.25, ge=0)
    cap: float = Field(default=8.0, gt=0)
    patience: float = Field(default=30.0, ge=0)


class BreakerSpec(Strict):
    """When a circuit opens, and for how long; `shared` through the `store`."""

    consecutive: int = Field(default=5, ge=1)
    ratio: float = Field(default=0.5, gt=0, le=1)
    minimum: int = Field(default=20, ge=1)
    window: float = Field(default=30.0, gt=0)
    ejection: float = Field(default=5.0, gt=0)
    longest: float = Field(default=300.0, gt=0)
    probes: int = Field(default=1, ge=1)
    hung: float = Field(default=10.0, gt=0)
    shared: bool = False


class HedgeSpec(Strict):
    """When a second attempt starts: after `delay` seconds, or at a quantile of the recent ones.

    None does while an `admit` of the route or of the whole policy has no free slot, unless `when_full`.
    """

    delay: float | None = Field(default=None, gt=0)
    quantile: float = Field(default=0.95, gt=0, lt=1)
    minimum: int = Field(default=20, ge=1)
    when_full: bool = False


class SloSpec(Strict):
    """Objectives in seconds."""

    ttft: float = Field(default=2.0, gt=0)
    tpot: float = Field(default=0.05, gt=0)


class AdmitSpec(Strict):
    """How many calls run at once, and how the others wait."""

    limit: Literal["two_signal", "aimd", "gradient2", "none"] | int = "two_signal"
    slo: SloSpec = SloSpec()
    length: int = Field(default=1000, ge=0)
    patience: dict[Literal["interactive", "standard", "bulk"], float] = Field(default_factory=dict)
    weights: dict[str, float] = Field(default_factory=dict)
    idle: float = Field(default=60.0, gt=0)


class RateSpec(Strict):
    """Requests and tokens per minute."""

    requests: float | None = Field(default=None, gt=0)
    input_tokens: float | None = Field(default=None, gt=0)
    output_tokens: float | None = Field(default=None, gt=0)
    tokens: float | None = Field(default=None, gt=0)
    burst: float = Field(default=60.0, gt=0)
    by_tenant: bool = False
    patience: float = Field(default=60.0, ge=0)
    assumed_output: int = Field(default=1024, ge=1)
    adopt_headers: bool = True


class AllowanceSpec(Strict):
    """So much per period, in USD or in tokens."""

    per: Literal["hour", "day", "month"]
    usd: Decimal | None = Field(default=None, gt=0)
    tokens: int | None = Field(default=None, gt=0)


class BudgetSpec(Strict):
    """What may be spent."""

    name: str = "budget"
    allow: list[AllowanceSpec] = Field(min_length=1)
    by: Literal["tenant", "all"] = "tenant"
    unknown_price: Literal["block", "count_tokens_only"] = "block"
    assumed_output: int = Field(default=4096, ge=1)


class CacheSpec(Strict):
    """Exact answers again. `store` is `memory`, a file's path or a `redis://` URL."""

    store: str = "memory"
    ttl: float = Field(default=3600.0, gt=0)
    across_tenants: bool = False
    share: bool = True


class ColdStartSpec(Strict):
    """After so many seconds without a call the next one is marked as cold."""

    after: float = Field(default=300.0, gt=0)


class KeepWarmSpec(Strict):
    """A small request every so many seconds in which there was no other, so that the endpoint stays warm."""

    every: float = Field(gt=0)
    prompt: str = "ping"
    max_tokens: int = Field(default=1, ge=1)


class StoreSpec(Strict):
    """Where rates, budgets and breakers are kept: in this process, or in Redis for several."""

    redis: str | None = None
    when_gone: Literal["closed", "local_share"] = "closed"
    replicas: int = Field(default=1, ge=1)
    timeout: float = Field(default=0.25, gt=0)

    def build(self) -> Store:
        """The store."""
        if self.redis is None:
            from guardrails.flow.store import MemoryStore

            return MemoryStore()
        from guardrails.flow.redis_store import RedisStore, check

        check(self.redis)
        return RedisStore(self.redis, when_gone=self.when_gone, replicas=self.replicas, timeout=self.timeout)


class Around(BaseModel):
    """The layers around one endpoint."""

    model_config = ConfigDict(extra="allow", frozen=True, defer_build=True)

    _numbers = field_validator("*", mode="before")(no_truth)

    retry: RetrySpec | None = None
    hedge: HedgeSpec | None = None
    holdback: int | None = Field(default=None, ge=1)
    keep_warm: KeepWarmSpec | None = None
    cold_start: ColdStartSpec | None = None
    breaker: BreakerSpec | None = None
    rate_limit: RateSpec | None = None


class RouteSpec(Around):
    """One of several endpoints. Fields beyond these are options of its `type`."""

    name: str = Field(min_length=1)
    type: str = "http"
    admit: AdmitSpec | None = None
    on: tuple[str, ...] = tuple(sorted(DEFAULT_REASONS))
    context: int | None = Field(default=None, ge=1)
    tools: bool = True
    weight: float = Field(default=1.0, gt=0)
    price: tuple[Decimal, Decimal] | None = None

    def build(self, handler: Handler, layers: Sequence[Layer]) -> Route:
        """The route to that endpoint."""
        model = str((self.model_extra or {}).get("model", ""))
        return Route(
            handler,
            self.name,
            layers,
            model,
            frozenset(self.on),
            self.context,
            self.tools,
            self.weight,
            self.price,
        )


class ShadowSpec(Strict):
    """A candidate that gets copies of a share of the calls; its answers are recorded and never returned."""

    candidate: RouteSpec
    share: float = Field(default=1.0, gt=0, le=1)
    limit: int = Field(default=4, ge=1)
    seconds: float = Field(default=120.0, gt=0)


class CascadeSpec(Strict):
    """A small model first; `good_enough` (`module:function`) says whether its answer will do."""

    small: RouteSpec
    large: RouteSpec
    good_enough: str | None = Field(default=None, pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")


SHAPES_NO_ANSWER = {
    *("name", "deadline", "timeouts", "connect_timeout", "transport", "key_env", "prices", "records"),
    *("retry_budget", "retry", "hedge", "holdback", "keep_warm", "cold_start", "breaker", "rate_limit"),
    *("admit", "budget", "cache", "store", "shadow"),
}
"""The fields of a policy under which the same question gets the same answer, whatever they say."""


def ordered(order: Named | None) -> Order:
    """Which route comes first. Raises `ConfigError` for an order that there is not."""
    from guardrails.flow import choose
    from guardrails.flow.fallback import as_listed

    return as_listed if order is None else choose.order(order.name, **order.options)


@dataclass(frozen=True, slots=True)
class Shared:
    """What all endpoints of a configuration share; `shares_breakers`, whatever each of them says."""

    store: Store
    retries: RetryBudget
    budget: BudgetSpec | None
    price: PriceOf | None
    gate: Admit | None
    record: Record
    shares_breakers: bool = False


def admit(spec: AdmitSpec, name: str) -> Admit:
    """The gate; `name` is that of the endpoint, or of the policy."""
    from guardrails.flow.admit import Admit
    from guardrails.flow.limits import Slo

    return Admit.of(
        spec.limit,
        slo=Slo(spec.slo.ttft, spec.slo.tpot),
        length=spec.length,
        patience={str(lane): seconds for lane, seconds in spec.patience.items()},
        weights=spec.weights,
        idle=spec.idle,
        name=name or "admit",
    )


def shadow(spec: ShadowSpec, candidate: Route, record: Record, gate: Admit | None) -> Layer:
    """The copies; none while the policy's own gate is full."""
    from guardrails.flow.hedge import never
    from guardrails.flow.shadow import Shadow

    return Shadow(
        candidate,
        spec.share,
        spec.limit,
        spec.seconds,
        sinks=record.sinks,
        saturated=never if gate is None else gate.saturated,
        meter=record.meter,
    )


def cache(spec: CacheSpec, policy: BaseModel) -> Layer:
    """The cache. It tells answers of policies that ask or filter otherwise apart, in lasting stores too."""
    import hashlib

    from guardrails.flow.cache import Cache
    from guardrails.flow.kept import kept

    shapes = repr(policy.model_dump(exclude=SHAPES_NO_ANSWER))  # headers may be in it: only its hash is kept
    version = hashlib.sha256(shapes.encode()).hexdigest()
    return Cache(kept(spec.store), spec.ttl, spec.across_tenants, spec.share, version)


def around(
    spec: Around,
    name: str,
    shared: Shared,
    gate: AdmitSpec | None = None,
    *,
    refuses_filtered: bool = False,
) -> list[Layer]:
    """The layers around the endpoint of that name, outermost first.

    `gate` is its own, beside the one of the whole policy. `refuses_filtered`: there is another route for an
    answer that the endpoint's filter cuts off.
    """
    own = None if gate is None else admit(gate, name)
    gates = [each for each in (own, shared.gate) if each is not None]
    cold = None if spec.cold_start is None else _cold(spec.cold_start, name)
    makers: Mapping[str, Callable[[Any], Layer]] = {
        "retry": lambda s: _retry(s, shared),
        "hedge": lambda s: _hedge(s, shared, gates),
        "holdback": lambda s: _holdback(s, refuses_filtered),
        "keep_warm": lambda s: _warm(s, cold, shared),
        "cold_start": lambda s: cold or _cold(s, name),
        "breaker": lambda s: _breaker(s, name, shared),
    }
    layers = [make(given) for field, make in makers.items() if (given := getattr(spec, field)) is not None]
    if own is not None:
        layers.append(own)
    if shared.budget is not None:
        layers.append(_budget(shared.budget, str((spec.model_extra or {}).get("model", "")), name, shared))
    if spec.rate_limit is not None:
        layers.append(_rates(spec.rate_limit, name, shared))
    return layers


def _retry(spec: RetrySpec, shared: Shared) -> Layer:
    from guardrails.flow.retry import Backoff, Retry

    return Retry(spec.attempts, Backoff(spec.base, spec.cap, spec.patience), shared.retries)


def _hedge(spec: HedgeSpec, shared: Shared, gates: Sequence[Admit]) -> Layer:
    from guardrails.flow.hedge import Hedge

    def saturated() -> bool:
        return not spec.when_full and any(gate.saturated() for gate in gates)

    return Hedge(spec.delay, spec.quantile, spec.minimum, budget=shared.retries, saturated=saturated)


def _holdback(tokens: int, refuses_filtered: bool) -> Layer:
    from guardrails.flow.holdback import Holdback

    return Holdback(tokens, refuses_filtered)


def _warm(spec: KeepWarmSpec, cold: ColdStart | None, shared: Shared) -> Layer:
    from guardrails.call import Request
    from guardrails.flow.cold import Warmth

    request = Request.of(spec.prompt, max_tokens=spec.max_tokens)
    return Warmth(spec.every, request, cold, (shared.record,))


def _cold(spec: ColdStartSpec, name: str) -> ColdStart:
    from guardrails.flow.cold import ColdStart

    return ColdStart(name, spec.after)


def _breaker(spec: BreakerSpec, name: str, shared: Shared) -> Layer:
    from guardrails.flow.breaker import Breaker, Circuit, Rules

    breaker = Breaker(name, Circuit(Rules(**spec.model_dump(exclude={"shared"}))))
    if not (spec.shared or shared.shares_breakers):
        return breaker
    from guardrails.flow.shared_breaker import SharedBreaker

    return SharedBreaker(breaker, shared.store)


def _budget(spec: BudgetSpec, model: str, name: str, shared: Shared) -> Layer:
    from guardrails.flow.budget import Allowance, Budget

    allowances = tuple(Allowance(each.per, each.usd, each.tokens) for each in spec.allow)
    return Budget(
        spec.name,
        allowances,
        model,
        spec.by,
        spec.unknown_price,
        spec.assumed_output,
        name,
        shared.store,
        shared.price,
    )


def _rates(spec: RateSpec, name: str, shared: Shared) -> Layer:
    from guardrails.flow.rates import RateLimit, Rates

    rates = Rates(spec.requests, spec.input_tokens, spec.output_tokens, spec.tokens, spec.burst)
    return RateLimit(
        name,
        rates,
        store=shared.store,
        patience=spec.patience,
        by_tenant=spec.by_tenant,
        assumed_output=spec.assumed_output,
        adopt=spec.adopt_headers,
    )


def check_reasons(spec: RouteSpec) -> str | None:
    """What is wrong with a route's reasons, if anything."""
    from guardrails.flow.route import REASONS

    unknown = sorted(set(spec.on) - REASONS.keys())
    if not unknown:
        return None
    return str(ConfigError(f"unknown reason {', '.join(unknown)}: use some of {', '.join(REASONS)}"))
