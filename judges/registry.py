"""Judges by name, as a suite file writes them: `exact`, or `{numeric: {tolerance: 0.01}}`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from guardrails.errors import ConfigError
from judges.judge import Judge
from judges.numeric import Numeric
from judges.schema import JsonSchema
from judges.text import Choice, Contains, Exact, Regex

JUDGES: Mapping[str, type[Judge]] = {
    "exact": Exact,
    "contains": Contains,
    "regex": Regex,
    "numeric": Numeric,
    "choice": Choice,
    "json_schema": JsonSchema,
}


def judge(spec: str | Mapping[str, Any]) -> Judge:
    """Make a judge from its name, or from a mapping of its name to its options.

    Raises `ConfigError` for a name or an option that is not known, or a value that an option cannot take.
    """
    name, options = _split(spec)
    if name == "code":
        raise ConfigError(
            "the judge 'code' would run the model's code, and this version has no sandbox to run it in",
            hint="judge these samples with another judge, or leave them out",
        )
    if name not in JUDGES:
        raise ConfigError(
            f"there is no judge {_short(name)}", hint=f"the judges are {', '.join(sorted(JUDGES))}"
        )
    kind: Any = JUDGES[name]
    known = [field.name for field in fields(kind) if field.init]
    if unknown := sorted(str(option) for option in options if option not in known):
        raise ConfigError(
            f"the judge {name!r} has no option {_short(unknown[0])}",
            hint=f"its options are {', '.join(known)}",
        )
    return _made(name, kind, options)


def _split(spec: Any) -> tuple[str, Mapping[Any, Any]]:
    if isinstance(spec, str):
        return spec, {}
    if isinstance(spec, Mapping) and len(spec) == 1:
        ((name, options),) = spec.items()
        options = {} if options is None else options
        if isinstance(name, str) and isinstance(options, Mapping):
            return name, options
    raise ConfigError(
        "a judge is written as its name, or as one name with its options",
        hint="for example `exact` or `{numeric: {tolerance: 0.01}}`",
    )


def _made(name: str, kind: Any, options: Mapping[Any, Any]) -> Judge:
    from pydantic import TypeAdapter, ValidationError

    try:
        made: Judge = TypeAdapter(kind).validate_python(dict(options), strict=False)
    except ValidationError as error:
        said = "; ".join(
            f"{'.'.join(str(step) for step in each['loc'])}: {each['msg']}"
            for each in error.errors(include_url=False, include_input=False)
        )
        raise ConfigError(f"the judge {name!r} cannot be made: {said}") from None
    except ConfigError as error:
        raise ConfigError(f"the judge {name!r} cannot be made: {error.message}", hint=error.hint) from None
    return made


def _short(text: str) -> str:
    return repr(text[:40])
