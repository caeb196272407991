"""What a run is: a golden set, endpoints, scorers, gates – as a YAML file, or as the same in Python.

golden: support-desk                 # a built-in set by name, or a JSONL, JSON or CSV file
endpoints:
  - name: vendor                     # the fields of a guardrails policy file
    url: https://api.openai.com/v1
    model: gpt-4o-mini
    filters: {input: [pii], output: [pii]}
scorers: [contains]                  # left out: the sample's own, the set's, `contains`; or `none`
system: You are a support desk.      # optional
sampling: {max_tokens: 300, temperature: 0, seed: 1}
concurrency: 16                      # open calls per endpoint
timeout: 120                         # seconds for one sample's call, waiting included
gates: [pass_rate >= 90%, p99_ttft_ms <= 800]
undecided: fail                      # or `value`: a gate whose interval crosses the bound goes by the value
out: .evalkit                        # runs are kept in `runs/` under it
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator

from evalkit import gate
from guardrails.errors import ConfigError
from guardrails.source import Source, load_yaml, mistakes, report
from judges.registry import judge

ScorerSpec = str | dict[str, Any]


NO_SCORER = "none"
"""For samples whose answers are not judged: what counts is that the call brings one."""


def _judge(spec: Any) -> Any:
    try:
        if spec != NO_SCORER:
            judge(spec)
    except ConfigError as error:
        raise ValueError(str(error)) from None
    return spec


def _gate(text: str) -> str:
    try:
        gate.parse(text)
    except ConfigError as error:
        raise ValueError(str(error)) from None
    return text


class SamplingOptions(BaseModel):
    """How answers are drawn; what is left out is the endpoint's choice."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_tokens: int | None = Field(default=None, gt=0)
    temperature: float | None = Field(default=None, ge=0)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, gt=0)
    stop: tuple[str, ...] | None = None
    seed: int | None = None


class Suite(BaseModel):
    """Everything that decides what a run does. `endpoints` are policies of `guardrails.config`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    golden: str = Field(min_length=1)
    endpoints: tuple[dict[str, Any], ...] = Field(min_length=1)
    scorers: tuple[Annotated[ScorerSpec, AfterValidator(_judge)], ...] = ()
    system: str | None = None
    sampling: SamplingOptions = SamplingOptions()
    concurrency: int = Field(default=16, ge=1, le=4096)
    timeout: float = Field(default=300.0, gt=0)
    limit: int | None = Field(default=None, ge=1)
    gates: tuple[Annotated[str, AfterValidator(_gate)], ...] = ()
    undecided: Literal["fail", "value"] = "fail"
    out: Path = Path(".evalkit")

    @field_validator("scorers", "gates", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        return [value] if isinstance(value, str | Mapping) else value

    @field_validator("endpoints")
    @classmethod
    def _distinct(cls, endpoints: tuple[dict[str, Any], ...]) -> tuple[dict[str, Any], ...]:
        seen = [endpoint_name(endpoint) for endpoint in endpoints]
        twice = sorted({name for name in seen if seen.count(name) > 1})
        if twice:
            raise ValueError(f"two endpoints are called {twice[0]!r}: give each a `name` of its own")
        return endpoints


def endpoint_name(config: Mapping[str, Any]) -> str:
    """What an endpoint is called in rows and tables: its name, else its model, else its URL."""
    return str(config.get("name") or config.get("model") or config.get("url") or "endpoint")


def load(path: str | Path, **overrides: Any) -> Suite:
    """The suite in a YAML file. `overrides` replace its fields, as the command line's options do.

    A golden set's path is relative to the file. Raises `ConfigError` with every mistake, file and line.
    """
    source = load_yaml(path)
    if not isinstance(source.data, Mapping):
        raise ConfigError(f"{source.name}: expected fields such as golden and endpoints", hint=EXAMPLE)
    data = dict(source.data)
    if isinstance(data.get("golden"), str):
        data["golden"] = beside(data["golden"], Path(path).parent)
    return check(Source(source.name, {**data, **overrides}, source.lines))


EXAMPLE = "`evalkit run --golden support-desk --endpoint URL --model NAME` needs no file"


def check(source: Source) -> Suite:
    """The suite in `source.data`. Raises `ConfigError` with every mistake, those of endpoints included."""
    found: list[str] = []
    suite = None
    try:
        suite = Suite.model_validate(source.data)
    except ValidationError as error:
        found += mistakes(error, source)
    endpoints = source.data.get("endpoints") if isinstance(source.data, Mapping) else None
    for number, config in enumerate(endpoints if isinstance(endpoints, list | tuple) else ()):
        if isinstance(config, Mapping):
            found += _endpoint_mistakes(part(source, config, number))
    if suite is None or found:
        raise report(found, source)
    return suite


def beside(golden: str, folder: Path) -> str:
    """A golden set's path as seen from `folder`; the name of a built-in set stays as it is."""
    from evalkit import datasets

    return golden if golden in datasets.names() else str(folder / golden)


def part(source: Source, config: Mapping[str, Any], number: int) -> Source:
    """One endpoint as a source of its own, with its lines in the suite's file."""
    place = ("endpoints", number)
    lines = {loc[2:]: line for loc, line in source.lines.items() if loc[:2] == place}
    return Source(source.name, dict(config), lines)


def _endpoint_mistakes(source: Source) -> list[str]:
    from guardrails.config import build

    try:
        build(source)
    except ConfigError as error:
        listed = [line.strip() for line in str(error).splitlines()]
        return listed[1:] or listed
    return []
