"""A stack from a file: `build("policy.yaml")`, or from the same as pydantic objects.

    name: vendor
    type: http                       # http | function | replay, or a name that a plug-in registers
    url: https://api.openai.com/v1
    model: gpt-4o-mini
    key_env: OPENAI_API_KEY
    timeouts: {first_event: 20, between_events: 10, whole: 120}
    deadline: 60
    filters:
      input:  [pii]
      output: [{pii: {entities: [EMAIL_ADDRESS, PHONE_NUMBER], action: redact}}]
    prices: my-prices.toml
    records: calls.jsonl

Third parties register names through entry points: groups `guardrails.endpoints` (called with the options,
gives a `Handler`), `guardrails.layers` (gives a `Layer`) and `guardrails.filters` (gives a `Detector`).
Handlers hold sockets and do not pickle; a config does, so it is what travels to other processes.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Literal, Protocol, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from guardrails.client import Llm
from guardrails.dialects import NAMES as DIALECTS
from guardrails.endpoints.opening import Timeouts
from guardrails.errors import ConfigError
from guardrails.filters import InputFilters, OutputFilters, Pii
from guardrails.filters.detector import Detector
from guardrails.flow.deadline import Deadline
from guardrails.handler import Handler, Layer
from guardrails.record import Meter
from guardrails.recorder import JsonlSink
from guardrails.source import Loc, Source, load_yaml, mistakes, report


class Strict(BaseModel):
    """Unknown fields are mistakes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


# --- what stands in the file -------------------------------------------------------------------------------


class Named(Strict):
    """A thing by name, with options: `pii`, `{pii: {threshold: 0.6}}` or `{name: pii, options: {…}}`."""

    name: str
    options: dict[str, Any] = {}

    @model_validator(mode="before")
    @classmethod
    def _spellings(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"name": value}
        if isinstance(value, Mapping) and len(value) == 1 and "name" not in value:
            ((name, options),) = value.items()
            return {"name": name, "options": {} if options is None else options}
        return value


class Filters(Strict):
    """What looks at prompts, and what looks at answers, in this order."""

    input: list[Named] = []
    output: list[Named] = []


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
    headers: dict[str, str] = {}
    timeouts: Timeouts = Timeouts()
    connect_timeout: float = Field(default=10.0, gt=0)
    leniency: list[str] = []
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

        return FunctionEndpoint(_load(self.target), name or self.target, self.model, self.timeouts)


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


class FilterOptions(BaseModel):
    """What every filter takes, whatever its detector."""

    model_config = ConfigDict(extra="allow", frozen=True)

    action: Literal["redact", "block"] = "redact"
    on_error: Literal["block", "pass_and_flag"] = "block"


class PiiOptions(Strict):
    """The `pii` detector: Presidio's pattern recognizers."""

    entities: list[str] | None = None
    threshold: float = Field(default=0.4, ge=0, le=1)

    def build(self, name: str) -> Detector:
        """The detector."""
        return Pii(entities=None if self.entities is None else tuple(self.entities), threshold=self.threshold)


# --- names -------------------------------------------------------------------------------------------------

BUILTIN: Mapping[str, Mapping[str, Any]] = {
    "guardrails.endpoints": {"http": HttpOptions, "function": FunctionOptions, "replay": ReplayOptions},
    "guardrails.layers": {"deadline": DeadlineOptions},
    "guardrails.filters": {"pii": PiiOptions},
}


class _Options(Protocol):
    def build(self, name: str) -> Any: ...


def _factory(group: str, name: str) -> Any:
    if name in BUILTIN[group]:
        return BUILTIN[group][name]
    found = {entry.name: entry for entry in entry_points(group=group)}
    if name not in found:
        known = ", ".join(sorted({*BUILTIN[group], *found}))
        raise ConfigError(f"unknown name {name!r}: use one of {known}")
    return found[name].load()


def _load(target: str) -> Callable[..., Any]:
    module, _, attribute = target.partition(":")
    try:
        return cast("Callable[..., Any]", getattr(importlib.import_module(module), attribute))
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{target} cannot be loaded ({error})", hint="write package.module:name") from None


# --- building ----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Site:
    """The file that is being built, and the mistakes found in it so far."""

    source: Source
    found: list[str] = field(default_factory=list)

    def make(self, group: str, name: str, options: Mapping[str, Any], loc: Loc, label: str = "") -> Any:
        """The thing of that name; None after writing down why it cannot be made."""
        try:
            factory = _factory(group, name)
            if isinstance(factory, type) and issubclass(factory, BaseModel):
                made: _Options = factory.model_validate(dict(options))  # type: ignore[assignment]
                return made.build(label)
            return factory(**options)
        except ValidationError as error:
            self.found += mistakes(error, self.source, loc)
        except (ConfigError, TypeError) as error:
            self.found.append(f"{self.source.at(loc)}: {error}")
        return None


def build(config: str | Path | Mapping[str, Any] | Policy | Source) -> Llm:
    """A ready `Llm` from a YAML file, a mapping or a `Policy`.

    Raises `ConfigError` listing every mistake with its file and line. Nothing is sent, and no key is read,
    until the first call.
    """
    source = _source(config)
    site = _Site(source)
    policy = _policy(config, source)
    folder = Path(source.name).parent if source.lines else Path()
    handler = site.make("guardrails.endpoints", policy.type, policy.model_extra or {}, (), policy.name)
    layers: list[Layer] = [] if policy.deadline is None else [Deadline(policy.deadline)]
    for index, named in enumerate(policy.layers):
        layers.append(site.make("guardrails.layers", named.name, named.options, ("layers", index)))
    for direction, wrap in (("input", InputFilters), ("output", OutputFilters)):
        for index, named in enumerate(getattr(policy.filters, direction)):
            layers.append(_filter(site, wrap, named, ("filters", direction, index)))
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


def _filter(site: _Site, wrap: type[InputFilters] | type[OutputFilters], named: Named, loc: Loc) -> Any:
    try:
        common = FilterOptions.model_validate(named.options)
    except ValidationError as error:
        site.found += mistakes(error, site.source, (*loc, named.name))
        return None
    detector = site.make("guardrails.filters", named.name, common.model_extra or {}, (*loc, named.name))
    return None if detector is None else wrap((detector,), action=common.action, on_error=common.on_error)


def _meter(site: _Site, policy: Policy, folder: Path) -> Meter | None:
    if policy.prices is None:
        return None
    from guardrails.prices import PriceBook
    from guardrails.recorder import meter

    try:
        return meter(PriceBook.load(folder / policy.prices))
    except ConfigError as error:
        site.found.append(f"{site.source.at(('prices',))}: {error}")
        return None
