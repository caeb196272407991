"""From a suite to what will be asked of whom: everything that can be wrong is found here, before any call."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalkit import datasets, gate, sample
from evalkit.config import NO_SCORER, Suite, endpoint_name
from evalkit.sample import GoldenSet, Sample
from evalkit.trial import Trial, key
from guardrails.client import Llm
from guardrails.errors import ConfigError
from judges.judge import Judge
from judges.registry import judge

if TYPE_CHECKING:
    from evalkit.config import ScorerSpec

DEFAULT_SCORER = "contains"


@dataclass(frozen=True, slots=True)
class Target:
    """An endpoint of a run. `about` is what may be written down of it: no keys, no header values."""

    llm: Llm
    name: str
    about: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Job:
    """One sample for one endpoint, with the judges of its answer and the key of its row."""

    target: Target
    sample: Sample
    judges: tuple[Judge, ...] = field(repr=False)
    key: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run will do. `jobs()` go sample by sample, so that the endpoints meet the same conditions."""

    suite: Suite
    golden: GoldenSet
    samples: tuple[Sample, ...] = field(repr=False)
    targets: tuple[Target, ...]
    judges: Mapping[str, tuple[Judge, ...]] = field(repr=False, hash=False)
    gates: tuple[gate.Gate, ...] = ()

    @classmethod
    def of(cls, suite: Suite, targets: Sequence[Target] | None = None, *, folder: Path | None = None) -> Plan:
        """Load the golden set, make judges and endpoints, and let each judge look at each question.

        `targets` stand in for the suite's endpoints; an endpoint's own files are looked for in `folder`.
        Raises `ConfigError` for everything that would go wrong later.
        """
        golden = sample.load(suite.golden)
        samples = golden.samples[: suite.limit]
        judges = _judges(suite, golden, samples)
        made = tuple(targets) if targets is not None else tuple(_target(e, folder) for e in suite.endpoints)
        return cls(suite, golden, samples, made, judges, tuple(gate.parse(text) for text in suite.gates))

    def jobs(self, done: frozenset[str] = frozenset()) -> Iterator[Job]:
        """What is left to do, given the keys of the rows that are done."""
        asked = self._asked()
        for one in self.samples:
            plain = _plain(one)
            for target in self.targets:
                made = key(plain, {**asked, "endpoint": target.about, "judges": self._spelled(one)})
                if made not in done:
                    yield Job(target, one, self.judges[one.id], made)

    def current(self, rows: Sequence[Trial]) -> list[Trial]:
        """The rows that answer this plan's jobs, the best one each: a done one, else the latest."""
        order = {job.key: number for number, job in enumerate(self.jobs())}
        best: dict[str, Trial] = {}
        for row in rows:
            if row.key in order and not (row.key in best and best[row.key].done and not row.done):
                best[row.key] = row
        return sorted(best.values(), key=lambda row: order[row.key])

    @property
    def size(self) -> int:
        """How many calls the whole run makes."""
        return len(self.samples) * len(self.targets)

    def _asked(self) -> dict[str, Any]:
        return {"system": self.suite.system, "sampling": self.suite.sampling.model_dump()}

    def _spelled(self, one: Sample) -> list[str]:
        return [repr(made) for made in self.judges[one.id]]

    def lineage(self) -> dict[str, Any]:
        """Where the run comes from: code, data, configuration. Holds no secret."""
        from evalkit._version import version

        asked = {**self._asked(), "limit": self.suite.limit, "gates": self.suite.gates}
        about = [{"name": target.name, **target.about} for target in self.targets]
        return {
            "evalkit": version(),
            "python": platform.python_version(),
            "git_commit": _commit(),
            "golden": {
                "name": self.golden.name,
                "path": str(self.golden.path),
                "sha256": self.golden.sha256,
                "samples": len(self.samples),
            },
            "suite": {**asked, "scorers": self.suite.scorers, "concurrency": self.suite.concurrency},
            "suite_sha256": _digest([asked, self.suite.scorers, about]),
            "endpoints": about,
        }


def _plain(one: Sample) -> dict[str, Any]:
    return dataclasses.asdict(one)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def _commit() -> str | None:
    """The commit of the folder that we run in, None outside of git."""
    try:
        said = subprocess.run(
            ["git", "rev-parse", "HEAD"],  # noqa: S607 - the user's own git, as everywhere on the command line
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return said.stdout.strip() or None if said.returncode == 0 else None


# --- endpoints ---------------------------------------------------------------------------------------------


def _target(config: Mapping[str, Any], folder: Path | None) -> Target:
    from guardrails.config import build
    from guardrails.source import Source

    name = endpoint_name(config)
    home = Source(str((folder or Path()) / "suite"), {**config, "name": name}, {(): 1} if folder else {})
    return Target(build(home), name, about(config))


def about(config: Mapping[str, Any]) -> dict[str, Any]:
    """What may be written down of an endpoint's configuration: of headers, only their names."""
    plain = {name: value for name, value in config.items() if name != "name"}
    if isinstance(headers := plain.get("headers"), Mapping):
        plain["headers"] = sorted(str(name) for name in headers)
    return plain


# --- judges ------------------------------------------------------------------------------------------------


def _judges(suite: Suite, golden: GoldenSet, samples: Sequence[Sample]) -> dict[str, tuple[Judge, ...]]:
    """Each sample's judges: the suite's, else the sample's own, else the set's."""
    fallback = _card_scorer(golden)
    made: dict[str, tuple[Judge, ...]] = {}
    cache: dict[str, Judge] = {}
    complaints: list[str] = []
    for one in samples:
        specs: Sequence[ScorerSpec] = suite.scorers or (one.metadata.get("scorer") or fallback,)
        try:
            made[one.id] = tuple(_cached(spec, cache) for spec in specs if spec != NO_SCORER)
        except ConfigError as error:
            raise ConfigError(f"{golden.name}, sample {one.id}: {error.message}", hint=error.hint) from None
        question = one.question()
        checked = ((each.name, each.check(question)) for each in made[one.id])
        complaints += [f"  {one.id}: {name}: {said}" for name, said in checked if said is not None]
    if complaints:
        more = f"\n  … and {len(complaints) - 20:,} more" if len(complaints) > 20 else ""
        raise ConfigError(
            f"the scorers cannot judge {len(complaints):,} of {len(samples):,} samples of {golden.name}, and "
            "nothing was run:\n" + "\n".join(complaints[:20]) + more,
            hint="name other `scorers` in the suite, or mend these samples",
        )
    return made


def _cached(spec: ScorerSpec, cache: dict[str, Judge]) -> Judge:
    spelled = json.dumps(spec, sort_keys=True, default=str)
    if spelled not in cache:
        cache[spelled] = judge(spec)
    return cache[spelled]


def _card_scorer(golden: GoldenSet) -> str:
    if golden.name in datasets.names() and datasets.path(golden.name).resolve() == golden.path.resolve():
        return datasets.card(golden.name).scorer
    return DEFAULT_SCORER
