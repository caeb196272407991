"""A JSON schema applied to text that nobody trusts, in bounded time and without the network.

Nothing is ever fetched: a `$ref` that leaves the schema is a configuration error. Patterns in the schema run
under RE2, because they meet the model's text. `format` is an annotation, as the standard says, and is not
checked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from guardrails.errors import ConfigError
from guardrails.patterns import linear_pattern

MAX_DEPTH = 64
MAX_LISTED = 20
MAX_REFERENCES = 10_000
"""How often one answer may follow a `$ref`: a schema that branches into itself grows as 2 to the depth."""

Errors = Iterator[Any]

_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
_DATA = frozenset({"enum", "const", "default", "examples"})


class TooManySteps(Exception):
    """The schema could not be applied to this text within its bounds: nothing is known about it."""


@dataclass(frozen=True, slots=True)
class Schema:
    """A JSON schema (draft 2020-12 unless it names another), ready to be applied."""

    rules: Mapping[str, Any]
    _validator: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_validator", _validator(self.rules))

    def __reduce__(self) -> tuple[Any, ...]:
        # The validator's class is made at run time and does not pickle; it is made again.
        return type(self), (dict(self.rules),)

    def complaint(self, text: str) -> str | None:
        """Why the text is no JSON that fits, in words that hold nothing of it; None when it fits.

        Raises `TooManySteps`.
        """
        import orjson

        try:
            value = orjson.loads(text.encode("utf-8", "surrogatepass"))
        except orjson.JSONDecodeError as error:
            return f"not JSON (line {error.lineno}, column {error.colno})"
        if _deeper_than(value, MAX_DEPTH):
            return f"nested deeper than {MAX_DEPTH} levels"
        try:
            with _bounded():
                broken = list(islice(self._validator.iter_errors(value), MAX_LISTED))
        except (RecursionError, ArithmeticError):
            raise TooManySteps from None
        if not broken:
            return None
        first = "/".join(str(step) for step in broken[0].absolute_schema_path)
        count = f"{MAX_LISTED} or more" if len(broken) == MAX_LISTED else str(len(broken))
        return f"{count} rules of the schema broken, first {first}"


def _deeper_than(value: Any, limit: int) -> bool:
    layer = [value]
    for _ in range(limit):
        layer = [
            inner
            for outer in layer
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not layer:
            return False
    return any(isinstance(value, dict | list) for value in layer)


# --- making the validator ----------------------------------------------------------------------------------


def _validator(schema: Mapping[str, Any]) -> Any:
    import jsonschema
    from referencing.jsonschema import EMPTY_REGISTRY

    schema = dict(schema)
    if _deeper_than(schema, MAX_DEPTH):
        raise ConfigError(f"the JSON schema is nested deeper than {MAX_DEPTH} levels")
    dialect = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    try:
        dialect.check_schema(schema)
    except jsonschema.SchemaError as error:
        path = "/".join(str(step) for step in error.absolute_path) or "its root"
        raise ConfigError(
            f"the JSON schema is wrong at {path}: breaks the rule {error.validator!r}"
        ) from None
    rules = list(_rules(schema))
    _check_patterns(rules)
    _check_references(rules, schema, dialect)
    counted = {key: _counted(dialect.VALIDATORS[key]) for key in _REFERENCES if key in dialect.VALIDATORS}
    bounded = jsonschema.validators.extend(dialect, _LINEAR | counted)  # type: ignore[no-untyped-call]
    # An explicit registry: the library's default one would fetch what it does not know.
    validator = bounded(schema, registry=EMPTY_REGISTRY)
    try:
        with _bounded():
            validator.is_valid(None)
    except RecursionError:
        raise ConfigError("the JSON schema refers to itself without end") from None
    return validator


def _rules(schema: Any) -> Iterator[tuple[str, Any]]:
    """Every keyword with its value, at every depth; enumerated data is not searched."""
    if isinstance(schema, Mapping):
        for key, value in schema.items():
            yield key, value
            if key not in _DATA:
                yield from _rules(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _rules(value)


def _check_patterns(rules: list[tuple[str, Any]]) -> None:
    for key, value in rules:
        if key == "pattern" and isinstance(value, str):
            linear_pattern(value)
        elif key == "patternProperties" and isinstance(value, Mapping):
            for pattern in value:
                linear_pattern(pattern)
    keys = {key for key, _ in rules}
    if {"patternProperties", "unevaluatedProperties"} <= keys:
        raise ConfigError(
            "the JSON schema has both patternProperties and unevaluatedProperties, which is not supported",
            hint="use additionalProperties",
        )


def _check_references(rules: list[tuple[str, Any]], schema: Any, dialect: Any) -> None:
    from referencing import Registry, Resource
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import specification_with

    specification = specification_with(dialect.META_SCHEMA["$schema"])
    resource = Resource.from_contents(schema, default_specification=specification)
    base = resource.id() or ""
    registry: Registry[Any] = Registry().with_resource(base, resource)
    resolver = registry.resolver(base)
    for key, value in rules:
        if key not in _REFERENCES or not isinstance(value, str):
            continue
        if not value.startswith("#"):
            raise ConfigError(
                f"the JSON schema refers to {value!r}, and nothing is fetched",
                hint="put the definition under $defs and refer to it as #/$defs/NAME",
            )
        try:
            resolver.lookup(value)
        except Unresolvable:
            raise ConfigError(f"the JSON schema refers to {value!r}, which it does not define") from None


# --- keywords whose stock versions take more than linear time on the model's text --------------------------


_left: ContextVar[list[int]] = ContextVar("_left")


@contextmanager
def _bounded() -> Iterator[None]:
    """Allow `MAX_REFERENCES` references until the end of the block."""
    token = _left.set([MAX_REFERENCES])
    try:
        yield
    finally:
        _left.reset(token)


def _counted(stock: Callable[..., Errors | None]) -> Callable[..., Errors]:
    def follow(validator: Any, reference: str, instance: Any, schema: Any) -> Errors:
        left = _left.get()
        left[0] -= 1
        if left[0] < 0:
            raise RecursionError
        yield from stock(validator, reference, instance, schema) or ()

    return follow


def _error(message: str) -> Any:
    from jsonschema import ValidationError

    return ValidationError(message)


def _pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Errors:
    if isinstance(instance, str) and not _search(pattern, instance):
        yield _error("does not match the pattern")


def _search(pattern: str, text: str) -> bool:
    return linear_pattern(pattern).search(text.encode("utf-8", "replace")) is not None


def _pattern_properties(validator: Any, patterns: Mapping[str, Any], instance: Any, schema: Any) -> Errors:
    if isinstance(instance, dict):
        for pattern, inner in patterns.items():
            for key, value in instance.items():
                if _search(pattern, key):
                    yield from validator.descend(value, inner, schema_path=pattern)


def _additional_properties(validator: Any, inner: Any, instance: Any, schema: Any) -> Errors:
    if not isinstance(instance, dict):
        return
    known, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    for key, value in instance.items():
        if key in known or any(_search(pattern, key) for pattern in patterns):
            continue
        if inner is False:
            yield _error("has a property that the schema does not know")
        else:
            yield from validator.descend(value, inner)


def _unique_items(validator: Any, wanted: bool, instance: Any, schema: Any) -> Errors:
    if wanted and isinstance(instance, list) and len({_frozen(item) for item in instance}) < len(instance):
        yield _error("has items that are equal")


def _frozen(value: Any) -> Any:
    """A hashable stand-in that is equal where JSON values are: 1 and 1.0 are, 1 and true are not."""
    if isinstance(value, dict):
        return "object", frozenset((key, _frozen(inner)) for key, inner in value.items())
    if isinstance(value, list):
        return "array", tuple(map(_frozen, value))
    return ("boolean", value) if isinstance(value, bool) else value


_LINEAR: dict[str, Callable[..., Errors]] = {
    "pattern": _pattern,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional_properties,
    "uniqueItems": _unique_items,
}
