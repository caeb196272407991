"""Things by name, with options, from a file: endpoints, layers and filters, ours and those of plug-ins.

Third parties register names through entry points: groups `guardrails.endpoints` (called with the options,
gives a `Handler`), `guardrails.layers` (gives a `Layer`) and `guardrails.filters` (gives a `Detector`).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from importlib.metadata import entry_points
from typing import Any, Protocol, TypeVar, cast, get_type_hints

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    create_model,
    field_validator,
    model_validator,
)

from guardrails.errors import ConfigError
from guardrails.meant import closest
from guardrails.source import Loc, Source, mistakes, no_truth, valid_part

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)


class Strict(BaseModel):
    """Unknown fields are mistakes."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    _numbers = field_validator("*", mode="before")(no_truth)


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

    @classmethod
    def __get_pydantic_json_schema__(cls, core: Any, handler: Any) -> dict[str, Any]:
        short = {"type": "object", "minProperties": 1, "maxProperties": 1, "not": {"required": ["name"]}}
        options = {"additionalProperties": {"type": ["object", "null"]}}
        long = handler.resolve_ref_schema(handler(core))
        return {"anyOf": [{"type": "string"}, {**short, **options}, long]}


class Options(Protocol):
    """A pydantic model of options that can build the thing."""

    def build(self, name: str) -> Any:
        """The thing; `name` is what the file calls it."""


def options_of(cls: type[Any]) -> type[Strict]:
    """A dataclass's constructor as pydantic options: mistakes in them are reported like all others."""
    hints = get_type_hints(cls)
    taken: dict[str, Any] = {}
    for spec in fields(cls):
        if not spec.init or spec.name.startswith("_"):
            continue
        default: Any = ... if spec.default is MISSING else spec.default
        if spec.default_factory is not MISSING:
            default = spec.default_factory()
        # Under a name of its own: pydantic's models have a `schema` already.
        taken[f"{spec.name}_"] = hints[spec.name], Field(default, alias=spec.name)
    config = {"arbitrary_types_allowed": True, "protected_namespaces": ()}
    return create_model(cls.__name__, __base__=Strict, __cls_kwargs__=config, **taken)


def names_in(group: str, builtin: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """The names that a file may use: ours, and those of plug-ins that are installed."""
    return {*builtin[group], *(entry.name for entry in entry_points(group=group))}


def load(target: str) -> Callable[..., Any]:
    """What `package.module:name` names. Raises `ConfigError` when it is not there."""
    module, _, attribute = target.partition(":")
    try:
        return cast("Callable[..., Any]", getattr(importlib.import_module(module), attribute))
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"{target} cannot be loaded ({error})", hint="write package.module:name") from None


@dataclass(slots=True)
class Site:
    """The file that is being built, the names that it may use, and the mistakes found in it so far."""

    source: Source
    builtin: Mapping[str, Mapping[str, Any]]
    found: list[str] = field(default_factory=list)

    def factory(self, group: str, name: str) -> Any:
        """What makes things of that name. Raises `ConfigError` naming those that there are."""
        if name in self.builtin[group]:
            made = self.builtin[group][name]
            return load(made) if isinstance(made, str) else made
        plugins = {entry.name: entry for entry in entry_points(group=group)}
        if name not in plugins:
            known = sorted({*self.builtin[group], *plugins})
            raise ConfigError(f"unknown name {name!r}: use one of {', '.join(known)}{closest(name, known)}")
        return plugins[name].load()

    def make(
        self,
        group: str,
        name: str,
        options: Mapping[str, Any],
        loc: Loc,
        label: str = "",
        *,
        also: Sequence[type[BaseModel]] = (),
    ) -> Any:
        """The thing of that name; None after writing down why it cannot be made.

        `also` have the fields that may stand beside its options.
        """
        try:
            factory = self.factory(group, name)
            if not isinstance(factory, type):
                return factory(**options)
            if issubclass(factory, BaseModel):
                return self._checked(
                    factory, options, loc, also, lambda made: cast("Options", made).build(label)
                )
            if hasattr(factory, "__dataclass_fields__"):
                return self._checked(
                    options_of(factory),
                    options,
                    loc,
                    also,
                    lambda made: factory(**{key[:-1]: getattr(made, key) for key in made.model_fields_set}),
                )
            return factory(**options)
        except ValidationError as error:
            self.found += mistakes(error, self.source, loc)
        except (ConfigError, TypeError) as error:
            self.found.append(f"{self.source.at(loc)}: {error}")
        return None

    def _checked(
        self,
        model: type[M],
        options: Mapping[str, Any],
        loc: Loc,
        also: Sequence[type[BaseModel]],
        build: Callable[[M], Any],
    ) -> Any:
        """What `build` makes of the options. With a field too many it is tried too, for its mistakes."""
        valid = valid_part(model, options, self.source, self.found, loc, also=also)
        made = build(valid.made) if valid.made is not None and valid.faithful else None
        return None if valid.cut else made

    def tried(self, loc: Loc, make: Callable[[], T]) -> T | None:
        """What `make` makes; None after writing down why it cannot."""
        try:
            return make()
        except ConfigError as error:
            self.found.append(f"{self.source.at(loc)}: {error}")
            return None
