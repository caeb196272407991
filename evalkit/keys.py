"""Are the keys there that endpoints will ask for? Better known before the first call than after many."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from evalkit.plan import Plan
from guardrails.errors import ConfigError


def check_keys(plan: Plan) -> None:
    """Raises `ConfigError` for a variable that is to hold a key and is not set in this process."""
    for target in (*plan.targets, *plan.judges, *filter(None, [plan.user])):
        for variable in _variables(target.about):
            if not os.environ.get(variable):
                raise ConfigError(
                    f"{target.name}: the environment variable {variable} is not set",
                    hint=f"export {variable}=…; nothing was asked",
                )


def _variables(config: Any) -> Iterator[str]:
    """Those of an endpoint and of its routes. A filter may do without its key, and says so itself if not."""
    if isinstance(config, Mapping):
        variable = config.get("key_env")
        if isinstance(variable, str) and config.get("type", "http") == "http":
            yield variable
        for name, value in config.items():
            if name != "filters":
                yield from _variables(value)
    elif isinstance(config, list | tuple):
        for each in config:
            yield from _variables(each)
