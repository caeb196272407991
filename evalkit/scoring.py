"""Which judges an answer gets: the suite's, else the sample's own, else the set's."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalkit import datasets
from evalkit.mistakes import Mistakes
from evalkit.sample import GoldenSet, Sample
from guardrails.errors import ConfigError
from guardrails.handler import close_all
from judges.calling import ending
from judges.judge import Answer, Judge, Question, Score
from judges.registry import judge

if TYPE_CHECKING:
    from evalkit.config import ScorerSpec
    from evalkit.prompts import Prompt
    from judges.llm.model import Model

DEFAULT_SCORER = "contains"
NONE = "none"
SHOWN = 20


@dataclass(frozen=True, slots=True)
class Judges:
    """Judges by their columns' names, and what they are in a digest."""

    made: tuple[Judge, ...]
    digest: str

    async def score(self, question: Question, answer: Answer) -> dict[str, Score]:
        """Every judge's score by its name, all at once. A judge that raises is an error, never a zero."""
        if len(self.made) == 1:  # as most runs have it: no tasks for one
            return {self.made[0].name: await _score(self.made[0], question, answer)}
        scores = await asyncio.gather(*(_score(each, question, answer) for each in self.made))
        return {each.name: score for each, score in zip(self.made, scores, strict=True)}


@dataclass(frozen=True, slots=True)
class Scoring:
    """The judges of one golden set's samples. What a sample names may neither run code nor call anybody."""

    specs: tuple[ScorerSpec, ...]
    name: str
    fallback: str = DEFAULT_SCORER
    folder: Path | None = None
    models: Mapping[str, Model] = field(default_factory=dict, repr=False, compare=False)
    told: str = ""
    """What may be told of the models, in a digest."""
    _made: dict[str, Judges] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(
        cls, specs: Sequence[ScorerSpec], golden: GoldenSet, folder: Path | None, **models: Any
    ) -> Scoring:
        """With the set's own scorer to fall back on. `models`: the fields `models` and `told`."""
        return cls(tuple(specs), golden.name, _card_scorer(golden), folder, **models)

    def judges(self, one: Sample) -> Judges:
        """Those of a sample's answer. Raises `ConfigError` for a scorer that the sample names and is none."""
        own = None if self.specs else (one.metadata.get("scorers") or one.metadata.get("scorer"))
        spelled = "" if own is None else json.dumps(own, sort_keys=True, default=str)
        found = self._made.get(spelled)
        if found is None:
            specs = self.specs or (own if isinstance(own, list) else (own or self.fallback,))
            try:
                found = self._make(specs, trusted=bool(self.specs))
            except ConfigError as error:
                place = "" if self.specs else f"{self.name}, sample {one.id}: "
                raise ConfigError(f"{place}{error.message}", hint=error.hint) from None
            self._made[spelled] = found
        return found

    def _make(self, specs: Sequence[Any], *, trusted: bool) -> Judges:
        made = tuple(
            judge(each, folder=self.folder, trusted=trusted, models=self.models)
            for each in specs
            if each != NONE
        )
        names = [each.name for each in made]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ConfigError(f"two scorers are called {twice[0]!r}", hint="combine them: all, any")
        spelled = f"{made!r}{self.told}"
        return Judges(made, hashlib.sha256(spelled.encode("utf-8", "surrogatepass")).hexdigest())

    def digest(self, one: Sample) -> str:
        """What judges a sample's answer, as sha256."""
        return self.judges(one).digest

    async def aclose(self) -> None:
        """Free what the judges hold, such as a sandbox."""
        await close_all(*(each for judges in self._made.values() for each in judges.made))

    def check(self, samples: Iterable[Sample], prompts: Sequence[Prompt], has_user: bool = False) -> None:
        """Let each judge look at each question, and each prompt be made. Raises `ConfigError`."""
        complaints: list[str] = []
        broken: dict[str, list[ConfigError]] = {}
        count = bad = 0
        for one in samples:
            count += 1
            question = one.question()
            found = [(each.name, each.check(question)) for each in self.judges(one).made]
            said = [f"  {one.id}: {name}: {text}" for name, text in found if text is not None]
            bad += bool(said)
            complaints += said[: SHOWN - len(complaints)]
            for prompt in prompts:
                if not broken.get(prompt.name):  # what one sample tells of a prompt is enough
                    broken[prompt.name] = [*prompt.check(one)]
            if one.user is not None and not has_user:
                broken.setdefault("", [self._without_user(one)])
        wrong = Mistakes([*chain.from_iterable(broken.values())])
        if complaints:
            wrong.found.append(_unjudgeable(self.name, complaints, bad, count))
        wrong.tell()

    def _without_user(self, one: Sample) -> ConfigError:
        return ConfigError(
            f"{self.name}, sample {one.id}: asks for a simulated user, and the suite names none",
            hint="give the suite `user: {url: …, model: …}`, the model that plays it",
        )


def _unjudgeable(name: str, complaints: Sequence[str], bad: int, count: int) -> ConfigError:
    more = f"\n  … and {bad - SHOWN:,} more" if bad > SHOWN else ""
    head = f"the scorers cannot judge {bad:,} of {count:,} samples of {name}, and nothing was run:"
    return ConfigError(
        "\n".join([head, *complaints]) + more, hint="name other `scorers` in the suite, or mend these samples"
    )


async def _score(each: Judge, question: Question, answer: Answer) -> Score:
    try:
        return await each(question, answer)
    except asyncio.CancelledError:
        if ending():
            raise
        return Score.unjudged("exception", "the judge raised CancelledError, and nobody cancelled it")
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # its message may quote the answer
        return Score.unjudged("exception", f"the judge raised {type(error).__name__}")


def _card_scorer(golden: GoldenSet) -> str:
    if golden.name in datasets.names() and datasets.path(golden.name).resolve() == golden.path.resolve():
        return datasets.card(golden.name).scorer
    return DEFAULT_SCORER
