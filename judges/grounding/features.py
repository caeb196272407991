"""What speaks for a sentence being supported by a context: numbers that a small model weighs.

Nothing here understands a text. A `Context` knows which words, pairs of words, numbers and names it holds,
and where; `read` says how much of a sentence it covers, how closely together, and what in it is new.
Work grows with the length of the texts: what could grow faster is bounded by the constants below.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from judges.grounding.words import (
    DATES,
    PERSONAL,
    UNITS,
    Token,
    negates,
    opposites,
    sentences,
    tokens,
    values,
)

Floats = npt.NDArray[np.float64]
_Values = dict[str, float]

LONGEST_CHUNK = 400  # characters of context that count as one place
CHUNKS = 4_000  # more than these are joined: bounds the work for one word of a sentence
PLACES = 48  # of one word in the context that are remembered
NEAR = 12  # words: what stands together
NEGATED = 3  # words: how far a negation reaches

NAMES = (
    "covered", "covered_pairs", "covered_triples", "best_place", "two_places", "neighbourhood",
    "new_words", "new_weight", "rarest_new", "longest_new_run", "new_share_all",
    "numbers", "new_numbers", "far_numbers", "new_number_share", "loose_number",
    "names", "new_names", "far_names", "new_name_share", "loose_name",
    "new_dates", "unit_swaps", "negation_added", "opposites_near",
    "framed_new", "framed_left", "framed_right", "apart", "apart_weight", "reversed", "order",
    "personal", "asks", "new_function_words", "near_miss", "tokens", "content",
    "copied_run", "margin", "stop_pairs",
)  # fmt: skip
"""The columns of a sentence's features, in their order."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """How common stems are in English text: the inverse document frequency of each, `rare` for all others."""

    weights: Mapping[str, float]
    rare: float

    def weight(self, token: Token) -> float:
        """How much a word says: 0 for words like `the`."""
        if not token.is_content:
            return 0.0
        if token.number is not None:
            return self.rare
        return self.weights.get(token.stem, self.rare)


class Context:
    """What an answer may be supported by, indexed: passages are kept apart, words are found by their stem."""

    __slots__ = (
        "chunk", "chunks", "names", "negated", "numbers", "pairs", "places",
        "postings", "size", "stems", "triples", "units",
    )  # fmt: skip

    def __init__(self, passages: Sequence[str]) -> None:
        found: list[Token] = []
        starts: list[int] = []  # the first token of each chunk
        for passage in passages:
            for start, end in sentences(passage, LONGEST_CHUNK):
                more = tokens(passage, start, end)
                if more:
                    starts.append(len(found))
                    found += more
        step = -(-len(starts) // CHUNKS) if starts else 1
        starts = starts[::step]
        self.size = len(found)
        self.stems = [token.stem for token in found]
        self.chunks = len(starts)
        self.chunk = np.repeat(np.arange(len(starts)), np.diff([*starts, len(found)])).tolist()
        self.places: dict[str, list[int]] = {}
        self.postings: dict[str, list[int]] = {}
        for at, (name, chunk) in enumerate(zip(self.stems, self.chunk, strict=True)):
            places = self.places.setdefault(name, [])
            if len(places) < PLACES:
                places.append(at)
            posting = self.postings.setdefault(name, [])
            if not posting or posting[-1] != chunk:
                posting.append(chunk)
        self.pairs = set(pairwise(self.stems))
        self.triples = set(zip(self.stems, self.stems[1:], self.stems[2:], strict=False))
        self.numbers = {value for _, value in values(found)}
        self.names = {token.stem for token in found if token.capital}
        self.negated = _negated(found, NEGATED + 1)
        self.units: dict[str, set[str]] = {}
        for token, after in pairwise(found):
            if token.number is not None and after.word in UNITS:
                self.units.setdefault(token.stem, set()).add(after.stem)
            if after.number is not None and token.word in UNITS:
                self.units.setdefault(after.stem, set()).add(token.stem)

    def __contains__(self, name: str) -> bool:
        return name in self.places


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence as the model sees it: `text[start:end]`, its features, its new words by their places."""

    start: int
    end: int
    features: Floats = field(repr=False)
    new: tuple[tuple[int, Token], ...] = field(default=(), repr=False)
    claims: bool = True

    @property
    def covered(self) -> float:
        """The share of what it says, by weight, that the context has anywhere."""
        return float(self.features[0])


def read(text: str, start: int, end: int, context: Context, words: Vocabulary) -> Sentence:
    """The features of one sentence against the context."""
    found = tokens(text, start, end)
    weights = [words.weight(token) for token in found]
    total = sum(weights)
    content = [index for index, weight in enumerate(weights) if weight > 0]
    if not content:
        return Sentence(start, end, np.zeros(len(NAMES)), (), False)
    held = [token.stem in context for token in found]
    for index, value in values(found):
        held[index] = held[index] or value in context.numbers
    best, second, evidence = _evidence(found, weights, context)
    out: _Values = {}
    _coverage(out, found, weights, held, total, context)
    near = _near(found, held, best, second, evidence, context)
    here = sum(weights[i] for i in content if near[i] >= 1)
    both = sum(weights[i] for i in content if near[i] >= 0)
    out["best_place"] = here / total
    out["two_places"] = both / total
    out["neighbourhood"] = sum(weights[i] for i in content if near[i] >= -1) / total
    out["margin"] = (both - here) / total
    new = [i for i in content if not held[i]]
    _novelty(out, found, weights, new, held, words.rare, total)
    _numbers(out, found, weights, held, near, context)
    _names(out, found, weights, held, near, words, context)
    _contrary(out, found, weights, near, best, context)
    _frames(out, found, weights, new, context)
    _cohesion(out, found, weights, content, held, context)
    said = text[start:end]
    out["personal"] = sum(token.word in PERSONAL and token.stem not in context for token in found)
    out["asks"] = float("?" in said)
    out["tokens"] = math.log1p(len(found))
    out["content"] = math.log1p(len(content))
    fresh = tuple((i, found[i]) for i in new)
    return Sentence(start, end, np.array([out.get(name, 0.0) for name in NAMES]), fresh)


def _evidence(
    found: Sequence[Token], weights: Sequence[float], context: Context
) -> tuple[int, int, set[int]]:
    """The chunk that covers most of the sentence, the one that covers most of the rest, and those around."""
    if not context.chunks:
        return -1, -1, set()
    seen: dict[str, float] = {}
    for token, weight in zip(found, weights, strict=True):
        if weight > 0 and token.stem in context:
            seen[token.stem] = weight
    score = np.zeros(context.chunks)
    posted = {name: np.array(context.postings[name]) for name in seen}
    for name, weight in seen.items():
        score[posted[name]] += weight
    if context.chunks > 1:  # what stands around helps a little, and breaks ties
        around = np.zeros(context.chunks)
        around[1:] += score[:-1]
        around[:-1] += score[1:]
        best = int(np.argmax(score + 0.1 * around))
    else:
        best = 0
    rest = np.zeros(context.chunks)
    for name, weight in seen.items():
        at = posted[name]
        where = np.searchsorted(at, best)
        if where == len(at) or at[where] != best:
            rest[at] += weight
    second = int(np.argmax(rest)) if rest.any() else best
    around_them = {best - 1, best, best + 1, second - 1, second, second + 1}
    return best, second, around_them


def _near(
    found: Sequence[Token], held: Sequence[bool], best: int, second: int, evidence: set[int], context: Context
) -> list[int]:
    """For each token: 1 in the best chunk, 0 in the second, -1 in those around, -2 elsewhere, -3 nowhere."""
    out = []
    for token, known in zip(found, held, strict=True):
        posting = context.postings.get(token.stem)
        if posting is None:
            out.append(-2 if known else -3)
        elif _among(posting, best):
            out.append(1)
        elif _among(posting, second):
            out.append(0)
        elif any(_among(posting, chunk) for chunk in evidence):
            out.append(-1)
        else:
            out.append(-2)
    return out


def _among(ordered: Sequence[int], value: int) -> bool:
    from bisect import bisect_left

    at = bisect_left(ordered, value)
    return at < len(ordered) and ordered[at] == value


def _coverage(
    out: _Values,
    found: Sequence[Token],
    weights: Sequence[float],
    held: Sequence[bool],
    total: float,
    context: Context,
) -> None:
    names = [token.stem for token in found]
    pairs = list(pairwise(names))
    triples = list(zip(names, names[1:], names[2:], strict=False))
    in_pairs = [pair in context.pairs for pair in pairs]
    in_triples = [triple in context.triples for triple in triples]
    out["covered"] = sum(w for w, known in zip(weights, held, strict=True) if known) / total
    out["covered_pairs"] = sum(in_pairs) / len(pairs) if pairs else out["covered"]
    out["covered_triples"] = sum(in_triples) / len(triples) if triples else out["covered_pairs"]
    run = longest = 0
    for known in in_triples:
        run = run + 1 if known else 0
        longest = max(longest, run)
    out["copied_run"] = longest / max(1, len(triples))
    out["new_share_all"] = 1 - sum(held) / len(found)
    functions = [i for i in range(len(found)) if weights[i] == 0]
    out["new_function_words"] = sum(not held[i] for i in functions) / len(found)
    links = [i for i in range(len(pairs)) if (weights[i] == 0) != (weights[i + 1] == 0)]
    out["stop_pairs"] = sum(in_pairs[i] for i in links) / len(links) if links else out["covered_pairs"]


def _novelty(
    out: _Values,
    found: Sequence[Token],
    weights: Sequence[float],
    new: Sequence[int],
    held: Sequence[bool],
    rare: float,
    total: float,
) -> None:
    out["new_words"] = math.log1p(len(new))
    out["new_weight"] = sum(weights[i] for i in new) / rare
    out["rarest_new"] = max((weights[i] for i in new), default=0.0) / rare
    run = longest = 0
    for known, weight in zip(held, weights, strict=True):
        run = 0 if known and weight > 0 else run + (weight > 0)
        longest = max(longest, run)
    out["longest_new_run"] = math.log1p(longest)


def _numbers(
    out: _Values,
    found: Sequence[Token],
    weights: Sequence[float],
    held: Sequence[bool],
    near: Sequence[int],
    context: Context,
) -> None:
    at = [i for i, token in enumerate(found) if token.number is not None]
    out["numbers"] = math.log1p(len(at))
    new = [i for i in at if not held[i]]
    out["new_numbers"] = math.log1p(len(new))
    out["new_number_share"] = len(new) / len(at) if at else 0.0
    out["far_numbers"] = math.log1p(sum(held[i] and near[i] < -1 for i in at))
    out["loose_number"] = 1 - min((_bound(i, found, weights, context) for i in at if held[i]), default=1.0)
    out["new_dates"] = sum(t.word in DATES and not known for t, known in zip(found, held, strict=True))
    swaps = 0
    for i in at:
        units = context.units.get(found[i].stem)
        said = [found[j].stem for j in (i - 1, i + 1) if 0 <= j < len(found) and found[j].word in UNITS]
        swaps += bool(units and said and not units.intersection(said))
    out["unit_swaps"] = swaps


def _names(
    out: _Values,
    found: Sequence[Token],
    weights: Sequence[float],
    held: Sequence[bool],
    near: Sequence[int],
    words: Vocabulary,
    context: Context,
) -> None:
    at = [
        i
        for i, token in enumerate(found)
        if weights[i] > 0
        and token.capital
        and (i > 0 or token.stem in context.names or weights[i] >= words.rare)
    ]
    out["names"] = math.log1p(len(at))
    new = [i for i in at if not held[i]]
    out["new_names"] = math.log1p(len(new))
    out["new_name_share"] = len(new) / len(at) if at else 0.0
    out["far_names"] = math.log1p(sum(held[i] and near[i] < -1 for i in at))
    out["loose_name"] = 1 - min((_bound(i, found, weights, context) for i in at[:8] if held[i]), default=1.0)


def _bound(index: int, found: Sequence[Token], weights: Sequence[float], context: Context) -> float:
    """How much of what stands around a word here also stands around it somewhere in the context."""
    around = {
        found[j].stem: weights[j]
        for j in range(max(0, index - 6), min(len(found), index + 7))
        if j != index and weights[j] > 0
    }
    total = sum(around.values())
    if not total:
        return 1.0
    best = 0.0
    for place in context.places.get(found[index].stem, ())[:16]:
        there = set(context.stems[max(0, place - NEAR) : place + NEAR + 1])
        best = max(best, sum(weight for name, weight in around.items() if name in there))
    return best / total


def _contrary(
    out: _Values,
    found: Sequence[Token],
    weights: Sequence[float],
    near: Sequence[int],
    best: int,
    context: Context,
) -> None:
    negated = _negated(found, NEGATED)
    added = close = 0
    for i, token in enumerate(found):
        if weights[i] > 0 and negated[i] and token.stem in context and not negates(token):
            added += not any(context.negated[place] for place in context.places[token.stem])
        if weights[i] == 0 and token.word not in ("up", "down", "with", "before", "after", "above", "below"):
            continue
        if near[i] >= -1:
            continue
        there_too = [context.postings[other] for other in opposites(token.stem) if other in context]
        around = (best - 1, best, best + 1)
        close += any(_among(posting, chunk) for posting in there_too for chunk in around)
    out["negation_added"] = added
    out["opposites_near"] = close


def _negated(found: Sequence[Token], reach: int) -> list[bool]:
    """For each token whether a negation stands at most `reach` words before it."""
    out, last = [], -1 - reach
    for at, token in enumerate(found):
        out.append(at - last <= reach)
        if negates(token):
            last = at
    return out


def _frames(
    out: _Values, found: Sequence[Token], weights: Sequence[float], new: Sequence[int], context: Context
) -> None:
    """New words in the place of others: what is left and right of them stands so in the context, too."""
    both = left_only = right_only = 0
    near_miss = 0
    for i in new:
        left = i >= 2 and (found[i - 2].stem, found[i - 1].stem) in context.pairs
        right = i + 2 < len(found) and (found[i + 1].stem, found[i + 2].stem) in context.pairs
        both += left and right
        left_only += left and not right
        right_only += right and not left
        if len(found[i].stem) >= 6:
            near_miss += found[i].stem[:5] in context
    out["framed_new"] = math.log1p(both)
    out["framed_left"] = math.log1p(left_only)
    out["framed_right"] = math.log1p(right_only)
    out["near_miss"] = near_miss


def _cohesion(
    out: _Values,
    found: Sequence[Token],
    weights: Sequence[float],
    content: Sequence[int],
    held: Sequence[bool],
    context: Context,
) -> None:
    """Words that stand together here, and never do in the context, or only the other way round."""
    pairs = apart = 0
    apart_weight = total = 0.0
    reversed_ = 0
    ordered = 0
    for i, j in pairwise(content):
        one, other = found[i].stem, found[j].stem
        if not (held[i] and held[j]) or one == other:
            continue
        first, second = context.places.get(one), context.places.get(other)
        if not first or not second:
            continue
        pairs += 1
        weight = min(weights[i], weights[j])
        total += weight
        gap = _gap(first, second)
        if gap is None:
            apart += 1
            apart_weight += weight
        elif gap < 0:
            reversed_ += 1
        else:
            ordered += 1
    out["apart"] = apart / pairs if pairs else 0.0
    out["apart_weight"] = math.log1p(apart_weight)
    out["reversed"] = reversed_ / pairs if pairs else 0.0
    out["order"] = ordered / pairs if pairs else 0.0


def _gap(first: Sequence[int], second: Sequence[int]) -> int | None:
    """How many words the second stands behind the first where they are nearest; None: never within NEAR."""
    best: int | None = None
    i = j = 0
    while i < len(first) and j < len(second):
        gap = second[j] - first[i]
        if abs(gap) <= NEAR and (best is None or abs(gap) < abs(best) or (gap > 0 and gap == -best)):
            best = gap
        if gap > 0:
            i += 1
        else:
            j += 1
    return best
