"""From a suite to what will be asked of whom: everything that can be wrong is found here, before any call."""

from __future__ import annotations

import random
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalkit import fitting, gate, sample
from evalkit.config import Suite, endpoint_name
from evalkit.content import content, digest, question, sha
from evalkit.lineage import lineage
from evalkit.mistakes import Mistakes
from evalkit.prompts import Prompt, PromptSpec
from evalkit.sample import GoldenSet, Sample
from evalkit.scoring import Scoring
from evalkit.told import told, told_scorer
from guardrails.call import Request, Sampling
from guardrails.client import Llm
from guardrails.errors import ConfigError
from judges.judge import Question
from judges.registry import COMBINED, kind_of

if TYPE_CHECKING:
    from guardrails.flow.store import Store
    from guardrails.record import PriceOf


UNTOLD = {"endpoints", "judges", "user", "store"}
"""Fields of a suite that may hold secrets: of endpoints `about` tells what may be told."""


CONDITIONS = frozenset(
    (
        *("admit", "ask_usage", "breaker", "budget", "cold_start", "connect_timeout", "deadline", "holdback"),
        *("keep_warm", "key_env", "prices", "rate_limit", "records", "retry", "retry_budget", "store"),
        *("timeouts", "transport"),
    )
)
"""Fields of an endpoint and its routes that decide whether and when an answer comes, and not which: rows and
answers of earlier runs are the same under others. So whoever is told to raise a timeout can go on."""


@dataclass(frozen=True, slots=True)
class Target:
    """An endpoint of a run. `about` is what may be written down of it: no keys, no header values."""

    llm: Llm
    name: str
    about: Mapping[str, Any] = field(default_factory=dict, hash=False)
    price: PriceOf | None = field(default=None, repr=False)

    @property
    def models(self) -> Sequence[str]:
        """Every model that a call may reach, those of routes included."""
        return sorted(set(_models(self.about)) or {self.llm.model})


_WHOLE = frozenset({"filters", "headers", "layers", "options"})  # names in there are somebody else's


def asked_of(config: Any) -> Any:
    """What is asked of an endpoint, by its configuration: all of it but the `CONDITIONS`."""
    if isinstance(config, Mapping):
        return {
            name: value if name in _WHOLE else asked_of(value)
            for name, value in config.items()
            if name not in CONDITIONS
        }
    return [asked_of(each) for each in config] if isinstance(config, list | tuple) else config


def _models(config: Any) -> Iterator[str]:
    if isinstance(config, Mapping):
        for name, value in config.items():
            if name == "model" and isinstance(value, str):
                yield value
            else:
                yield from _models(value)
    elif isinstance(config, list | tuple):
        for each in config:
            yield from _models(each)


@dataclass(frozen=True, slots=True)
class Part:
    """One golden set of a run, with what judges its answers."""

    golden: GoldenSet
    scoring: Scoring
    first: int
    """The place of its first sample among all sets' samples."""


@dataclass(frozen=True, slots=True)
class Job:
    """One call to make: plain values, so that it travels to other processes. See `Trial` for the words."""

    set: str
    sample: Sample
    endpoint: str
    prompt: str
    k: int
    place: int
    ask: str
    key: str
    content: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run will do: every endpoint × prompt × set × sample, `n` times."""

    suite: Suite
    parts: tuple[Part, ...]
    targets: tuple[Target, ...]
    prompts: tuple[Prompt, ...]
    gates: tuple[gate.Gate, ...] = ()
    user: Target | None = None
    folder: Path | None = None
    judges: tuple[Target, ...] = ()

    @classmethod
    def of(cls, suite: Suite, targets: Sequence[Target] | None = None, *, folder: Path | None = None) -> Plan:
        """Load the golden sets, make judges, prompts and endpoints, and let them look at each sample.

        `targets` stand in for the suite's endpoints: where there are none, nobody is asked, so nobody has to
        play a simulated user. Files are looked for in `folder`. Raises `ConfigError` for all that would go
        wrong later.
        """
        wrong = Mistakes()
        sets = wrong.each(lambda spec: sample.load(spec, folder), suite.golden)
        prompts = wrong.each(lambda spec: Prompt.of(spec.resolved(folder or Path())), _specs(suite))
        made = tuple(targets or ())
        if targets is None:
            made = wrong.each(
                lambda at: _target(suite.endpoints[at], folder, place=("endpoints", at)),
                range(len(suite.endpoints)),
            )
        user = wrong.each(
            lambda it: _target({"name": "user", **it}, folder, place=("user",)),
            [] if suite.user is None else [suite.user],
        )
        gates = wrong.each(gate.parse, suite.gates)
        wrong.each(_no_twins, [[each.name for each in sets]])
        asking = wrong.each(lambda them: _judges(them, folder, lambda name: None), [suite])
        whole = not wrong.found
        ((judges, asked),) = asking or (((), {}),)
        parts = _parts(suite, sets, folder, asked)
        plan = cls(suite, parts, made, prompts, gates, next(iter(user), None), folder, judges)
        played = suite.user is not None or not made
        if asking:  # or scorers would miss their judges
            wrong.each(lambda part: part.scoring.check(plan.samples(part), prompts, played), parts)
        if whole:  # or gates would miss what is only wrong
            wrong.each(fitting.check, [plan])
        wrong.tell()
        return plan

    @classmethod
    def elsewhere(
        cls,
        suite: Suite,
        sets: Mapping[str, str],
        folder: Path | None,
        stores: Callable[[str], Store | None],
    ) -> Plan:
        """The same plan in another process, to do single jobs by: without samples, gates and checks.

        `sets` are the golden sets' names, each with the scorer that its samples fall back on; `stores` says
        by an endpoint's name where its rates, budgets and breakers are kept ("": that of simulated users).
        """
        judges, asked = _judges(suite, folder, stores)
        parts = tuple(
            Part(GoldenSet(name, Path(), (), ""), Scoring(suite.scorers, name, fallback, folder, **asked), 0)
            for name, fallback in sets.items()
        )
        made = tuple(_target(each, folder, stores(endpoint_name(each))) for each in suite.endpoints)
        user = None if suite.user is None else _target({"name": "user", **suite.user}, folder, stores(""))
        prompts = tuple(Prompt.of(spec.resolved(folder or Path())) for spec in _specs(suite))
        return cls(suite, parts, made, prompts, (), user, folder, judges)

    @property
    def size(self) -> int:
        """How many calls the whole run makes."""
        return sum(map(self.count, self.parts)) * self.arms * self.suite.sampling.n

    @property
    def arms(self) -> int:
        """How many are compared."""
        return len(self.targets) * len(self.prompts)

    @property
    def arm_names(self) -> list[str]:
        """What they are called in tables."""
        if len(self.prompts) == 1:
            return [target.name for target in self.targets]
        return [f"{target.name}/{prompt.name}" for target in self.targets for prompt in self.prompts]

    def asked(self, golden: str, one: str) -> Question | None:
        """A sample as a judge sees it. Reads the set through: for the few that a page shows."""
        found = (each for each in self.samples(self.part(golden)) if each.id == one)
        sample_ = next(found, None)
        return None if sample_ is None else sample_.question()

    def count(self, part: Part) -> int:
        """How many samples of a set are asked."""
        return len(part.golden) if self.suite.limit is None else min(len(part.golden), self.suite.limit)

    def samples(self, part: Part) -> Iterator[Sample]:
        """Those samples, read one by one."""
        return (part.golden.samples[number] for number in range(self.count(part)))

    def jobs(self, target: Target, done: frozenset[str] = frozenset()) -> Iterator[Job]:
        """What is left to ask of an endpoint, given the keys of the rows that are done.

        The order is shuffled by the suite's seed and the same for all endpoints, so that whatever changes
        with time at a provider meets all of them and all tags alike.
        """
        n, named = self.suite.sampling.n, len(self.prompts) > 1
        asked = {prompt.name: self._asked(target, prompt) for prompt in self.prompts}
        seeing = {prompt.tagged for prompt in self.prompts}
        at = self.targets.index(target)
        for number in self._order():
            part = self._part(number)
            one = part.golden.samples[number - part.first]
            plain, judged = one.plain(), part.scoring.digest(one)
            questions = {False: question(plain)}
            if True in seeing:
                questions[True] = question(plain, tags=True)
            held = content(plain, questions[False])
            for column, prompt in enumerate(self.prompts, start=at * len(self.prompts)):
                for k in range(n):
                    ask = sha(f"{questions[prompt.tagged]}:{asked[prompt.name]}:{k}")
                    key = sha(f"{ask}:{held}:{judged}:{part.golden.name}:{target.name}:{prompt.name}")
                    if key not in done:
                        place = (number * self.arms + column) * n + k
                        name = prompt.name if named else ""
                        yield Job(part.golden.name, one, target.name, name, k, place, ask, key, held)

    def _order(self) -> Sequence[int]:
        order = array("Q", range(sum(map(self.count, self.parts))))
        random.Random(self.suite.shuffle).shuffle(order)  # noqa: S311 - an order, not a secret
        return order

    def _part(self, number: int) -> Part:
        return next(part for part in reversed(self.parts) if number >= part.first)

    def part(self, golden: str) -> Part:
        """The set of that name."""
        return next(part for part in self.parts if part.golden.name == golden)

    def sampling(self, k: int) -> Sampling:
        """How the k-th answer to a sample is drawn."""
        given = self.suite.sampling
        seed = None if given.seed is None else given.seed + k
        return Sampling(given.max_tokens, given.temperature, given.top_p, given.top_k, given.stop, seed)

    def request(self, job: Job) -> Request:
        """What a job asks. Raises `ConfigError` when a file that it needs is gone."""
        named = (each for each in self.prompts if each.name == job.prompt)
        made = next(named, self.prompts[0]).request(job.sample, self.sampling(job.k))
        if not self.suite.sampling.logprobs:
            return made
        return replace(made, extra={"logprobs": True}, dialect="openai_chat")

    def _asked(self, target: Target, prompt: Prompt) -> str:
        user = None if self.user is None else asked_of(self.user.about)
        return digest(
            [asked_of(target.about), prompt.sha256, self.suite.sampling.model_dump(exclude={"n"}), user]
        )

    @property
    def name(self) -> str:
        """What the run is called after: its sets."""
        return "+".join(part.golden.name for part in self.parts)

    @property
    def scorers(self) -> dict[str, str]:
        """What each of the suite's scorers is: a digest of its options, its prompt and the judges' models."""
        first = next(self.samples(self.parts[0]), None) if self.suite.scorers else None
        if first is None:
            return {}
        scoring = self.parts[0].scoring
        return {each.name: digest([repr(each), scoring.told])[:16] for each in scoring.judges(first).made}

    @property
    def digest(self) -> str:
        """What the run does, as sha256: the same suite over the same data has the same.

        What only some suites have is added for those alone: the others keep the digest that they had.
        """
        suite = self.suite.model_dump(
            mode="json", include={"sampling", "limit", "gates", "scorers", "shuffle", "undecided"}
        )
        sets = [[part.golden.name, part.golden.digest] for part in self.parts]
        about = [[target.name, target.about] for target in (*self.targets, *self.judges)]
        told: list[Any] = [suite, sets, about, [[each.name, each.sha256] for each in self.prompts]]
        if self.user is not None:
            told.append({"user": self.user.about})
        if any(map(_names_file, suite["scorers"])):  # the suite has its path, and a row's key what is in it
            told.append({"scorers": self.scorers})
        return digest(told)

    def lineage(self) -> dict[str, Any]:
        """Where the run comes from: code, data, configuration. Holds no secret."""
        suite = self.suite.model_dump(mode="json", by_alias=True, exclude=UNTOLD)
        return {
            **lineage(),
            "golden": [{**part.golden.about, "samples": self.count(part)} for part in self.parts],
            "endpoints": [{"name": target.name, **target.about} for target in self.targets],
            "judges": [{"name": target.name, **target.about} for target in self.judges],
            "user": None if self.user is None else self.user.about,
            "prompts": [{"name": each.name, "sha256": each.sha256} for each in self.prompts],
            "scorers": self.scorers,
            "suite": {**suite, "scorers": [told_scorer(each) for each in suite["scorers"]]},
            "folder": str((self.folder or Path()).resolve()),
            "suite_sha256": self.digest,
        }


def _names_file(spec: Any) -> bool:
    """Whether a scorer is made of a file beside the suite: of code, or of a judge's prompt."""
    return any(
        isinstance(value, str) and (".py:" in value or value.endswith(".md"))
        for name, given in _named(spec)
        for value in _of_files(kind_of(name), given)
    )


def _named(spec: Any) -> Iterator[tuple[str, Any]]:
    """The judges that a scorer names with what it gives them; for one that is combined of others, these."""
    for name, given in spec.items() if isinstance(spec, Mapping) else ():
        if name not in COMBINED:
            yield name, given
            continue
        of = given["of"] if isinstance(given, Mapping) and "of" in given else given
        for each in of if isinstance(of, list | tuple) else (of,):
            yield from _named(each)


def _of_files(kind: Any, given: Any) -> Iterator[Any]:
    """What is given to a judge for its options that may name a file: a pattern may look like a path."""
    options = given if isinstance(given, Mapping) else {getattr(kind, "shorthand", None): given}
    for name in (*getattr(kind, "targets", ()), *getattr(kind, "files", ())):
        yield options.get(name)


def _parts(
    suite: Suite, sets: Iterable[GoldenSet], folder: Path | None, asked: Mapping[str, Any]
) -> tuple[Part, ...]:
    parts, first = [], 0
    for golden in sets:
        parts.append(Part(golden, Scoring.of(suite.scorers, golden, folder, **asked), first))
        first += len(golden) if suite.limit is None else min(len(golden), suite.limit)
    return tuple(parts)


def _no_twins(names: Sequence[str]) -> None:
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"two golden sets are called {twice[0]!r}", hint="give each a `name` of its own")


def _specs(suite: Suite) -> Sequence[PromptSpec]:
    return suite.prompts or (PromptSpec(system=suite.system),)


# --- endpoints ---------------------------------------------------------------------------------------------


def _judges(
    suite: Suite, folder: Path | None, stores: Callable[[str], Store | None]
) -> tuple[tuple[Target, ...], dict[str, Any]]:
    """The models that scorers may ask, and the fields of `Scoring` that they make."""
    from judges.llm.model import models

    made = tuple(
        _target({**config, "name": name}, folder, stores(name), ("judges", name))
        for name, config in suite.judges.items()
    )
    told = digest([[target.name, asked_of(target.about)] for target in made]) if made else ""
    return made, {"models": models({target.name: target.llm for target in made}), "told": told}


def _target(
    config: Mapping[str, Any],
    folder: Path | None,
    store: Store | None = None,
    place: tuple[str | int, ...] = (),
) -> Target:
    """`place` is where in the suite it stands: what is wrong with it says so."""
    from guardrails.config import build
    from guardrails.source import Source

    name = endpoint_name(config)
    home = Source(
        str((folder or Path()) / "suite"), {**config, "name": name}, {(): 1} if folder else {}, place
    )
    return Target(build(home, store=store), name, about(config), _price(config, folder))


def _price(config: Mapping[str, Any], folder: Path | None) -> PriceOf | None:
    from guardrails.prices import PriceBook

    own = config.get("prices")
    return None if own is None else PriceBook.load((folder or Path()) / str(own)).cost


def about(config: Mapping[str, Any]) -> dict[str, Any]:
    """What may be written down of an endpoint's configuration, beside its name: see `evalkit.told`."""
    plain: dict[str, Any] = told({name: value for name, value in config.items() if name != "name"})
    return plain
