"""Train the support score's small model, and write its weights.

    EVALKIT_SHARED=../shared python training/groundedness.py

Reads the train-role files of `data/groundedness` (RAGTruth's, SummEdits, WiCE's dev, BEGIN's dev) and writes
`judges/grounding/weights/groundedness.json`. About a minute on one core; the same bytes every time with the
same versions of numpy and scipy.

The fit: logistic regression with all weights at least 0, an intercept for every group (a set's domain, task
or data set) that is thrown away, classes of equal weight within a source, sources by the root of their size.
So only what tells answers apart *within* a group counts. The offset is the mean over the groups of the point
halfway between the two classes' medians. `STRENGTH`, the kind of model and that rule for the offset were
chosen by leave-one-source-out figures (`leave_out`, about twenty variants): those are optimistic by as much.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # sums in one order

import numpy as np
import numpy.typing as npt
from scipy import optimize

from judges.grounding.features import Context, Vocabulary, read
from judges.grounding.model import COLUMNS, FILE, Model, columns
from judges.grounding.support import parts
from judges.grounding.words import tokens

Floats = npt.NDArray[np.float64]

ROOT = Path(__file__).parents[1]
STRENGTH = 0.1
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
    known: dict[str, Context] = {}
    out = np.zeros((len(rows_), len(COLUMNS)))
    for at, row in enumerate(rows_):
        if row.context not in known:
            known[row.context] = Context([row.context])
        found = [read(row.answer, *span, known[row.context], words) for span in parts(row.answer)]
        if claims := [sentence for sentence in found if sentence.claims]:
            out[at] = columns(claims)
    return out


# --- the fit -----------------------------------------------------------------------------------------------


def fit(x: Floats, rows_: Sequence[Row], strength: float = STRENGTH) -> tuple[Floats, float]:
    """The weights (all at least 0) and the offset."""
    y = np.array([float(row.label) for row in rows_])
    groups, which = np.unique([row.group for row in rows_], return_inverse=True)
    heavy = _weights(rows_)
    centre, spread = x.mean(axis=0), x.std(axis=0) + 1e-9
    z = (x - centre) / spread
    n, m = x.shape[1], len(groups)

    def loss(point: Floats) -> tuple[float, Floats]:
        odds = z @ point[:n] + point[n:][which]
        value = heavy @ (np.logaddexp(0, odds) - y * odds) + strength / 2 * (point[:n] @ point[:n])
        slope = heavy * (1 / (1 + np.exp(-odds)) - y)
        own = np.bincount(which, slope, m)
        return float(value), np.concatenate([z.T @ slope + strength * point[:n], own])

    bounds = [(0.0, None)] * n + [(None, None)] * m
    found = optimize.minimize(
        loss, np.zeros(n + m), jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 1000}
    )
    weights = np.where(found.x[:n] > 1e-6, found.x[:n] / spread, 0.0)
    return weights, offset(x @ weights, rows_)


def _weights(rows_: Sequence[Row]) -> Floats:
    counts = Counter((row.source, row.label) for row in rows_)
    heavy: Floats = np.array([1 / math.sqrt(counts[row.source, row.label]) for row in rows_])
    share: Floats = heavy / heavy.sum()
    return share


def offset(risk: Floats, rows_: Sequence[Row]) -> float:
    """The mean over the groups of the point halfway between the medians of their two classes."""
    halves = []
    group = np.array([row.group for row in rows_])
    label = np.array([row.label for row in rows_])
    for name in np.unique(group):
        sides = [risk[(group == name) & (label == side)] for side in (0, 1)]
        if all(len(side) for side in sides):
            halves.append((float(np.median(sides[0])) + float(np.median(sides[1]))) / 2)
    return float(np.mean(halves))


def leave_out(
    x: Floats, rows_: Sequence[Row], key: Callable[[Row], str]
) -> Iterator[tuple[str, Floats, float]]:
    """For each value of `key`: the weights and the offset of a model that saw no row of it."""
    for out in sorted({key(row) for row in rows_}):
        kept = [at for at, row in enumerate(rows_) if key(row) != out]
        yield out, *fit(x[kept], [rows_[at] for at in kept])


def main() -> None:
    """Fit on all training rows and write the weights."""
    train = training_rows()
    words = vocabulary(train)
    weights, at = fit(table(train, words), train)
    text = Model(weights, at, words).dumps()
    FILE.write_text(text, encoding="utf-8")
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    sys.stdout.write(f"{len(train):,} rows; {FILE.name}: {len(text):,} bytes, sha256 {digest}\n")


if __name__ == "__main__":
    main()
