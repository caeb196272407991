"""Judges of overlap between words: `f1`, `bleu`, `chrf`, `rouge`.

They say how many words, n-grams or subsequences an answer shares with a reference, of several the nearest.
They know nothing of meaning: "not guilty" is next to "guilty", and a good answer in other words scores low. A
threshold of 0.5 means nothing in particular: look at some scores, then choose one (null: no verdict).

`bleu` and `chrf` come from sacrebleu, `rouge` from rouge-score: `pip install 'evalkit-guardrails[scorers]'`.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, ClassVar, Literal

from guardrails.errors import ConfigError
from judges.judge import MAX_READ, Answer, Judge, Question, Score, aside, no_reference, passing, unfit

MAX_CHARACTERS = 50_000
"""Of a reference, and of an answer where n-grams are counted: they take memory that grows with the text."""

MAX_CELLS = 4_000_000
"""Words of the answer × words of the reference: rouge-score fills a table of that size, in about a second."""

Compare = Callable[[str, Sequence[str]], float]


def _threshold(value: float | None) -> None:
    if value is not None and not 0 <= value <= 1:
        raise ConfigError("threshold is a number from 0 to 1, or null for no verdict")


def _complaint(question: Question) -> str | None:
    if (complaint := no_reference(question)) is not None:
        return complaint
    longest = max(map(len, question.references))
    too_long = f"a reference has {longest:,} characters; {MAX_CHARACTERS:,} are the most that is compared"
    return too_long if longest > MAX_CHARACTERS else None


async def _score(
    judge: Judge,
    question: Question,
    answer: Answer,
    threshold: float | None,
    compare: Compare,
    most: int = MAX_CHARACTERS,
) -> Score:
    if (failed := unfit(judge, question, answer, most=most)) is not None:
        return failed
    # Half a surrogate pair is no text: tokenizers and encoders of the libraries may stumble over it.
    text, *references = (_whole(each) for each in (answer.text, *question.references))
    size = max(map(len, (text, *references)))
    try:
        value = await aside(size, lambda: compare(text, references))
    except _TooManyCells as error:
        reason = f"{error.cells:,} pairs of words; {MAX_CELLS:,} are the most that is compared"
        return Score.unjudged("too_long", reason)
    many = f" (the nearest of {len(references)} references)" if len(references) > 1 else ""
    return passing(value, threshold, f"{judge.name} {value:.3f}{many}")


def _whole(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


# --- F1 ----------------------------------------------------------------------------------------------------

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def squad_tokens(text: str) -> list[str]:
    """The words that count for SQuAD: lower case, without ASCII punctuation, without a, an and the."""
    return _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split()


def token_f1(answer: str, reference: str) -> float:
    """2PR/(P+R) of the words, each counted as often as it occurs; of two texts without words 1."""
    given, wanted = squad_tokens(answer), squad_tokens(reference)
    if not given or not wanted:
        return float(given == wanted)
    return 2 * (Counter(given) & Counter(wanted)).total() / (len(given) + len(wanted))


@dataclass(frozen=True, slots=True)
class F1:
    """F1 of the words of answer and reference, as SQuAD counts it (Rajpurkar et al., 2016, arXiv:1606.05250).

    Words are what stands between spaces: for Chinese, Japanese and Thai take `chrf`.
    """

    threshold: float | None = 0.5
    name: str = "f1"
    shorthand: ClassVar[str] = "threshold"

    def __post_init__(self) -> None:
        _threshold(self.threshold)

    def check(self, question: Question, /) -> str | None:
        """Complains about missing, empty and very long references."""
        return _complaint(question)

    async def __call__(self, question: Question, answer: Answer, /) -> Score:
        """Compares with the nearest reference."""

        def compare(text: str, references: Sequence[str]) -> float:
            return max(token_f1(text, reference) for reference in references)

        return await _score(self, question, answer, self.threshold, compare, MAX_READ)


# --- BLEU and chrF -----------------------------------------------------------------------------------------


def _need(library: str, distribution: str) -> None:
    if find_spec(library) is None:
        raise ConfigError(
            f"{distribution} is not installed", hint="pip install 'evalkit-guardrails[scorers]'"
        )


@lru_cache(maxsize=64)
def _bleu(tokenize: str, lowercase: bool) -> Any:
    metrics = import_module("sacrebleu.metrics")
    return metrics.BLEU(tokenize=tokenize, lowercase=lowercase, effective_order=True)


@lru_cache(maxsize=64)
def _chrf(word_order: int, lowercase: bool) -> Any:
    return import_module("sacrebleu.metrics").CHRF(word_order=word_order, lowercase=lowercase)


def _share(percent: float) -> float:
    return min(1.0, max(0.0, percent / 100))


@dataclass(frozen=True, slots=True)
class Bleu:
    """BLEU of one answer (sacrebleu, effective order), as a share: 0.3 is what papers write as 30.

    BLEU is defined over a whole corpus; of single short sentences it is noisy, and their mean is not the
    corpus' BLEU. `tokenize` is `13a` (WMT's), `intl`, `zh`, `char` or `none`.
    """

    threshold: float | None = 0.5
    tokenize: Literal["13a", "intl", "zh", "char", "none"] = "13a"
    lowercase: bool = False
    name: str = "bleu"
    shorthand: ClassVar[str] = "threshold"

    def __post_init__(self) -> None:
        _threshold(self.threshold)
        _need("sacrebleu", "sacrebleu")

    def check(self, question: Question, /) -> str | None:
        """Complains about missing, empty and very long references."""
        return _complaint(question)

    async def __call__(self, question: Question, answer: Answer, /) -> Score:
        """Compares with all references at once, as BLEU does."""

        def compare(text: str, references: Sequence[str]) -> float:
            return _share(_bleu(self.tokenize, self.lowercase).sentence_score(text, references).score)

        return await _score(self, question, answer, self.threshold, compare)


@dataclass(frozen=True, slots=True)
class Chrf:
    """chrF2 of one answer (sacrebleu): F-score of character n-grams up to 6, as a share.

    It needs no words, so it serves every script. `word_order` of 2 makes it chrF++.
    """

    threshold: float | None = 0.5
    word_order: Literal[0, 1, 2] = 0
    lowercase: bool = False
    name: str = "chrf"
    shorthand: ClassVar[str] = "threshold"

    def __post_init__(self) -> None:
        _threshold(self.threshold)
        _need("sacrebleu", "sacrebleu")

    def check(self, question: Question, /) -> str | None:
        """Complains about missing, empty and very long references."""
        return _complaint(question)

    async def __call__(self, question: Question, answer: Answer, /) -> Score:
        """Compares with the nearest reference."""

        def compare(text: str, references: Sequence[str]) -> float:
            return _share(_chrf(self.word_order, self.lowercase).sentence_score(text, references).score)

        return await _score(self, question, answer, self.threshold, compare)


# --- ROUGE -------------------------------------------------------------------------------------------------


class _TooManyCells(Exception):
    def __init__(self, cells: int) -> None:
        self.cells = cells


_WORD = re.compile(r"\w+")


class UnicodeWords:
    """A tokenizer for rouge-score that knows more letters than a to z."""

    def tokenize(self, text: str) -> list[str]:
        """Letters, digits and underscores that stand together, in lower case."""
        return _WORD.findall(text.lower())


_LATIN = re.compile(r"[a-z0-9]+")


@lru_cache(maxsize=64)
def _rouge(kind: str, stem: bool, words: str) -> Any:
    scorer = import_module("rouge_score.rouge_scorer")
    return scorer.RougeScorer([kind], use_stemmer=stem, tokenizer=UnicodeWords() if words == "any" else None)


@dataclass(frozen=True, slots=True)
class Rouge:
    """ROUGE of one answer (rouge-score): F-measure, precision or recall of shared n-grams or subsequences.

    `words`: `latin` is rouge-score's own (a to z and 0 to 9; every other letter is dropped), `any` takes the
    words of every script that writes spaces between them. `stem` is Porter's, for English. `rougeLsum` takes
    each line for a sentence.
    """

    kind: Literal["rouge1", "rouge2", "rouge3", "rougeL", "rougeLsum"] = "rougeL"
    threshold: float | None = 0.5
    measure: Literal["f1", "precision", "recall"] = "f1"
    stem: bool = False
    words: Literal["latin", "any"] = "latin"
    name: str = "rouge"
    shorthand: ClassVar[str] = "kind"

    def __post_init__(self) -> None:
        _threshold(self.threshold)
        _need("rouge_score", "rouge-score")
        if self.stem and self.words == "any":
            raise ConfigError("stem is for English words", hint="leave `words` at `latin`, or `stem` off")

    def check(self, question: Question, /) -> str | None:
        """Complains about missing, empty and very long references, and those without a word that counts."""
        if (complaint := _complaint(question)) is not None:
            return complaint
        for number, reference in enumerate(question.references, start=1):
            if self.words == "latin" and _LATIN.search(reference.lower()) is None:
                return f"reference {number} has no word of the letters a to z: set `words: any`"
        return None

    async def __call__(self, question: Question, answer: Answer, /) -> Score:
        """Compares with the nearest reference."""
        return await _score(self, question, answer, self.threshold, self._compare)

    def _compare(self, text: str, references: Sequence[str]) -> float:
        if self.kind.startswith("rougeL"):
            # The table of each line with each line costs more, and the most where lines are short.
            each = 4 if self.kind == "rougeLsum" else 1
            cells = each * self._words(text) * sum(map(self._words, references))
            if cells > MAX_CELLS:
                raise _TooManyCells(cells)
        scorer = _rouge(self.kind, self.stem, self.words)
        scores = (scorer.score(reference, text)[self.kind] for reference in references)
        which = "fmeasure" if self.measure == "f1" else self.measure
        return max(_share(100 * float(getattr(score, which))) for score in scores)

    def _words(self, text: str) -> int:
        pattern = _LATIN if self.words == "latin" else _WORD
        return sum(1 for _ in pattern.finditer(text.lower()))
