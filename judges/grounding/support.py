"""How well does a context support an answer, sentence by sentence? Without a language model, in milliseconds.

    answer = "The tower is 330 m high and was built in 1925."
    found = support(answer, ["Built in 1889, the tower is 330 m high."])
    found.score, [answer[span.start : span.end] for span in found.spans]      # …, ["1925"]

It compares words, numbers, names and what stands together. It is a *support score*, not an oracle: a
paraphrase may look new to it, and a wrong statement made of the right words looks supported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from judges.grounding.features import Context, Sentence, read
from judges.grounding.model import Model
from judges.grounding.words import Token, sentences
from judges.judge import MAX_ANSWER, reaches

THRESHOLD = 0.5
"""Where supported and unsupported answers of the training sources divide best."""

MAX_SENTENCES = 2_000
"""Of an answer. One with more, or with more than `MAX_ANSWER` characters, is refused, not judged in part."""

MAX_CONTEXT = 1_000_000
"""Characters of context that are looked at: what comes after supports nothing."""

_GAP = 2  # words between two new ones that are marked as one span
_LITTLE = 0.5  # a sentence of which less is covered is marked as a whole


class TooLong(ValueError):
    """The answer is longer than what is judged. Says how long, and quotes nothing."""


@dataclass(frozen=True, slots=True)
class Span:
    """`answer[start:end]` has little support: `support` is that of its sentence, from 0 to 1."""

    start: int
    end: int
    support: float


@dataclass(frozen=True, slots=True)
class Support:
    """How well a context supports an answer.

    `score` is that of the whole answer and `sentences` has a `Span` for each sentence with a claim in it (any
    word beyond `the` and `is`); all are from 0 to 1. `spans` are places without support, in order: numbers
    and names that the context does not have, and what is new in sentences below the threshold.
    """

    score: float
    sentences: tuple[Span, ...] = ()
    spans: tuple[Span, ...] = ()
    threshold: float = field(default=THRESHOLD)

    @property
    def unsupported(self) -> int:
        """How many sentences are below the threshold."""
        return sum(not reaches(sentence.support, self.threshold) for sentence in self.sentences)


def support(
    answer: str,
    context: Context | Sequence[str] | str,
    *,
    threshold: float = THRESHOLD,
    model: Model | None = None,
) -> Support:
    """Compare an answer with what it should be based on: passages, a single one, or what `indexed` made.

    An answer without a claim has a score of 1; without any context nothing is supported. Time is linear in
    the length of both. Safe in any thread. `model`: another one than the package's. Raises `TooLong`.
    """
    model = model or Model.load()
    context = [context] if isinstance(context, str) else context
    known = context if isinstance(context, Context) else indexed(context)
    found = [read(answer, start, end, known, model.vocabulary) for start, end in parts(answer)]
    claims = [sentence for sentence in found if sentence.claims]
    if not claims:
        return Support(1.0, threshold=threshold)
    judged = tuple(Span(each.start, each.end, model.support([each])) for each in claims)
    spans = [
        span
        for each, verdict in zip(claims, judged, strict=True)
        for span in _places(each, verdict.support, threshold)
    ]
    return Support(model.support(claims), judged, tuple(spans), threshold)


def parts(answer: str) -> list[tuple[int, int]]:
    """The sentences of an answer. Raises `TooLong`."""
    if len(answer) > MAX_ANSWER:
        raise TooLong(
            f"the answer has {len(answer):,} characters; {MAX_ANSWER:,} are the most that is judged"
        )
    found = sentences(answer)
    if len(found) > MAX_SENTENCES:
        raise TooLong(
            f"the answer has {len(found):,} sentences; {MAX_SENTENCES:,} are the most that is judged"
        )
    return found


def indexed(passages: Sequence[str]) -> Context:
    """The passages, ready to be compared with any number of answers."""
    left, taken = MAX_CONTEXT, []
    for passage in passages:
        taken.append(passage[:left])
        left -= len(taken[-1])
    return Context(taken)


def _places(sentence: Sentence, value: float, threshold: float) -> list[Span]:
    """New numbers and names; below the threshold all new words or, of a sentence with many, all of it."""
    new = sentence.new
    if reaches(value, threshold):
        new = tuple((at, token) for at, token in new if token.number is not None or (token.capital and at))
    elif not new or sentence.covered < _LITTLE:
        return [Span(sentence.start, sentence.end, value)]
    runs: list[list[tuple[int, Token]]] = []
    for at, token in new:
        if runs and at - runs[-1][-1][0] <= _GAP:
            runs[-1].append((at, token))
        else:
            runs.append([(at, token)])
    return [Span(run[0][1].start, run[-1][1].end, value) for run in runs]
