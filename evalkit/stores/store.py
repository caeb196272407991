"""What keeps runs: the protocol that SQLite and PostgreSQL both obey.

All methods block, and all may be called from any thread; the runner calls them off the event loop.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, Protocol

from evalkit.trial import Trial
from guardrails.errors import ConfigError
from judges.judge import Answer

Status = Literal["running", "complete", "interrupted", "stopped", "capped", "killed"]
"""`stopped`: the run ended by itself before it was complete; `capped`: because its money was spent.

`killed` is never kept: it is said of a run that is kept as `running` and that nobody writes.
"""


@dataclass(frozen=True, slots=True)
class Run:
    """A run as it is listed. `digest` says what it does: the same suite over the same data has the same.

    `info` is the lineage (versions, git commit, hashes, configuration) and holds no secret.
    """

    id: str
    name: str
    digest: str
    status: Status
    started_at: datetime
    ended_at: datetime | None = None
    trials: int = 0
    planned: int = 0
    tags: tuple[str, ...] = ()
    info: Mapping[str, Any] = field(default_factory=dict, repr=False, hash=False)


def run_id(name: str, at: datetime) -> str:
    """An id that people can read: `20261121-090000-support-desk`."""
    words = re.sub(r"[^A-Za-z0-9._-]+", "-", name)[:40].strip("-.")
    return f"{at:%Y%m%d-%H%M%S}-{words or 'run'}"


@dataclass(frozen=True, slots=True)
class Tally:
    """So many `samples` of an arm had `passed` of their `judged` rows pass; with `rows` in all, for lists.

    `cost_usd` is the sum over the `priced` ones of the rows, `judging_usd` what judges were paid for all.
    """

    set: str
    endpoint: str
    prompt: str
    weight: float
    judged: int
    passed: int
    samples: int
    rows: int
    cost_usd: float
    priced: int
    judging_usd: float = 0.0


@dataclass(frozen=True, slots=True)
class Kept:
    """An earlier call's answer, with the record that was measured then.

    `own`: of the very row that is asked for, in a run that goes on.
    """

    answer: Answer = field(repr=False)
    record: Mapping[str, Any] | None = field(repr=False, hash=False)
    own: bool = False


class RunHeld(ConfigError):
    """Another process writes the run."""


class RunGone(ConfigError):
    """There is no such run, or not any more."""


class Unreachable(ConfigError):
    """The store does not answer now. It may in a moment, as a server does that begins anew."""


def held_elsewhere(run: str) -> RunHeld:
    """What is said of a run that somebody else writes."""
    return RunHeld(
        f"the run {run} is being written by another process",
        hint="wait for it, or end it; `evalkit run --fresh` begins another run",
    )


def check_tags(names: Sequence[str]) -> None:
    """Raises `ConfigError` for what cannot be a tag."""
    for name in names:
        if not name.strip() or name == "latest" or len(name) > 100:
            raise ConfigError(
                f"{name[:80]!r} cannot be a tag", hint="any word of up to 100 characters but `latest`"
            )


def damaged(place: str, what: str) -> ConfigError:
    """What is said of a store that holds what nothing here has written."""
    return ConfigError(
        f"the store {place} is damaged: {what}",
        hint="was it changed by hand, or cut off? Take a copy from before, or name another with --store",
    )


class Store(Protocol):
    """Runs and their rows."""

    @property
    def place(self) -> str:
        """Where it is, for people: a path or a URL without its password."""

    def create(self, run: Run) -> Run:
        """Keep a new run; its id gets a number when it is taken (`run_id` makes one from name and time).

        Raises `ConfigError` when it cannot.
        """

    def find(self, name: str) -> Run:
        """By its id, a unique beginning of it, a tag that one run has, or `latest`.

        Raises `ConfigError` naming some runs that there are.
        """

    def runs(self, *, tag: str | None = None, digest: str | None = None, limit: int = 50) -> Sequence[Run]:
        """The newest first."""

    def update(self, run: Run) -> None:
        """Write down its status, end, planned and info."""

    def tag(
        self, run: str, *, add: Sequence[str] = (), remove: Sequence[str] = (), move: bool = False
    ) -> None:
        """Give and take tags; with `move`, at once take those given from all other runs: nobody sees two."""

    def delete(self, run: str) -> None:
        """Forget a run and its rows. Raises `ConfigError` while somebody writes it."""

    def writing(self, run: str) -> AbstractContextManager[None]:
        """Hold a run for writing, against every other process. Raises `ConfigError` when it is held."""

    def reserve(self, run: str) -> bool:
        """Hold a run from now on for the next `writing` of it by this store; whether nobody else has it.

        So nobody comes between a look at a run and going on with it. Closing the store frees it too.
        """

    def held(self, run: str) -> bool:
        """Whether a process seems to hold a run for writing. It is only looked at: nobody is kept waiting.

        One that was killed a moment ago may still seem to hold it.
        """

    def append(self, trials: Sequence[Trial]) -> None:
        """Keep rows, all or none; kept means that a killed process has not lost them.

        A row takes the place of the one with the same run and key, unless that one is done and it is not.
        Raises `ConfigError` for a run that there is not.
        """

    def trials(self, run: str, *, failing: bool | None = None, limit: int | None = None) -> Iterator[Trial]:
        """A run's rows in the plan's order, read in pieces: it may be of any length, and go on meanwhile.

        `failing`: only those that did not pass, or are not known to have (True); only those that did (False).
        Raises `ConfigError` where the rows end of a run that there is not, or that was deleted meanwhile.
        """

    def done(self, run: str) -> frozenset[str]:
        """The keys of the rows that resume may leave as they are."""

    def answers(self, asks: Sequence[str]) -> Mapping[str, Kept]:
        """Answers of earlier calls by `Trial.ask`, of any run; measured ones, never cached."""

    def measured(self, run: str, keys: Sequence[str]) -> Mapping[str, Kept]:
        """The answers of a run's own rows by their keys; those that it measured itself."""

    def tallies(self, run: str, *, judging: bool = False) -> Sequence[Tally]:
        """A run's samples, counted by arm, weight and how many of their rows passed, in the plan's order.

        With `judging`, what judges were paid, too: it lies behind the answers, and so takes longer to read.
        """

    def replaced(self, run: str) -> Mapping[tuple[str, str], Decimal]:
        """What a run paid for rows that others took the place of, in USD, by set and `Trial.arm`.

        It is not in what its rows cost. Of a call that was only judged again, the earlier judging counts.
        """

    def close(self) -> None:
        """Free the connections."""


def as_found(store: Store, run: Run) -> Run:
    """A run as it is to be shown: one whose process is gone could not say that it was killed."""
    if run.status != "running" or store.held(run.id) or sys.platform == "win32":  # which has no locks
        return run
    return replace(run, status="killed")
