"""Does the model say the same when it is asked again? Signs of hallucination without any context.

What a model knows it says alike each time; what it makes up differs. So these take several answers to one
question: the rows of one sample and endpoint in a stored run (`sampling: {n: 5}`).

- `unigram`, `embedding`, `nli` and `Supports` (a model is asked) are the variants of SelfCheckGPT (Manakul et
  al., 2023, arXiv 2303.08896): each sentence of an answer against further answers. Higher is less consistent.
- `semantic_entropy` (Farquhar et al., Nature 2024, the discrete estimator) groups answers that mean the same
  and gives the entropy of the groups. 0: all mean the same.

What is not covered: an error that a model repeats every time is consistent.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from guardrails.errors import ConfigError
from judges.calling import called
from judges.judge import MAX_ANSWER
from judges.llm.asking import Asking
from judges.llm.checklist import numbered
from judges.llm.model import Spent
from judges.llm.prompt import load
from judges.similar import Vector, cosine

MAX_ANSWERS = 100
MAX_SENTENCES = 200

Embed = Callable[[list[str]], Awaitable[Sequence[Vector]] | Sequence[Vector]]
Contradicts = Callable[[str, str], Awaitable[float] | float]
Entails = Callable[[str, str], Awaitable[bool] | bool]

_END = re.compile(r"(?<=[.!?。！？])\s+|(?<=[.!?。！？][\"')\]”’])\s+|\n+")
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class SelfCheck:
    """How little further answers back each sentence of an answer.

    `sentences` has a number for each, `value` is their mean. For `unigram` they are nats (−log p, without an
    upper end), for the others from 0 (backed by all) to 1 (by none). `peaks` are, for `unigram`, those of
    each sentence's least likely word. `samples` is how many further answers there were, `undecided` how many
    of them a model could not be asked about.
    """

    method: str
    sentences: tuple[float, ...]
    samples: int
    peaks: tuple[float, ...] = ()
    undecided: int = 0
    spent: Spent = Spent()  # noqa: RUF009 - a frozen value

    @property
    def value(self) -> float | None:
        """The mean over the sentences; None when there are none, or nothing to compare with."""
        return fmean(self.sentences) if self.sentences else None


def sentences(text: str) -> list[str]:
    """The sentences of a text, cut after full stops and at line breaks. Abbreviations are cut, too."""
    return [piece for piece in (each.strip() for each in _END.split(text)) if _WORD.search(piece)][
        :MAX_SENTENCES
    ]


def unigram(answer: str, samples: Sequence[str]) -> SelfCheck:
    """SelfCheckGPT's n-gram variant with n = 1: mean and maximum of −log p(word) in each sentence.

    p is a word's share of the words of all answers, this one included, which smooths it as in the paper.
    """
    _bounded(answer, samples)
    counts = Counter(word for text in (answer, *samples) for word in _words(text))
    total = counts.total()
    costs = [[-math.log(counts[word] / total) for word in _words(each)] for each in sentences(answer)]
    means, peaks = (tuple(reduce(cost) for cost in costs) for reduce in (fmean, max))
    return SelfCheck("unigram", means if samples else (), len(samples), peaks if samples else ())


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


async def embedding(answer: str, samples: Sequence[str], embed: Embed) -> SelfCheck:
    """1 − the cosine with the nearest sentence of each sample, on average over the samples.

    `embed` takes a list of texts, all at once, and gives as many vectors. In the paper's place of BERTScore.
    """
    _bounded(answer, samples)
    own = sentences(answer)
    others = [found for found in map(sentences, samples) if found]
    texts = list(dict.fromkeys([*own, *(each for other in others for each in other)]))
    vectors = dict(zip(texts, await called(embed, texts), strict=True)) if own and others else {}
    found = [
        fmean(
            min(1.0, max(0.0, 1 - max(cosine(vectors[each], vectors[other]) for other in sample)))
            for sample in others
        )
        for each in own
        if others
    ]
    return SelfCheck("embedding", tuple(found), len(others))


async def nli(answer: str, samples: Sequence[str], contradicts: Contradicts) -> SelfCheck:
    """The probability that a sample contradicts a sentence, on average over the samples.

    `contradicts(premise, hypothesis)` is a model of yours: P(contradiction) against entailment, without the
    neutral class, as the paper has it.
    """
    _bounded(answer, samples)
    own = sentences(answer)
    found = []
    for each in own if samples else ():
        given = [float(await called(contradicts, sample, each)) for sample in samples]
        if not all(0 <= number <= 1 for number in given):
            raise ValueError("an NLI model gives probabilities from 0 to 1")
        found.append(fmean(given))
    return SelfCheck("nli", tuple(found), len(samples))


@dataclass(frozen=True, slots=True, kw_only=True)
class Supports(Asking):
    """SelfCheckGPT's prompt variant: a model says which sentences a sample supports. One call a sample.

    No is 1, unclear ½, yes 0, as in the paper. Samples that the model gives no readable verdict on are left
    out and counted.
    """

    def __post_init__(self) -> None:
        names = frozenset({"answer", "sentences"})
        self.settle(load(self.prompt or "consistency", names, names, like="consistency"), "consistency")

    async def __call__(self, answer: str, samples: Sequence[str]) -> SelfCheck:
        """Ask about every sample at once."""
        _bounded(answer, samples)
        own = sentences(answer)
        if not own or not samples:
            return SelfCheck("prompt", (), len(samples))
        given = await asyncio.gather(
            *(
                self.verdict(
                    {"answer": sample, "sentences": own},
                    {},
                    accept=lambda v: numbered(v["sentences"], len(own)),
                )
                for sample in samples
            )
        )
        rows = [
            [
                _NO[each["supported"]]
                for each in sorted(one.value["sentences"], key=lambda s: int(s["number"]))
            ]
            for one in given
            if one.value is not None
        ]
        spent = sum((one.spent for one in given), Spent())
        found = tuple(fmean(column) for column in zip(*rows, strict=True))
        return SelfCheck("prompt", found, len(rows), (), len(given) - len(rows), spent)


_NO = {"yes": 0.0, "unclear": 0.5, "no": 1.0}


# --- semantic entropy --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Entropy:
    """Answers in groups of one meaning. `groups` has each answer's group, numbered as they first occur.

    `nats` is −Σ p log p over the groups' shares; at most log n. `undecided` comparisons counted as
    different, so with them the entropy is an upper estimate.
    """

    groups: tuple[int, ...]
    undecided: int = 0

    @property
    def nats(self) -> float | None:
        """The entropy; None for fewer than two answers."""
        if (n := len(self.groups)) < 2:
            return None
        counts = Counter(self.groups).values()
        return max(0.0, -math.fsum(count / n * math.log(count / n) for count in counts))

    @property
    def share(self) -> float | None:
        """`nats` / log n: from 0 (one meaning) to 1 (as many as answers)."""
        return None if self.nats is None else self.nats / math.log(len(self.groups))


async def semantic_entropy(
    answers: Sequence[str], same: Callable[[str, str], Awaitable[bool | None] | bool | None]
) -> Entropy:
    """Group the answers: each joins the first group whose first answer means the same, else opens one.

    `same(a, b)` says whether two answers mean the same; None when it cannot tell. It is asked at most once
    for each answer and group, and not for equal texts. `both_ways` makes it of an entailment model, and
    `SameMeaning` of a language model.
    """
    _bounded("", answers)
    first: list[str] = []
    groups: list[int] = []
    undecided = 0
    for answer in answers:
        for number, other in enumerate(first):
            said = True if _flat(answer) == _flat(other) else await called(same, other, answer)
            undecided += said is None
            if said:
                groups.append(number)
                break
        else:
            groups.append(len(first))
            first.append(answer)
    return Entropy(tuple(groups), undecided)


def both_ways(entails: Entails) -> Callable[[str, str], Awaitable[bool]]:
    """Same meaning as entailment in both directions. `entails(premise, hypothesis)` may be async."""

    async def same(a: str, b: str) -> bool:
        return bool(await called(entails, a, b)) and bool(await called(entails, b, a))

    return same


@dataclass(frozen=True, slots=True, kw_only=True)
class SameMeaning(Asking):
    """Asks a model whether two answers to `question` entail each other; one call a pair."""

    question: str = ""

    def __post_init__(self) -> None:
        names = frozenset({"question", "answer_a", "answer_b"})
        prompt = load(self.prompt or "entailment", names, names - {"question"}, like="entailment")
        self.settle(prompt, "same_meaning")

    async def __call__(self, a: str, b: str) -> bool | None:
        """True or false; None when there is no readable verdict."""
        given = await self.verdict({"question": self.question, "answer_a": a, "answer_b": b}, {})
        if given.value is None:
            return None
        return bool(given.value["first_entails_second"] and given.value["second_entails_first"])


def _flat(text: str) -> str:
    return " ".join(text.split())


def _bounded(answer: str, samples: Sequence[str]) -> None:
    if len(samples) > MAX_ANSWERS or max(map(len, (answer, *samples))) > MAX_ANSWER:
        raise ConfigError(
            f"at most {MAX_ANSWERS} answers of {MAX_ANSWER:,} characters each can be compared",
            hint="take fewer of them",
        )
