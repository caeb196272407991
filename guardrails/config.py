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
    prices: my-prices.toml
    records: calls.jsonl

Plug-ins register names of their own (`guardrails.named`).
Handlers hold sockets and do not pickle; a config does, so it is what travels to other processes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from guardrails.client import Llm
from guardrails.dialects import NAMES as DIALECTS
from guardrails.endpoints.opening import Timeouts
from guardrails.errors import ConfigError
from guardrails.filters.layers import layers as filter_layers
from guardrails.filters.policy import Rulebook
from guardrails.filters.spec import BUILTIN as FILTERS
from guardrails.filters.spec import Filters, rulebook
from guardrails.flow.deadline import Deadline
from guardrails.handler import Handler, Layer
from guardrails.named import Named, Site, Strict, load
from guardrails.record import Meter
from guardrails.recorder import JsonlSink
from guardrails.source import Source, load_yaml, mistakes, report

__all__ = ["Filters", "Named", "Policy", "build", "rules"]

# --- what stands in the file -------------------------------------------------------------------------------


class Policy(BaseModel):
    """One endpoint and the layers around it. Fields beyond these are options of the endpoint's `type`."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str = ""
    type: str = "http"
    deadline: float | None = Field(default=None, gt=0)
    filters: Filters = Filters()
    layers: list[Named] = []
    prices: Path | None = None
    records: Path | None = None


class HttpOptions(Strict):
    """`type: http` – an inference server or a vendor's API."""

    url: str
    model: str = ""
    dialect: str = "openai_chat"
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

        options = {spec: getattr(self, spec) for spec in type(self).model_fields}
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


def build(config: str | Path | Mapping[str, Any] | Policy | Source) -> Llm:
    """A ready `Llm` from a YAML file, a mapping or a `Policy`.

    Raises `ConfigError` listing every mistake with its file and line. Nothing is sent, and no key is read,
    until the first call.
    """
    source = _source(config)
    site = Site(source, BUILTIN)
    policy = _policy(config, source)
    folder = Path(source.name).parent if source.lines else Path()
    handler = site.make("guardrails.endpoints", policy.type, policy.model_extra or {}, (), policy.name)
    layers: list[Layer] = [] if policy.deadline is None else [Deadline(policy.deadline)]
    for index, named in enumerate(policy.layers):
        layers.append(site.make("guardrails.layers", named.name, named.options, ("layers", index)))
    book = rulebook(site, policy.filters)
    if not site.found:
        layers += _filters(book)
    meter = _meter(site, policy, folder)
    if site.found:
        raise report(site.found, source)
    sinks = () if policy.records is None else (JsonlSink(folder / policy.records),)
    return Llm(handler, *layers, name=policy.name, sinks=sinks, meter=meter)


def _source(config: str | Path | Mapping[str, Any] | Policy | Source) -> Source:
    if isinstance(config, Source):
        return config
    if isinstance(config, str | Path):
        return load_yaml(config)
    return Source("the configuration", config)


def _policy(config: Any, source: Source) -> Policy:
    if isinstance(config, Policy):
        return config
    if not isinstance(source.data, Mapping):
        raise ConfigError(
            f"{source.name}: expected fields such as url and model", hint="see guardrails.config"
        )
    try:
        return Policy.model_validate(dict(source.data))
    except ValidationError as error:
        raise report(mistakes(error, source), source) from None


def _filters(book: Rulebook) -> list[Layer]:
    if not any(rule.action == "pseudonymize" for rule in (*book.input, *(book.tool_results or ()))):
        return list(filter_layers(book))
    from guardrails.filters.restore import Restore
    from guardrails.filters.vaults import Vaults

    vaults = Vaults()
    return [Restore(vaults), *filter_layers(book, vaults=vaults.of)]


def rules(config: str | Path | Mapping[str, Any] | Source) -> Rulebook:
    """The filter rules of a file: of a whole configuration, or of one that has nothing but them.

    Raises `ConfigError` listing every mistake; those of an endpoint too, when the file has one.
    """
    source = _source(config)
    data = source.data
    is_whole = isinstance(data, Mapping) and bool({"filters", "type", "url"} & data.keys())
    if is_whole and {"type", "url"} & data.keys():
        build(source)
    if not is_whole:
        lines = {("filters", *loc): line for loc, line in source.lines.items()}
        source = Source(source.name, {"filters": data}, lines)
    site = Site(source, BUILTIN)
    book = rulebook(site, _policy(source.data, source).filters)
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
