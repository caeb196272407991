"""Do the gates fit the run? A gate that nothing can decide is a mistake, and it is found before any call."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any

from evalkit.gate import BASELINE
from evalkit.meant import did_you_mean, there_are
from evalkit.mistakes import Mistakes
from guardrails.errors import ConfigError

if TYPE_CHECKING:
    from evalkit.gate import Gate
    from evalkit.plan import Part, Plan


def check(plan: Plan) -> None:
    """Raises `ConfigError` for gates on what the run has not.

    A plan that asks nobody judges what another one asked: only the tags of its gates can be looked for.
    """
    wrong = Mistakes()
    wrong.each(lambda each: _check(plan, each), plan.gates)
    wrong.tell()


def _check(plan: Plan, each: Gate) -> None:
    _check_places(plan, each)
    parts = [part for part in plan.parts if each.set in (None, part.golden.name)]
    if each.tag is not None:
        _find(each, "a tag", each.tag, _tags(parts), "the samples have no tags")
    if each.metric.scorer is not None and plan.targets:
        _find(each, "a scorer", each.metric.scorer, _scorers(parts), "no scorer judges the samples")


def doubts(plan: Plan) -> Iterator[str]:
    """What is no mistake, and may not be meant: tags that a set has not, a prompt without the question, and
    gates that nothing decides, since a first run of all has no baseline."""
    for part in plan.parts:
        yield from (f"{part.golden.name}: {doubt}" for doubt in part.golden.doubts)
    for prompt in plan.prompts:
        yield from prompt.doubts(chain.from_iterable(map(plan.samples, plan.parts)))
    for target in plan.targets:
        if "hedge" in set(names(target.about)):
            yield (
                f"{target.name}: no hedges are sent in a run, whose calls are in nobody's hurry: "
                "its TTFT is that without them"
            )
    if plan.suite.baseline is not None or BASELINE in plan.arm_names:
        return
    for each in plan.gates:
        if each.against == BASELINE:
            yield f"the gate `{each}` will be undecided: no baseline is given (`--baseline RUN`)"


def names(config: Any) -> Iterator[str]:
    """All names in a configuration."""
    if isinstance(config, Mapping):
        for name, value in config.items():
            yield str(name)
            yield from names(value)
    elif isinstance(config, list | tuple):
        for each in config:
            yield from names(each)


def _find(each: Gate, what: str, name: str, there: Iterable[str], none: str) -> None:
    """Look for a name among those that any sample has, asked in this run or not."""
    seen: set[str] = set()
    for one in there:
        if one == name:
            return
        seen.add(one)
    raise ConfigError(
        f"the gate `{each}` means {what} {name!r} that no sample has",
        hint=there_are(seen, name) if seen else none,
    )


def _tags(parts: Iterable[Part]) -> Iterator[str]:
    return chain.from_iterable(one.tags for part in parts for one in part.golden.samples)


def _scorers(parts: Iterable[Part]) -> Iterator[str]:
    for part in parts:
        for one in part.golden.samples:
            yield from (judge.name for judge in part.scoring.judges(one).made)


def _check_places(plan: Plan, each: Gate) -> None:
    """Raises `ConfigError` for a gate on a set, an endpoint or answers that the run has not."""
    sets, arms = [part.golden.name for part in plan.parts], plan.arm_names
    n = plan.suite.sampling.n
    needed = each.metric.k or (2 if each.metric.name == "flake_rate" else 1)
    if needed > n:
        raise ConfigError(
            f"the gate `{each}` needs {needed} answers to a sample, and the run asks for {n}",
            hint=f"`sampling: {{n: {needed}}}`, or -n {needed}",
        )
    held = [each.endpoint] if each.endpoint is not None else arms
    if each.against is not None and set(held) == {each.against}:
        raise ConfigError(
            f"the gate `{each}` holds an endpoint against itself",
            hint="name another endpoint of the run, or an earlier run by its id or its tag",
        )
    for what, name, there in (("a golden set", each.set, sets), ("an endpoint", each.endpoint, arms)):
        if name is not None and there and name not in there:
            raise ConfigError(
                f"the gate `{each}` means {what} {name!r} that the run has not",
                hint=f"it has {', '.join(there)}{did_you_mean(name, there)}",
            )
