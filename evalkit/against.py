"""What is doubtful of the runs that a run is compared with: said beside every comparison with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from evalkit.columns import FAILED, Columns
from evalkit.known_judges import digests
from evalkit.stores import RunGone, as_found
from guardrails.errors import ConfigError

if TYPE_CHECKING:
    from evalkit.stores import Run, Store


def found(store: Store, wanted: Mapping[str, str]) -> dict[str, tuple[Run, Columns]]:
    """Runs and their rows by the names of `wanted`, without those that were deleted meanwhile."""
    there = {}
    for name, run in wanted.items():
        with suppress(RunGone):
            there[name] = as_found(store, store.find(run)), Columns.of(store.trials(run))
    return there


def moved(store: Store, called: Mapping[str, str], held: Mapping[str, str]) -> Iterator[str]:
    """A sentence for each run in `held` that is not the one that its name in `called` means by now."""
    for name, run in held.items():
        now = _meant(store, called[name])
        if now != run and _meant(store, run) == run:  # where it is gone, that is said
            means = f"{called[name]} is {now or 'no run'} by now"
            yield f"compared with {run}, as the run itself was ({means}; --baseline names another)"


def _meant(store: Store, name: str) -> str:
    """The id of the run that is called so; empty for none."""
    with suppress(ConfigError):
        return store.find(name).id
    return ""


def doubts(
    run: Run, others: Mapping[str, tuple[Run, Columns]], wanted: Mapping[str, str] | None = None
) -> Iterator[str]:
    """A sentence for each doubt. `others` are runs and their rows by the names that gates call them, of those
    that were `wanted` by their ids."""
    for name, gone in (wanted or {}).items():
        if name not in others:
            yield f"{gone if name == gone else f'{name} ({gone})'} is not there any more"
    for name, (other, columns) in others.items():
        called = other.id if name == other.id else f"{name} ({other.id})"
        if columns.flagged(FAILED).all():
            yield f"{called} is no measure: none of its calls brought an answer"
        elif other.status != "complete":
            made = f"{len(columns):,} of {other.planned:,} calls"
            yield f"{called} is not complete: it is {other.status}, with {made}"
        ours, theirs = digests(run.info), digests(other.info)  # none: samples have their own, or nobody said
        if ours and theirs and (differing := _differing(ours, theirs)):
            yield f"{called} was judged by other scorers: {differing}"


def _differing(ours: Mapping[str, str], theirs: Mapping[str, str]) -> str:
    """Which scorers one run alone has, or has with other options, prompts or models."""
    changed = sorted(name for name in ours.keys() & theirs.keys() if ours[name] != theirs[name])
    parts = (
        ("only here", sorted(ours.keys() - theirs.keys())),
        ("only there", sorted(theirs.keys() - ours.keys())),
        ("not the same", changed),
    )
    return "; ".join(f"{what} {', '.join(names)}" for what, names in parts if names)
