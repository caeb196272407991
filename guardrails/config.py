"""A stack from a file: `build("policy.yaml")`, or from the same as pydantic objects.

    name: vendor
    type: http                       # http | function | replay, or a name that a plug-in registers
    url: https://api.openai.com/v1
    model: gpt-4o-mini
    key_env: OPENAI_API_KEY
    timeouts: {first_event: 20, between_events: 10, whole: 120}
    deadline: 60
    filters:                         # or `filters: default`; see guardrails.filters.spec
      input:  [pii, secrets, {jailbreak: {action: block}}]
      output: [{pii: {entities: [EMAIL_ADDRESS, PHONE_NUMBER], action: redact}}]
    retry: {attempts: 3}             # and breaker, hedge, admit, budget, cache, …; see guardrails.flow.spec
    prices: my-prices.toml
    records: calls.jsonl

Plug-ins register names of their own (`guardrails.named`).
Handlers hold sockets and do not pickle; a config does, so it is what travels to other processes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

from pydantic import Field, field_validator

from guardrails.call import Call
from guardrails.client import Llm
from guardrails.dialects import NAMES as DIALECTS
from guardrails.endpoints.opening import Timeouts
from guardrails.errors import ConfigError
from guardrails.filters.policy import DIRECTIONS, Rulebook
from guardrails.filters.spec import BUILTIN as FILTERS
from guardrails.filters.spec import Filters, rulebook
from guardrails.flow import spec
from guardrails.flow.deadline import Deadline
from guardrails.flow.fallback import FirstOf
from guardrails.flow.retry import RetryBudget
from guardrails.flow.route import Route
from guardrails.flow.store import MemoryStore, Store
from guardrails.handler import Handler, Layer, Opening, close_all, stack, warm_all
from guardrails.named import Named, Site, Strict, load
from guardrails.record import Meter
from guardrails.recorder import JsonlSink, Record
from guardrails.source import Loc, Source, load_yaml, report, valid_part

__all__ = ["Filters", "Named", "Policy", "build", "rules"]

# --- what stands in the file -------------------------------------------------------------------------------


class Policy(spec.Around):
    """One endpoint, or several as `routes`, and the layers around it; see `guardrails.flow.spec`.

    Fields beyond these are options of the endpoint's `type`.
    """

    name: str = ""
    type: str = "http"
    deadline: float | None = Field(default=None, gt=0)
    filters: Filters = Filters()
    layers: tuple[Named, ...] = ()
    routes: tuple[spec.RouteSpec, ...] = ()
    order: Named | None = None
    restart: bool = False
    cascade: spec.CascadeSpec | None = None
    shadow: spec.ShadowSpec | None = None
    retry_budget: spec.RetryBudgetSpec = spec.RetryBudgetSpec()
    admit: spec.AdmitSpec | None = None
    budget: spec.BudgetSpec | None = None
    cache: spec.CacheSpec | None = None
    store: spec.StoreSpec = spec.StoreSpec()
    prices: Path | None = None
    records: Path | None = None


class HttpOptions(Strict):
    """`type: http` – an inference server or a vendor's API."""

    url: str = Field(json_schema_extra={"pattern": r"^\s*https?://[^/\s]"})
    model: str = ""
    dialect: str = Field(default="openai_chat", json_schema_extra={"enum": list(DIALECTS)})
    key_env: str | None = None
    headers: dict[str, str] = Field(default_factory=dict)
    timeouts: Timeouts = Timeouts()
    connect_timeout: float = Field(default=10.0, gt=0)
    leniency: tuple[str, ...] = ()
    transport: Literal["aiohttp", "httpx"] = "aiohttp"
    ask_usage: bool = True

    @field_validator("dialect")
    @classmethod
    def _known_dialect(cls, value: str) -> str:
        if value not in DIALECTS:
            raise ValueError(f"unknown dialect {value!r}: use one of {', '.join(DIALECTS)}")
        return value

    def build(self, name: str) -> Handler:
        """The endpoint."""
        from guardrails.endpoints.http import HttpConfig, HttpEndpoint

        options = {each: getattr(self, each) for each in type(self).model_fields}
        return HttpEndpoint(HttpConfig(name=name, **{**options, "leniency": frozenset(self.leniency)}))


class FunctionOptions(Strict):
    """`type: function` – `target: package.module:callable`."""

    target: str = Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")
    model: str = ""
    timeouts: Timeouts = Timeouts()

    def build(self, name: str) -> Handler:
        """The endpoint."""
        from guardrails.endpoints.function import FunctionEndpoint

        return FunctionEndpoint(load(self.target), name or self.target, self.model, self.timeouts)


class ReplayOptions(Strict):
    """`type: replay` – answers that a `Tape` recorded, from a JSONL file."""

    path: Path
    model: str = ""
    timed: bool = False

    def build(self, name: str) -> Handler:
        """The endpoint."""
        from guardrails.endpoints.replay import Replay

        return Replay.load(self.path, name=name or "replay", model=self.model, timed=self.timed)


class DeadlineOptions(Strict):
    """`deadline` as a layer of its own place: `seconds` from the call's arrival."""

    seconds: float = Field(gt=0)

    def build(self, name: str) -> Layer:
        """The layer."""
        return Deadline(self.seconds)


# --- names -------------------------------------------------------------------------------------------------

BUILTIN: Mapping[str, Mapping[str, Any]] = {
    "guardrails.endpoints": {"http": HttpOptions, "function": FunctionOptions, "replay": ReplayOptions},
    "guardrails.layers": {"deadline": DeadlineOptions},
    "guardrails.filters": FILTERS,
}


# --- building ----------------------------------------------------------------------------------------------


def build(config: str | Path | Mapping[str, Any] | Policy | Source, *, store: Store | None = None) -> Llm:
    """A ready `Llm` from a YAML file, a mapping or a `Policy`.

    With a `store`, rates, budgets and breakers are shared with all others that are built with it, unless the
    configuration names Redis. Whoever gives it closes it.

    Raises `ConfigError` listing every mistake with its file and line. Nothing is sent, and no key is read,
    until the first call.
    """
    source = _source(config)
    site = Site(source, BUILTIN)
    policy, is_whole = _policy(config, source, site.found)
    folder = Path(source.name).parent if source.lines else Path()
    meter = _meter(site, policy, folder)
    book = rulebook(site, policy.filters)
    sinks = () if policy.records is None else (JsonlSink(folder / policy.records),)
    for sink in sinks:
        site.tried(("records",), sink.check)
    shared = _shared(site, policy, store, meter, Record(sinks, meter))
    handler = _endpoint(site, policy, shared) if is_whole else None
    shadow, gate = policy.shadow, shared.gate
    candidate = None if shadow is None else _route(site, shadow.candidate, ("shadow", "candidate"), shared)
    layers: list[Layer] = [] if policy.deadline is None else [Deadline(policy.deadline)]
    for index, named in enumerate(policy.layers):
        layers.append(site.make("guardrails.layers", named.name, named.options, ("layers", index)))
    if (kept := policy.cache) is not None:
        layers.append(cast("Layer", site.tried(("cache",), lambda: spec.cache(kept, policy))))
    if site.found or handler is None:
        raise report(site.found, source)
    if gate is not None:
        layers.append(gate)
    layers += _filters(book)
    if shadow is not None and candidate is not None:
        layers.append(spec.shadow(shadow, candidate, shared.record, gate))
    if policy.store.redis is not None:
        handler = Surrounded(handler, (), shared.store)
    return Llm(handler, *layers, name=policy.name, sinks=sinks, meter=meter)


def _shared(
    site: Site, policy: Policy, store: Store | None, meter: Meter | None, record: Record
) -> spec.Shared:
    given = None if policy.store.redis else store
    admit = policy.admit
    return spec.Shared(
        given or site.tried(("store",), policy.store.build) or MemoryStore(),
        RetryBudget(**policy.retry_budget.model_dump()),
        policy.budget,
        None if meter is None else meter.price,
        None if admit is None else site.tried(("admit",), lambda: spec.admit(admit, policy.name)),
        record,
        shares_breakers=given is not None,
    )


def _endpoint(site: Site, policy: Policy, shared: spec.Shared) -> Handler:
    """The endpoint with the layers around it, the routes to several, or a cascade of two.

    What it returns after writing down a mistake is never used: `build` raises for what was found.
    """
    several = [name for name in ("routes", "cascade") if getattr(policy, name)]
    if not several:
        made = site.make(
            "guardrails.endpoints", policy.type, policy.model_extra or {}, (), policy.name, also=[Policy]
        )
        name = policy.name or getattr(made, "name", "")
        layers = site.tried((), lambda: spec.around(policy, name, shared))
        return cast("Handler", Surrounded(made, layers) if made is not None and layers else made)
    if extra := [*several[1:], *sorted(policy.model_extra or {})]:
        known = f"beside {several[0]}, {', '.join(extra)} belongs into each route, or nowhere"
        site.found.append(f"{site.source.at((several[0],))}: {known}")
    if policy.cascade is not None:
        return _cascade(site, policy.cascade, shared)
    made_routes = (
        _route(site, each, ("routes", at), shared, refuses_filtered=_has_resort(policy, at))
        for at, each in enumerate(policy.routes)
    )
    routes = [route for route in made_routes if route is not None]
    try:
        order = spec.ordered(policy.order)
        return FirstOf(routes, order, shared.retries, policy.restart, policy.name or "routes")
    except ConfigError as error:
        if not site.found:
            site.found.append(f"{site.source.at(('order' if policy.order else 'routes',))}: {error}")
        return cast("Handler", None)


def _has_resort(policy: Policy, at: int) -> bool:
    """Whether another route may be asked when the filter of this one's endpoint ends an answer."""
    others = [
        each for place, each in enumerate(policy.routes) if place > at or (policy.order and place != at)
    ]
    return any("content_policy" in each.on for each in others)


def _route(
    site: Site, each: spec.RouteSpec, loc: Loc, shared: spec.Shared, *, refuses_filtered: bool = False
) -> Route | None:
    made = site.make(
        "guardrails.endpoints", each.type, each.model_extra or {}, loc, each.name, also=[type(each)]
    )
    if mistake := spec.check_reasons(each):
        site.found.append(f"{site.source.at((*loc, 'on'))}: {mistake}")
        return None
    layers = site.tried(
        loc, lambda: spec.around(each, each.name, shared, each.admit, refuses_filtered=refuses_filtered)
    )
    return None if made is None or layers is None else each.build(made, layers)


def _cascade(site: Site, given: spec.CascadeSpec, shared: spec.Shared) -> Handler:
    from guardrails.flow.cascade import Cascade, finished_well

    small = _route(site, given.small, ("cascade", "small"), shared)
    large = _route(site, given.large, ("cascade", "large"), shared)
    judge = finished_well
    if given.good_enough is not None:
        try:
            judge = load(given.good_enough)
        except ConfigError as error:
            site.found.append(f"{site.source.at(('cascade', 'good_enough'))}: {error}")
    return cast("Handler", small and large and Cascade(small, large, judge))


class Surrounded:
    """An endpoint with layers of its own, still known by its name and closed with its client.

    `also` is closed with them: the store that the layers of all endpoints share.
    """

    def __init__(self, endpoint: Handler, layers: Sequence[Layer], *also: object) -> None:
        self.name = getattr(endpoint, "name", "")
        self.model = getattr(getattr(endpoint, "config", endpoint), "model", "")
        self._parts: tuple[object, ...] = (*layers, endpoint, *also)
        self._stacked = stack(endpoint, *layers)

    def __call__(self, call: Call) -> Opening:
        """Open the stream for `call`."""
        return self._stacked(call)

    def warm(self) -> None:
        """Load now what the first call would wait for."""
        warm_all(*self._parts)

    async def aclose(self) -> None:
        """Close the endpoint and its layers."""
        await close_all(*self._parts)


def _source(config: str | Path | Mapping[str, Any] | Policy | Source) -> Source:
    if isinstance(config, Source):
        return config
    if isinstance(config, str | Path):
        return load_yaml(config)
    return Source("the configuration", config)


_STAND_INS = {"filters": "invisible", "layers": {"deadline": {"seconds": 1}}}
_ENDPOINTS = frozenset({"type", "routes", "cascade", "small", "large", "candidate"})


def _policy(config: Any, source: Source, found: list[str]) -> tuple[Policy, bool]:
    """What is valid of a configuration, and whether all endpoints are in it. Mistakes go to `found`."""
    if isinstance(config, Policy):
        return config, True
    if not isinstance(source.data, Mapping):
        raise ConfigError(
            f"{source.name}: expected fields such as url and model", hint="see guardrails.config"
        )
    valid = valid_part(Policy, source.data, source, found, stand_ins=_STAND_INS)
    if valid.made is None:
        raise report(found, source)
    return valid.made, not any(place[-1] in _ENDPOINTS for place in valid.cut)


def _filters(book: Rulebook) -> list[Layer]:
    if not any(book.of(direction) for direction in DIRECTIONS):
        return []
    from guardrails.filters.layers import layers as filter_layers

    if not any(rule.action == "pseudonymize" for rule in (*book.input, *(book.tool_results or ()))):
        return list(filter_layers(book))
    from guardrails.filters.restore import Restore
    from guardrails.filters.vaults import Vaults

    vaults = Vaults()
    return [Restore(vaults), *filter_layers(book, vaults=vaults.of)]


_ASKS = frozenset({"type", "url", "routes", "cascade"})


def rules(config: str | Path | Mapping[str, Any] | Source) -> Rulebook:
    """The filter rules of a file: of a whole configuration, or of one that has nothing but them.

    Raises `ConfigError` listing every mistake; those of an endpoint too, when the file has one.
    """
    source = _source(config)
    data = source.data
    keys = data.keys() if isinstance(data, Mapping) else set[str]()
    is_whole = bool({"filters", *_ASKS} & keys)
    if _ASKS & keys:
        build(source)
    if not is_whole:
        lines = {("filters", *loc): line for loc, line in source.lines.items()}
        source = Source(source.name, {"filters": data}, lines)
    site = Site(source, BUILTIN)
    book = rulebook(site, _policy(source.data, source, site.found)[0].filters)
    if site.found:
        raise report(site.found, source)
    return book


def _meter(site: Site, policy: Policy, folder: Path) -> Meter | None:
    if policy.prices is None:
        return None
    from guardrails.prices import PriceBook
    from guardrails.recorder import meter

    try:
        return meter(PriceBook.load(folder / policy.prices))
    except ConfigError as error:
        site.found.append(f"{site.source.at(('prices',))}: {error}")
        return None
