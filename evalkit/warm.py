"""Load before the first call what the first call would wait for, or its TTFT is that of an import."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any


def warm(endpoints: Iterable[Mapping[str, Any]]) -> None:
    """Load the filters' patterns and the models' vocabularies that these configurations name.

    What a filter loads it keeps for the process, so a throw-away one will do.
    """
    from guardrails import tokens
    from guardrails.config import rules
    from guardrails.errors import ConfigError

    for config in endpoints:
        with suppress(ConfigError):  # building the endpoint says it, with its place
            rules({"filters": config.get("filters") or {}}).warm()
        tokens.warm(str(config.get("model", "")))
