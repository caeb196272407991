"""Load before the first call what the first call would wait for, or its TTFT is that of an import."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def warm(endpoints: Iterable[Mapping[str, Any]]) -> None:
    """Load the filters' patterns and the models' vocabularies that these configurations name.

    What a filter loads it keeps for the process, so a throw-away one with its default options will do.
    """
    from pydantic import ValidationError

    from guardrails import tokens
    from guardrails.config import BUILTIN, Filters

    for config in endpoints:
        filters = Filters.model_validate(config.get("filters") or {})
        for name in {named.name for named in (*filters.input, *filters.output)}:
            options = BUILTIN["guardrails.filters"].get(name)
            try:
                load = getattr(options().build(name), "warm", None) if options else None
            except ValidationError:  # it has options that it cannot do without
                continue
            if load is not None:
                load()
        tokens.warm(str(config.get("model", "")))
