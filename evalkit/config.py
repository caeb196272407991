"""What a run is: golden sets, endpoints, prompts, scorers, gates – as a YAML file, or as the same in Python.

golden: support-desk                 # a set or a file, or a list of them: see evalkit.sets.spec
endpoints:
  - name: vendor                     # the fields of a guardrails policy file
    url: https://api.openai.com/v1
    model: gpt-4o-mini
    filters: {input: [pii], output: [pii]}
prompts:                             # optional: variants, see evalkit.prompts; `system: …` is a short form
  - {name: terse, system: "Answer in one sentence."}
sampling: {n: 1, max_tokens: 300, temperature: 0, seed: 1}
judges: {strict: {url: …, model: …}} # models that scorers may ask, each a policy too: see docs/judges.md
scorers: [contains]                  # left out: the sample's own, the set's, `contains`; or `none`
gates: [pass_rate >= 90%, p99_ttft_ms <= 800]
undecided: report                    # gates that the rows do not decide: exit code 3; `fail`: 1; or `value`
baseline: nightly                    # the run (id, tag, `latest`) that gates call `baseline`
user: {url: …, model: …}             # who plays the simulated users of a set, if it has any
budget: {max_usd: 5}                 # the run stops before it costs more
concurrency: 16                      # open calls per endpoint
timeout: 120                         # seconds for one sample's call, waiting included
max_error_rate: 0.1                  # more failed calls or judges than that is exit code 2
cache: false                         # take answers of earlier runs to the very same question
shuffle: 0                           # the seed of the order in which samples are asked
out: .evalkit                        # runs are kept in `runs.db` under it, unless `store` names a database
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Required, Self, TypedDict, Unpack

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from evalkit import gate
from evalkit.meant import did_you_mean, looks_like_a_set
from evalkit.prompts import PromptSpec, valid_template
from evalkit.sets.spec import GoldenSpec
from guardrails.errors import ConfigError
from guardrails.source import Loc, Source, explain, load_yaml, mistakes, no_truth, report
from judges.llm.model import nobody
from judges.registry import judge, without_functions

ScorerSpec = str | dict[str, Any]
GateSpec = str | dict[str, Any]

MOST = 2**63 - 1
"""The largest whole number that every database and JSON library holds."""

NO_SCORER = "none"
"""For samples whose answers are not judged: what counts is that the call brings one."""


def _named_scorer(spec: Any) -> Any:
    """A scorer as a file would write it, where Python gives a function itself."""
    try:
        return without_functions(spec)
    except ConfigError as error:
        raise ValueError(str(error)) from None


def _judge(spec: Any, info: ValidationInfo) -> Any:
    context = info.context or {}
    named = info.data.get("judges") or {}
    try:
        if spec != NO_SCORER:
            models = {str(name): nobody for name in named}
            judge(spec, folder=context.get("folder"), models=models)
    except ConfigError as error:
        raise ValueError(str(error)) from None
    return spec


def _gate(spec: Any) -> Any:
    try:
        gate.parse(spec)
    except ConfigError as error:
        raise ValueError(str(error)) from None
    return spec


def _counts(spec: Any) -> Any:
    """A golden set as it was: it has no truth values, and where it takes a number, true is none."""
    if isinstance(spec, Mapping):
        draw = spec.get("sample")
        drawn = {f"sample.{name}": value for name, value in draw.items()} if isinstance(draw, Mapping) else {}
        for name, value in {**spec, **drawn}.items():
            if name in ("limit", "sample.n", "sample.seed") and isinstance(value, bool):
                raise ValueError(f"{name}: input should be a number, and {str(value).lower()} is none")
    return spec


class Strict(BaseModel):
    """Unknown fields are mistakes."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    _numbers = field_validator("*", mode="before")(no_truth)


class SamplingOptions(Strict):
    """How answers are drawn: `n` for each sample; what else is left out is the endpoint's choice.

    With a `seed`, the k-th answer to a sample is drawn with `seed + k`: n answers by one seed would be one.
    `logprobs` asks for the tokens' log-probabilities, in OpenAI's words; other dialects refuse.
    """

    n: int = Field(default=1, ge=1, le=10_000)
    max_tokens: int | None = Field(default=None, gt=0, le=MOST)
    temperature: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, gt=0, le=MOST)
    stop: tuple[str, ...] | None = None
    seed: int | None = Field(default=None, ge=-MOST, le=MOST - 10_000)  # each answer adds 1
    logprobs: bool = False


class BudgetOptions(Strict):
    """What the run may cost, in USD. An answer without `max_tokens` is taken for `assumed_output` tokens."""

    max_usd: Decimal = Field(gt=0)
    assumed_output: int = Field(default=4096, gt=0, le=MOST)


_Golden = str | Path | Mapping[str, Any] | GoldenSpec
_Prompt = Mapping[str, Any] | PromptSpec
_Scorer = str | Mapping[str, Any] | Callable[..., Any]
_Gate = str | Mapping[str, Any]


class Given(TypedDict, total=False):
    """What `Suite(…)` takes in Python: one instead of a list, and plain values, as a file has them."""

    golden: Required[_Golden | Sequence[_Golden]]
    endpoints: Required[Sequence[Mapping[str, Any]]]
    prompts: _Prompt | Sequence[_Prompt]
    system: str | None
    sampling: SamplingOptions | Mapping[str, Any]
    judges: Mapping[str, Mapping[str, Any]]
    scorers: _Scorer | Sequence[_Scorer]
    gates: _Gate | Sequence[_Gate]
    undecided: Literal["report", "fail", "value"]
    baseline: str | None
    user: Mapping[str, Any] | None
    budget: BudgetOptions | Mapping[str, Any] | None
    concurrency: int
    timeout: float
    limit: int | None
    max_error_rate: float
    cache: bool
    shuffle: int
    store: str | None
    out: str | Path


class Suite(Strict):
    """Everything that decides what a run does. `endpoints` are policies of `guardrails.config`.

    In Python a scorer may be a function itself: see "Functions of your own" in docs/judges.md. Raises
    `ConfigError` with every mistake but those of the endpoints, whose files only a run knows the place of.
    """

    if TYPE_CHECKING:  # at run time pydantic's own is used, which `check` can tell where files are

        def __init__(self, **given: Unpack[Given]) -> None: ...

    golden: tuple[Annotated[GoldenSpec, BeforeValidator(_counts)], ...]
    endpoints: tuple[dict[str, Any], ...] = Field(min_length=1)
    prompts: tuple[PromptSpec, ...] = ()
    system: str | None = None
    sampling: SamplingOptions = SamplingOptions()
    judges: dict[str, dict[str, Any]] = Field(default_factory=dict)
    scorers: tuple[Annotated[ScorerSpec, BeforeValidator(_named_scorer), AfterValidator(_judge)], ...] = ()
    gates: tuple[Annotated[GateSpec, AfterValidator(_gate)], ...] = ()
    undecided: Literal["report", "fail", "value"] = "report"
    baseline: str | None = None
    user: dict[str, Any] | None = None
    budget: BudgetOptions | None = None
    concurrency: int = Field(default=16, ge=1, le=4096)
    timeout: float = Field(default=300.0, gt=0)
    limit: int | None = Field(default=None, ge=1, le=MOST)
    max_error_rate: float = Field(default=0.1, ge=0, le=1)
    cache: bool = False
    shuffle: int = Field(default=0, ge=-MOST, le=MOST)
    store: str | None = None
    out: Path = Path(".evalkit")

    @model_validator(mode="wrap")
    @classmethod
    def _told(cls, data: Any, made: ModelWrapValidatorHandler[Self], info: ValidationInfo) -> Self:
        try:
            return made(data)
        except ValidationError as error:
            if info.context is not None:  # `check` has more to tell
                raise
            raise explain(error, Source("the suite", data), cls) from None

    @field_validator("golden", "scorers", "gates", "prompts", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        is_one = isinstance(value, str | Path | Mapping | GoldenSpec | PromptSpec) or callable(value)
        return [value] if is_one else value

    @field_validator("golden")
    @classmethod
    def _some(cls, golden: tuple[GoldenSpec, ...]) -> tuple[GoldenSpec, ...]:
        if not golden:  # no `min_length`: it would complain beside each mistake in the list
            raise ValueError("names no golden set: give a built-in one's name, or a file")
        return golden

    @field_validator("endpoints")
    @classmethod
    def _distinct(cls, endpoints: tuple[dict[str, Any], ...]) -> tuple[dict[str, Any], ...]:
        _no_twins("endpoints", [endpoint_name(endpoint) for endpoint in endpoints])
        return endpoints

    @field_validator("prompts")
    @classmethod
    def _named(cls, prompts: tuple[PromptSpec, ...]) -> tuple[PromptSpec, ...]:
        _no_twins("prompts", [_prompt_name(each.name, each.file) for each in prompts])
        return prompts

    @field_validator("system")
    @classmethod
    def _one_way(cls, text: str | None, info: ValidationInfo) -> str | None:
        # Prompts that are not there have been given, and are wrong.
        if text is not None and info.data.get("prompts", True):
            raise ValueError("is the short form of one prompt: with `prompts`, write it into each")
        return valid_template(text)

    @property
    def database(self) -> str:
        """Where the runs are kept: `store`, else a SQLite file under `out`."""
        return self.store or str(self.out / "runs.db")


def _no_twins(what: str, names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"two {what} are called {twice[0]!r}: give each a `name` of its own")


def endpoint_name(config: Mapping[str, Any]) -> str:
    """What an endpoint is called in rows and tables: its name, else its model, else its URL."""
    return str(config.get("name") or config.get("model") or config.get("url") or "endpoint")


def load(path: str | Path, **overrides: Any) -> Suite:
    """The suite in a YAML file. `overrides` replace its fields, as the command line's options do.

    Of a mapping such as `budget` only what they name is replaced. Files that the suite names are looked for
    beside it. Raises `ConfigError` with every mistake, file and line.
    """
    try:
        source = load_yaml(path)
    except ConfigError:
        if Path(path).is_file() and looks_like_a_set(Path(path), None):
            raise _no_suite(path) from None
        raise
    if looks_like_a_set(Path(path), source.data):
        raise _no_suite(path)
    if not isinstance(source.data, Mapping):
        raise ConfigError(f"{source.name}: expected fields such as golden and endpoints", hint=EXAMPLE)
    merged = {name: _merged(source.data.get(name), value) for name, value in overrides.items()}
    data = {**source.data, **merged}
    given = frozenset(name for name in overrides if data[name] != source.data.get(name))
    return check(Source(source.name, data, source.lines, given=given), Path(path).parent, written=True)


def _no_suite(path: str | Path) -> ConfigError:
    return ConfigError(
        f"{path} is no suite: it looks like a golden set",
        hint=f"evalkit run --golden {shlex.quote(str(path))} --endpoint URL --model NAME",
    )


def _merged(old: Any, new: Any) -> Any:
    return {**old, **new} if isinstance(old, Mapping) and isinstance(new, Mapping) else new


EXAMPLE = "`evalkit init` writes a suite; `evalkit run --golden … --endpoint URL --model NAME` needs none"


def check(source: Source, folder: Path | None = None, *, written: bool = False) -> Suite:
    """The suite in `source.data`, whose files are looked for in `folder`.

    With `written` it is somebody's file, and not what was kept of one: the files of its prompts are read
    too, and its gates mean its own sets and endpoints. Raises `ConfigError` with every mistake, those of
    endpoints included.
    """
    found: list[str] = []
    suite = None
    try:
        suite = Suite.model_validate(source.data, context={"folder": folder})
    except ValidationError as error:
        found += mistakes(error, source, (), Suite)
    if isinstance(source.data, Mapping):
        for place, config in _policies(source.data):
            found += _without_head(_mistake(part(source, config, place)))
        found += _prompt_mistakes(source, (folder or Path()) if written else None)
        found += _gate_mistakes(source) if written else ()
    if suite is None or found:
        raise report(found, source)
    return suite


def _policies(data: Mapping[str, Any]) -> Iterator[tuple[Loc, Mapping[str, Any]]]:
    """The endpoints of a suite, right or wrong, and where they stand."""
    named = data.get("judges")
    judges = named.items() if isinstance(named, Mapping) else ()
    places: list[tuple[Loc, Any]] = [(("endpoints", at), each) for at, each in _listed(data, "endpoints")]
    places += [(("user",), data.get("user")), *((("judges", name), each) for name, each in judges)]
    for place, config in places:
        if isinstance(config, Mapping):
            yield place, config


def _listed(data: Mapping[str, Any], name: str) -> Iterator[tuple[int, Any]]:
    given = data.get(name)
    yield from enumerate(given if isinstance(given, list | tuple) else [given])


def _prompt_mistakes(source: Source, folder: Path | None) -> Iterator[str]:
    """What is wrong with the prompts together, and with their files, also where one of them is wrong."""
    prompts = [(at, each) for at, each in _listed(source.data, "prompts") if isinstance(each, Mapping)]
    try:
        _no_twins("prompts", [_prompt_name(each.get("name"), each.get("file")) for _, each in prompts])
    except ValueError as error:
        yield f"{source.at(('prompts',))}: {error}"
    for at, each in prompts:
        if folder is not None and isinstance(file := each.get("file"), str):
            place = source.at(("prompts", at, "file"))
            try:
                PromptSpec(file=Path(file)).resolved(folder)
            except ConfigError as error:
                yield from _without_head(error, f"{place}: ")


def _prompt_name(name: Any, file: Any) -> str:
    return str(name or (Path(str(file)).stem if file else "prompt"))


def _gate_mistakes(source: Source) -> Iterator[str]:
    """Gates on a set or an endpoint that the run has not, as far as the names stand in the suite.

    `evalkit.fitting` looks again when the sets are read; by then there is no other mistake in the suite.
    """
    sets = _set_names(each for _, each in _listed(source.data, "golden"))
    asked = [each for _, each in _listed(source.data, "endpoints") if isinstance(each, Mapping)]
    endpoints = {endpoint_name(each) for each in asked}
    for at, given in _listed(source.data, "gates"):
        try:
            made = gate.parse(given)
        except (ConfigError, AttributeError, TypeError):
            continue  # told already, or no gate at all
        places = (("golden set", made.set, sets), ("endpoint", made.endpoint, endpoints))
        for what, name, there in places:
            # An arm is called `endpoint/prompt`.
            if name and there and name not in there and name.rpartition("/")[0] not in there:
                meant = did_you_mean(name, sorted(there))
                yield f"{source.at(('gates', at))}: the run has no {what} {name!r}{meant}"


def _set_names(golden: Iterable[Any]) -> set[str]:
    """What the sets may be called; nothing where only reading them tells."""
    names: set[str] = set()
    for each in golden:
        spec = {"path": each} if isinstance(each, str) else each
        if not isinstance(spec, Mapping):
            return set()
        if isinstance(name := spec.get("name"), str):
            names.add(name)
            continue
        path = spec.get("builtin") or spec.get("path")
        if not isinstance(path, str) or any(mark in path for mark in "*?["):
            return set()
        steps = Path(path).name.split(".")
        if steps[0] == "samples":  # called as its folder
            return set()
        names.update(".".join(steps[:count]) for count in range(1, len(steps) + 1))
    return names


def part(source: Source, config: Mapping[str, Any], place: Loc) -> Source:
    """One endpoint as a source of its own, with its lines in the suite's file."""
    lines = {loc[len(place) :]: line for loc, line in source.lines.items() if loc[: len(place)] == place}
    return Source(source.name, dict(config), lines, (*source.within, *place))


def _mistake(source: Source) -> ConfigError | None:
    """What is wrong with an endpoint."""
    from guardrails.config import build

    try:
        build(source)
    except ConfigError as error:
        return error
    return None


def _without_head(error: ConfigError | None, place: str = "") -> list[str]:
    """The mistakes in an error, each of which says its place, or else the error at this place."""
    if error is None:
        return []
    listed = [line.strip() for line in str(error).splitlines()]
    return listed[1:] or [place + listed[0]]
