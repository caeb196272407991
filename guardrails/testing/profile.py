"""What does the simulated endpoint behave like? One frozen value, by name, from a file, or made in Python."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from guardrails.errors import ConfigError
from guardrails.testing.engine import StepModel
from guardrails.testing.faults import Fault


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@dataclass(frozen=True, slots=True)
class Profile:
    """How a simulated endpoint behaves. Times are milliseconds.

    `models`: the names it serves; empty serves every name. `ttft_ms` and `tpot_ms` are medians; a `…_sigma`
    above 0 makes them lognormal with that sigma. `engine` adds queueing: it sets the pace instead of
    `tpot_ms`, and `ttft_ms` becomes a network delay before it. `answers` and `accuracy`: see
    `guardrails.testing.answers`. `reasoning`: words of reasoning before each answer. `tool_calls`: call the
    offered tool once, in a request that offers one. `usage`: report token counts, `cached` of the prompt's
    as read from a cache (a share from 0 to 1). `key`: answer 401 to any other. `requests_per_minute` turns
    on rate-limit headers, and 429 beyond it. `faults` are tried in order, the first that strikes counts.
    `seed` decides every draw, together with the request's number.
    """

    models: tuple[str, ...] = ()
    ttft_ms: float = 0.0
    tpot_ms: float = 0.0
    ttft_sigma: float = 0.0
    tpot_sigma: float = 0.0
    engine: StepModel | None = None
    answers: str = "echo"
    accuracy: float = 1.0
    reasoning: int = 0
    tool_calls: bool = True
    usage: bool = True
    cached: float = 0.0
    key: str | None = field(default=None, repr=False)
    requests_per_minute: float | None = None
    faults: tuple[Fault, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("ttft_ms", "tpot_ms", "ttft_sigma", "tpot_sigma", "reasoning"):
            value = getattr(self, name)
            if not (_is_number(value) and 0 <= value < math.inf):
                raise ConfigError(f"{name} must be a number from 0 on, not {value!r}", kind="profile")
        for name in ("accuracy", "cached"):
            value = getattr(self, name)
            if not (_is_number(value) and 0 <= value <= 1):
                raise ConfigError(f"{name} must be from 0 to 1, not {value!r}", kind="profile")
        for name in ("answers", "key"):
            if not isinstance(getattr(self, name), str | None):
                raise ConfigError(f"{name} must be text: put it in quotes", kind="profile")
        if self.requests_per_minute is not None and not (
            _is_number(self.requests_per_minute) and self.requests_per_minute > 0
        ):
            raise ConfigError("requests_per_minute must be above 0", kind="profile")

    @property
    def paced(self) -> bool:
        """Whether anything takes time at all."""
        return self.engine is not None or self.ttft_ms > 0 or self.tpot_ms > 0

    def pace(self, tokens: int, rng: random.Random) -> list[float]:
        """When each token comes, in seconds after the request, without an engine."""
        at = _draw(self.ttft_ms, self.ttft_sigma, rng)
        times = [at]
        for _ in range(tokens - 1):
            at += _draw(self.tpot_ms, self.tpot_sigma, rng)
            times.append(at)
        return times

    @staticmethod
    def of(value: Mapping[str, Any]) -> Profile:
        """From plain data, as YAML and JSON give it. Raises `ConfigError` for what it cannot read."""
        known = {f.name for f in fields(Profile)}
        if unknown := sorted(set(value) - known - {"base"}):
            raise ConfigError(
                f"unknown profile fields: {', '.join(unknown)}",
                kind="profile",
                hint=f"use some of: {', '.join(sorted(known))}",
            )
        made = dict(value)
        base = named(made.pop("base")) if "base" in made else Profile()
        models = made.get("models", ())
        made["models"] = (models,) if isinstance(models, str) else tuple(models or ())
        if "faults" in made:
            made["faults"] = tuple(Fault.parse(str(spec)) for spec in made["faults"] or ())
        if isinstance(engine := made.get("engine"), Mapping):
            made["engine"] = _step_model(engine)
        return replace(base, **made)

    def to_json(self) -> str:
        """The JSON that `load` reads back. It holds the key."""
        plain = asdict(self)
        plain["faults"] = [fault.spec() for fault in self.faults]
        return json.dumps(plain)


PROFILES: dict[str, Profile] = {
    "instant": Profile(),
    "vendor": Profile(
        ttft_ms=350,
        tpot_ms=12,
        ttft_sigma=0.35,
        tpot_sigma=0.25,
        cached=0.25,
        requests_per_minute=6000,
    ),
    "self-hosted": Profile(ttft_ms=3, engine=StepModel()),
    "overloaded": Profile(
        ttft_ms=3,
        engine=StepModel(base_ms=60, per_sequence_ms=1.0, max_batch=16, max_queue=16),
        faults=(Fault("reset_after", 8, 0.01), Fault("status", 503, 0.02)),
    ),
}
"""The built-in profiles."""


def named(name: str) -> Profile:
    """A built-in profile. Raises `ConfigError` that lists them."""
    if name not in PROFILES:
        raise ConfigError(
            f"unknown profile {name!r}",
            kind="profile",
            hint=f"use one of: {', '.join(PROFILES)}, or the path of a YAML or JSON file",
        )
    return PROFILES[name]


def load(name: str) -> Profile:
    """A built-in profile by its name, or one from a YAML or JSON file by its path.

    A file's fields are those of `Profile`, faults written as `Fault.parse` reads them; its field `base` names
    a built-in profile to start from.
    """
    path = Path(name)
    if name in PROFILES or not (path.suffix in {".yaml", ".yml", ".json"} or path.is_file()):
        return named(name)
    import yaml

    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read the profile in {name}: {error}", kind="profile") from None
    if not isinstance(value, Mapping):
        raise ConfigError(f"{name} is no profile: it holds no fields", kind="profile")
    try:
        return Profile.of(value)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{name}: {error}", kind="profile") from None


def _draw(median_ms: float, sigma: float, rng: random.Random) -> float:
    if sigma == 0 or median_ms == 0:
        return median_ms / 1000.0
    return rng.lognormvariate(math.log(median_ms), sigma) / 1000.0


def _step_model(value: Mapping[str, Any]) -> StepModel:
    known = [f.name for f in fields(StepModel)]
    if unknown := sorted(set(value) - set(known)):
        raise ConfigError(
            f"unknown engine fields: {', '.join(unknown)}",
            kind="profile",
            hint=f"use some of: {', '.join(known)}",
        )
    return StepModel(**value)
