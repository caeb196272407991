"""Train the support score's small model, and write its weights.

    EVALKIT_SHARED=../shared python training/groundedness.py

Reads the train-role files of `data/groundedness` (RAGTruth's, SummEdits, WiCE's dev, BEGIN's dev) and writes
`judges/grounding/weights/groundedness.json`. About a minute on one core; the same bytes every time with the
same versions of numpy and scipy.

The fit: logistic regression with all weights at least 0, an intercept for every group (a set's domain, task
or data set) that is thrown away, classes of equal weight within a source, sources by the root of their size.
So only what tells answers apart *within* a group counts. Beside the labelled answers it sees edited ones: a
supported answer after a negation, an opposite or another number was put into it (as FactCC makes its
training data, arXiv 1910.12840), against that answer itself. They teach what a small edit looks like.

What divides supported from unsupported grows with the length of an answer, since the worst of many sentences
looks worse: the threshold is a line through the groups, from their mean log length to the point halfway
between their two classes' medians.

The strengths, the share of the edits, the kinds of edits and models, and that rule were chosen by figures on
sources left out, among about 350 variants: these figures are optimistic by as much (the card has a check).
"""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import os
import random
import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # sums in one order

import numpy as np
import numpy.typing as npt
from scipy import optimize

from judges.grounding.features import Context, Vocabulary, read
from judges.grounding.model import COLUMNS, FEATURES, FILE, Model, columns, length
from judges.grounding.support import parts
from judges.grounding.words import ANTONYMS, Token, tokens

Floats = npt.NDArray[np.float64]

ROOT = Path(__file__).parents[1]
SHARE = 0.6  # of the loss: what edited answers weigh
STRENGTH = 0.2  # of the penalty, for features of how much is covered,
PRECISE = 0.1  # and for those of a number, a name, a negation or an opposite
EDITS = (
    *("new_numbers", "new_number_share", "far_numbers", "loose_number", "unit_swaps", "new_dates"),
    *("new_names", "new_name_share", "far_names", "loose_name"),
    *("negation_added", "opposites_near", "framed_new", "reversed"),
)
PAGE = 1500  # characters of context that count as a document for how rare words are
LEAST = 5  # documents that a word has to be in to have a weight of its own
STEP = 0.25  # of these weights

SOURCE = {  # the sets that may be trained on, and the source that each is of
    "ragtruth_train66": "ragtruth",
    "summedits": "summedits",
    "wice_claim_dev": "wice",
    "begin_dev": "begin",
}
MEASURED = {"wice_claim_test": "wice", "begin_test_wow": "begin", "halueval_general": "halueval"}


@dataclass(frozen=True, slots=True)
class Row:
    """An answer with its context. `group` is the part of the source that it is from; label 1: unsupported."""

    set: str
    source: str
    group: str
    context: str
    answer: str
    label: int
    facts: dict[str, Any]


def shared() -> Path:
    """The folder of public data: `EVALKIT_SHARED`, else `../shared`."""
    return Path(os.environ.get("EVALKIT_SHARED") or ROOT.parent / "shared")


def rows(name: str) -> list[Row]:
    """The rows of a set. Where there is no context (HaluEval) the question stands for one."""
    source = (SOURCE | MEASURED)[name]
    out = []
    with gzip.open(shared() / "data" / "groundedness" / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            r = json.loads(line)
            part = r.get("domain") or r.get("dataset") or r.get("task") or ""
            context = r.get("context") or r.get("question") or ""
            out.append(Row(name, source, f"{source}/{part}", context, r["response"], int(r["label"]), r))
    return out


def training_rows() -> list[Row]:
    """The rows to train on: none whose context or whose answer is, but for spelling, one that is measured."""
    measured = [row for name in MEASURED for row in rows(name)]
    contexts = {_plain(row.context) for row in measured}
    answers = {_plain(row.answer) for row in measured}
    every = [row for name in SOURCE for row in rows(name)]
    return [row for row in every if _plain(row.context) not in contexts and _plain(row.answer) not in answers]


def _plain(text: str) -> str:
    return "".join(c for c in text.lower() if c.isalnum())


def vocabulary(train: Iterable[Row]) -> Vocabulary:
    """How rare the words of the training contexts are: ln(documents / documents with the word), in steps."""
    seen: Counter[str] = Counter()
    documents = 0
    for context in dict.fromkeys(row.context for row in train):
        for start in range(0, len(context), PAGE):
            documents += 1
            seen.update({t.stem for t in tokens(context, start, start + PAGE) if t.number is None})
    rare = _step(math.log(documents / 2))
    weights = {word: _step(math.log(documents / count)) for word, count in seen.items() if count >= LEAST}
    return Vocabulary({word: weight for word, weight in weights.items() if weight < rare}, rare)


def _step(value: float) -> float:
    return max(STEP, round(value / STEP) * STEP)


def table(rows_: Sequence[Row], words: Vocabulary) -> Floats:
    """The model's columns for every row; zeros where an answer claims nothing."""
    out = np.zeros((len(rows_), len(COLUMNS)))
    for at, row in enumerate(rows_):
        found = [read(row.answer, *span, _indexed(row.context), words) for span in parts(row.answer)]
        if claims := [sentence for sentence in found if sentence.claims]:
            out[at] = columns(claims)
    return out


@cache
def _indexed(context: str) -> Context:
    return Context([context])


# --- edited answers ----------------------------------------------------------------------------------------

_VERBS = re.compile(r"is|are|was|were|has|have|had|will|would|can|could|did|do|does|should|may|might|must")
_OPPOSITE: dict[str, list[str]] = {}
for _one, _other in ANTONYMS:
    _OPPOSITE.setdefault(_one, []).append(_other)
    _OPPOSITE.setdefault(_other, []).append(_one)


def edited(row: Row) -> dict[str, str]:
    """The answer after one small edit of each kind that it has a place for; the same ones every time."""
    rng = random.Random(row.answer)  # noqa: S311 (not for secrets)
    found = tokens(row.answer)
    out: dict[str, str] = {}
    if numbers := [token for token in found if token.word[0].isdigit()]:
        token = rng.choice(numbers)
        out["number"] = _put(row.answer, token, f"{int(min(token.number or 0, 1e6)) + rng.randint(1, 60)}")
    if words := [token for token in found if token.word in _OPPOSITE]:
        token = rng.choice(words)
        out["opposite"] = _put(row.answer, token, rng.choice(_OPPOSITE[token.word]))
    if nots := [token for token in found if token.word == "not" and token.start]:
        token = rng.choice(nots)
        out["negation"] = row.answer[: token.start - 1] + row.answer[token.end :]
    elif verbs := [token for token in found if _VERBS.fullmatch(token.word)]:
        token = rng.choice(verbs)
        out["negation"] = _put(row.answer, token, f"{row.answer[token.start : token.end]} not")
    return out


def _put(text: str, token: Token, instead: str) -> str:
    return text[: token.start] + instead + text[token.end :]


@dataclass(frozen=True, slots=True)
class Pairs:
    """What edits change: columns of the edited answer less those of the answer, and what each pair weighs."""

    change: Floats
    heavy: Floats


def pairs(x: Floats, rows_: Sequence[Row], words: Vocabulary) -> Pairs:
    """The supported answers' edits; sources by the root of their size, kinds alike. `x`: the rows' table."""
    made = [
        (at, replace(row, answer=text), kind)
        for at, row in enumerate(rows_)
        if not row.label
        for kind, text in edited(row).items()
    ]
    after = table([row for _, row, _ in made], words)
    many = Counter((row.source, kind) for _, row, kind in made)
    heavy = np.array([1 / math.sqrt(many[row.source, kind]) for _, row, kind in made])
    return Pairs(after - x[[at for at, _, _ in made]], heavy / heavy.sum())


# --- the fit -----------------------------------------------------------------------------------------------


def trained(rows_: Sequence[Row]) -> Model:
    """A model that has seen these rows only, its words included."""
    words = vocabulary(rows_)
    x = table(rows_, words)
    weights = fit(x, rows_, pairs(x, rows_, words))
    slope, at = divide(x @ weights, rows_)
    if slope < 0:
        slope, at = 0.0, offset(x @ weights, rows_)
    weights[COLUMNS.index("length")] = slope
    return Model(weights, at, words)


def fit(x: Floats, rows_: Sequence[Row], small: Pairs) -> Floats:
    """The weights, all at least 0; that of the length is left at 0."""
    n = len(FEATURES)
    y = np.array([float(row.label) for row in rows_])
    groups, which = np.unique([row.group for row in rows_], return_inverse=True)
    heavy = _weights(rows_) * (1 - SHARE)
    m = len(groups)
    spread = x[:, :n].std(axis=0) + 1e-9
    z = (x[:, :n] - x[:, :n].mean(axis=0)) / spread
    change = small.change[:, :n] / spread
    pair_heavy = small.heavy * SHARE
    penalty = np.array([PRECISE if name.partition(":")[0] in EDITS else STRENGTH for name in FEATURES])

    def loss(point: Floats) -> tuple[float, Floats]:
        odds, worse = z @ point[:n] + point[n:][which], change @ point[:n]
        value = heavy @ (np.logaddexp(0, odds) - y * odds) + pair_heavy @ np.logaddexp(0, -worse)
        slope = heavy * (1 / (1 + np.exp(-odds)) - y)
        steep = z.T @ slope - change.T @ (pair_heavy / (1 + np.exp(worse))) + penalty * point[:n]
        value += penalty @ point[:n] ** 2 / 2
        return float(value), np.concatenate([steep, np.bincount(which, slope, m)])

    bounds = [(0.0, None)] * n + [(None, None)] * m
    found = optimize.minimize(
        loss, np.zeros(n + m), jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 1000}
    )
    weights = np.zeros(len(COLUMNS))
    weights[:n] = np.where(found.x[:n] > 1e-6, found.x[:n] / spread, 0.0)
    return weights


def _weights(rows_: Sequence[Row]) -> Floats:
    counts = Counter((row.source, row.label) for row in rows_)
    heavy: Floats = np.array([1 / math.sqrt(counts[row.source, row.label]) for row in rows_])
    share: Floats = heavy / heavy.sum()
    return share


def offset(risk: Floats, rows_: Sequence[Row]) -> float:
    """The mean over the groups of the point halfway between the medians of their two classes."""
    return float(np.mean(list(_halves(risk, rows_).values())))


def divide(risk: Floats, rows_: Sequence[Row]) -> tuple[float, float]:
    """The line `slope · ln(characters) + at` through the groups' halfway points."""
    halves = _halves(risk, rows_)
    long = [np.mean([length(len(row.answer)) for row in rows_ if row.group == group]) for group in halves]
    off_long, off_half = (np.array(side) - np.mean(side) for side in (long, list(halves.values())))
    slope = float(off_long @ off_half / (off_long @ off_long))
    return slope, offset(risk, rows_) - slope * float(np.mean(long))


def _halves(risk: Floats, rows_: Sequence[Row]) -> Mapping[str, float]:
    out = {}
    group = np.array([row.group for row in rows_])
    label = np.array([row.label for row in rows_])
    for name in np.unique(group):
        sides = [risk[(group == name) & (label == side)] for side in (0, 1)]
        if all(len(side) for side in sides):
            out[str(name)] = (float(np.median(sides[0])) + float(np.median(sides[1]))) / 2
    return out


def main() -> None:
    """Fit on all training rows and write the weights."""
    train = training_rows()
    text = trained(train).dumps()
    FILE.write_text(text, encoding="utf-8")
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    sys.stdout.write(f"{len(train):,} rows; {FILE.name}: {len(text):,} bytes, sha256 {digest}\n")


if __name__ == "__main__":
    main()
