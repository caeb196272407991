"""Does the answer say only what its context says? With a language model, claim by claim.

::

    scorers:
      - faithfulness            # the share of the answer's claims that the passages support
      - relevancy               # the share of its statements that are to the point
      - context_precision       # whether the useful passages stand first
      - context_recall          # the share of the reference's claims that the passages support

`faithfulness` splits the answer into claims and has them verified in batches. The model has to quote what
decides a claim, and the quotation is looked up in the passages: one that does not stand there decides
nothing, and its claim counts as not found. A hallucination is a claim that is not supported; an answer
hallucinates when it has one. An answer without claims (a refusal, "I do not know") has none, and is faithful.

What is not covered: claims that the model leaves out when it splits, and quotations that are real and beside
the point. Every score says what it cost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from guardrails.errors import ConfigError
from judges.judge import Answer, Question, Score, no_reference, unfit
from judges.llm.asking import Asking, Verdict
from judges.llm.checklist import numbered
from judges.llm.model import Spent
from judges.llm.prompt import Prompt, load
from judges.llm.rated import graded

MAX_CLAIMS = 100
MAX_CLAIM = 2_000
MAX_PASSAGES = 200

SUPPORTED, CONTRADICTED, NOT_FOUND = "supported", "contradicted", "not_found"


@dataclass(frozen=True, slots=True)
class Verified:
    """Claims with what was found of each: the `parts` of a score."""

    parts: tuple[Mapping[str, Any], ...]
    spent: Spent
    failed: Verdict | None = None

    @property
    def value(self) -> float:
        """The share that is supported; 1 of no claims."""
        return self.count(SUPPORTED) / len(self.parts) if self.parts else 1.0

    def count(self, found: str) -> int:
        """How many claims are so."""
        return sum(part["found"] == found for part in self.parts)

    @property
    def reason(self) -> str:
        """The counts, in words."""
        if not self.parts:
            return "no claims to verify"
        downgraded = sum(part["downgraded"] for part in self.parts)
        lost = f"; {downgraded} by a quotation that is not in the context" if downgraded else ""
        return (
            f"{self.count(SUPPORTED)} of {len(self.parts)} claims supported, {self.count(CONTRADICTED)} "
            f"contradicted, {self.count(NOT_FOUND)} not found{lost}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _ByClaims(Asking):
    """Options of the judges that verify claims.

    `batch` claims are verified in one call, `most` are asked for. `prompt` is the one that verifies,
    `splitting` the one that finds the claims. A share passes from `threshold` on (null: no verdict).
    """

    splitting: str = "claims"
    batch: int = 10
    most: int = 40
    threshold: float | None = 1.0
    _splitting: Prompt = field(init=False, repr=False, compare=False)
    files: ClassVar[tuple[str, ...]] = ("prompt", "splitting")
    called: ClassVar[str] = ""
    shorthand: ClassVar[str] = "threshold"

    def __post_init__(self) -> None:
        names = frozenset({"claims", "passages"})
        splitting = load(self.splitting, frozenset({"question", "answer", "most"}), like="claims")
        self.settle(load(self.prompt or "verify", names, names, like="verify"), self.called)
        object.__setattr__(self, "_splitting", splitting)
        object.__setattr__(self, "identity", f"{self.identity} {splitting.name}:{splitting.digest}")
        _share(self.threshold)
        if not 1 <= self.batch <= MAX_CLAIMS or not 1 <= self.most <= MAX_CLAIMS:
            raise ConfigError(f"batch and most are from 1 to {MAX_CLAIMS}")

    async def verified(self, question: Question, text: str) -> Verified:
        """The claims of a text, verified against the question's passages."""
        if not text.strip():
            return Verified((), Spent(Spent().cost, 0))
        split = await self.verdict(
            {"question": question.prompt, "answer": text},
            {"most": str(self.most)},
            accept=self._too_many,
            prompt=self._splitting,
        )
        if split.value is None:
            return Verified((), split.spent, split)
        claims = [claim.strip() for claim in split.value["claims"] if claim.strip()]
        batches = [claims[at : at + self.batch] for at in range(0, len(claims), self.batch)]
        asked = [self._batch(each, question.context) for each in batches]
        done = await asyncio.gather(*asked)
        spent = sum((each.spent for each in done), split.spent)
        failed = next((each for each in done if each.value is None), None)
        if failed is not None:
            return Verified((), spent, failed)
        known = [_flat(passage) for passage in question.context]
        parts = [
            _part(claim, said, known)
            for batch, each in zip(batches, done, strict=True)
            for claim, said in zip(batch, _in_order(each.value or {}, "claims"), strict=True)
        ]
        return Verified(tuple(parts), spent)

    def _too_many(self, verdict: Mapping[str, Any]) -> str | None:
        claims = verdict["claims"]
        if len(claims) > MAX_CLAIMS or any(len(claim) > MAX_CLAIM for claim in claims):
            return f"at most {self.most} claims, of one sentence each"
        return None

    async def _batch(self, claims: Sequence[str], passages: Sequence[str]) -> Verdict:
        texts = {"passages": passages, "claims": claims}
        return await self.verdict(texts, {}, accept=lambda v: numbered(v["claims"], len(claims)))

    def _scored(self, found: Verified) -> Score:
        if found.failed is not None:
            return found.failed.unjudged(found.spent)
        return graded(found.value, self.threshold, found.reason, "", found.spent, parts=found.parts)


def _part(claim: str, said: Mapping[str, Any], known: Sequence[str]) -> dict[str, Any]:
    found, quote = said["found"], said["quote"]
    downgraded = found != NOT_FOUND and not _stands(quote, known)
    return {
        "claim": claim,
        "found": NOT_FOUND if downgraded else found,
        "quote": "" if downgraded or found == NOT_FOUND else quote[:MAX_CLAIM],
        "downgraded": downgraded,
    }


def verbatim(quote: str, passages: Iterable[str]) -> bool:
    """Whether a quotation stands in one of the passages, but for white space and its outer marks.

    It has to hold a letter or a digit: nothing is proved by a full stop.
    """
    return _stands(quote, [_flat(each) for each in passages])


def _stands(quote: str, flat: Iterable[str]) -> bool:
    wanted = _flat(quote).strip("\"'“”‘’«»… ")
    return any(char.isalnum() for char in wanted) and any(wanted in each for each in flat)


# What was defused is shown to the model with a look-alike, and it may quote either: all count as the same.
_ALIKE = str.maketrans("<[\0", "‹⟦\N{REPLACEMENT CHARACTER}")


def _flat(text: str) -> str:
    return " ".join(text.translate(_ALIKE).encode("utf-8", "replace").decode().split())


def _in_order(verdict: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    return sorted(verdict[key], key=lambda each: int(each["number"]))


def _no_context(question: Question) -> str | None:
    if not any(passage.strip() for passage in question.context):
        return "the sample has no context to compare with"
    return None if len(question.context) <= MAX_PASSAGES else f"more than {MAX_PASSAGES} passages"


def _share(threshold: float | None) -> None:
    if threshold is not None and not 0 <= threshold <= 1:
        raise ConfigError("threshold is a number from 0 to 1, or null for no verdict")


@dataclass(frozen=True, slots=True, kw_only=True)
class Faithfulness(_ByClaims):
    """The share of the answer's claims that its context supports; `parts` of the score are the claims."""

    called: ClassVar[str] = "faithfulness"

    def check(self, question: Question, /) -> str | None:
        """Complains about a sample without context."""
        return _no_context(question)

    async def __call__(self, question: Question, answer: Answer, /) -> Score:
        """Splits the answer, then verifies all batches at once."""
        if (failed := unfit(self, question, answer)) is not None:
            return failed
        return self._scored(await self.verified(question, answer.text))


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextRecall(_ByClaims):
    """The share of the first reference's claims that the context supports: was all that is needed retrieved?

    The answer does not matter to it, so the verdicts of one sample are asked for once.
    """

    called: ClassVar[str] = "context_recall"

    def check(self, question: Question, /) -> str | None:
        """Complains about a sample without context, or without references."""
        return _no_context(question) or no_reference(question)

    async def __call__(self, question: Question, answer: Answer, /) -> Score:
        """Splits the reference, then verifies all batches at once."""
        if (failed := unfit(self, question, answer)) is not None:
            return failed
        return self._scored(await self.verified(question, question.references[0]))


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextPrecision(Asking):
    """Whether the useful passages stand first: Σ P@k·v_k / Σ v_k over the passages, 0 when none is useful.

    P@k is the share of useful ones among the first k, v_k whether the k-th is. Useful is what the first
    reference needs; without references, what the answer itself needs.
    """

    threshold: float | None = None
    shorthand: ClassVar[str] = "threshold"

    def __post_init__(self) -> None:
        names = frozenset({"question", "answer", "passages"})
        prompt = load(self.prompt or "passages", names, names - {"question"}, like="passages")
        self.settle(prompt, "context_precision")
        _share(self.threshold)

    def check(self, question: Question, /) -> str | None:
        """Complains about a sample without context."""
        return _no_context(question)

    async def __call__(self, question: Question, answer: Answer, /) -> Score:
        """Asks about all passages at once."""
        if (failed := unfit(self, question, answer)) is not None:
            return failed
        right = question.references[0] if question.references else answer.text
        count = len(question.context)
        given = await self.verdict(
            {"question": question.prompt, "answer": right, "passages": question.context},
            {},
            accept=lambda v: numbered(v["passages"], count),
        )
        if given.value is None:
            return given.unjudged()
        parts = tuple(
            {"passage": n, "useful": each["useful"], "reasons": each["reasons"][:500]}
            for n, each in enumerate(_in_order(given.value, "passages"), start=1)
        )
        useful = [part["useful"] for part in parts]
        reason = f"{sum(useful)} of {count} passages are of use"
        return graded(precision(useful), self.threshold, reason, "", given.spent, parts=parts)


def precision(useful: Sequence[bool]) -> float:
    """The mean of P@k over the places k that are useful; 0 when none is (average precision)."""
    hits, total = 0, 0.0
    for at, each in enumerate(useful, start=1):
        if each:
            hits += 1
            total += hits / at
    return total / hits if hits else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Relevancy(Asking):
    """The share of the answer's statements that help to answer the question; 0 when it does not answer it.

    Whether they are true does not count here.
    """

    threshold: float | None = 0.7
    most: int = 40
    shorthand: ClassVar[str] = "threshold"

    def __post_init__(self) -> None:
        names = frozenset({"question", "answer", "most"})
        self.settle(load(self.prompt or "relevancy", names, like="relevancy"), "relevancy")
        _share(self.threshold)

    def check(self, question: Question, /) -> str | None:
        """Complains about a sample without a question."""
        return None if question.prompt.strip() else "the sample has no question"

    async def __call__(self, question: Question, answer: Answer, /) -> Score:
        """Asks about all statements at once."""
        if (failed := unfit(self, question, answer)) is not None:
            return failed
        given = await self.verdict(
            {"question": question.prompt, "answer": answer.text},
            {"most": str(self.most)},
            accept=lambda v: "too many statements" if len(v["statements"]) > MAX_CLAIMS else None,
        )
        if given.value is None:
            return given.unjudged()
        parts = tuple(
            {"gist": each["gist"][:500], "relevant": each["relevant"]} for each in given.value["statements"]
        )
        held = sum(part["relevant"] for part in parts)
        value = held / len(parts) if parts and given.value["answers"] else 0.0
        reason = f"{held} of {len(parts)} statements are to the point"
        reason += "" if given.value["answers"] else "; it does not answer the question"
        return graded(value, self.threshold, reason, "", given.spent, parts=parts)


@dataclass(frozen=True, slots=True)
class Hallucination:
    """Counts over many faithfulness scores. `errors` are answers that could not be judged."""

    answers: int = 0
    hallucinated: int = 0
    claims: int = 0
    unsupported: int = 0
    contradicted: int = 0
    downgraded: int = 0
    errors: int = 0

    @classmethod
    def of(cls, scores: Iterable[Score]) -> Self:
        """Count them."""
        counts = dict.fromkeys(cls.__dataclass_fields__, 0)
        for score in scores:
            if score.value is None:
                counts["errors"] += 1
                continue
            found = [part["found"] for part in score.parts]
            counts["answers"] += 1
            counts["hallucinated"] += any(each != SUPPORTED for each in found)
            counts["claims"] += len(found)
            counts["unsupported"] += sum(each != SUPPORTED for each in found)
            counts["contradicted"] += found.count(CONTRADICTED)
            counts["downgraded"] += sum(part["downgraded"] for part in score.parts)
        return cls(**counts)

    @property
    def per_answer(self) -> float | None:
        """The share of answers with a claim that is not supported; None for no answers."""
        return self.hallucinated / self.answers if self.answers else None

    @property
    def per_claim(self) -> float | None:
        """The share of claims that are not supported. Claims of one answer are no independent draws."""
        return self.unsupported / self.claims if self.claims else None
