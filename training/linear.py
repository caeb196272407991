"""What the training scripts of the embedded linear models share: data, splits, the fit, the measures.

    EVALKIT_SHARED=../shared python training/toxicity.py

Features come from `guardrails.filters.linear`, the code that judges: there is no second implementation that
could drift. The fit is deterministic: no sampling, one thread, a fixed order of the rows. Needs scipy (the
dependency group `train`).
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # sums in one order

import numpy as np
import numpy.typing as npt
from scipy import optimize, sparse, stats

from guardrails.filters.linear import BITS, LONGEST, WORTH, Features, LinearModel

Floats = npt.NDArray[np.float64]

ROOT = Path(__file__).parents[1]
WEIGHTS = ROOT / "guardrails" / "filters" / "weights"


# --- data --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Row:
    """One labelled text of a set. Rows of one `group` (a pair, say) go to the same side of a split."""

    source: str
    text: str
    label: int
    group: str
    facts: dict[str, Any]


def shared() -> Path:
    """The folder of public data: `EVALKIT_SHARED`, else `../shared`."""
    return Path(os.environ.get("EVALKIT_SHARED") or ROOT.parent / "shared")


def rows(path: str, group: str = "") -> list[Row]:
    """The rows of `data/<path>.jsonl.gz`; `group` names the column that keeps rows together."""
    source = path.rsplit("/", 1)[-1]
    return [
        Row(source, r["text"], int(r["label"]), str(r[group]) if group else " ".join(words(r["text"])), r)
        for r in facts(path)
    ]


def facts(path: str) -> list[dict[str, Any]]:
    """The lines of `data/<path>.jsonl.gz` as they are."""
    with gzip.open(shared() / "data" / f"{path}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def words(text: str) -> list[str]:
    """Lower-case words: what two copies of a text have in common."""
    return "".join(c if c.isalnum() else " " for c in text.lower()).split()


def held_out(row: Row, parts: int = 5) -> bool:
    """Whether the row is in its set's dev part: sha256 of "source/group" modulo `parts` is 0."""
    digest = hashlib.sha256(f"{row.source}/{row.group}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") % parts == 0


def without_copies(train: Iterable[Row], dev: Iterable[Row], size: int = 5) -> list[Row]:
    """The training rows that are no copies of each other and share little with dev.

    Copy: the same words. Near copy of dev text: at least half of its runs of `size` words (all of it, when
    shorter) occur in dev texts.
    """
    known: set[int] = set()
    for row in dev:
        known.update(_shingles(row.text, size))
    seen: set[str] = set()
    kept = []
    for row in train:
        key = " ".join(words(row.text))
        runs = _shingles(row.text, size)
        if key and key not in seen and 2 * sum(run in known for run in runs) < len(runs):
            kept.append(row)
        seen.add(key)
    return kept


def _shingles(text: str, size: int) -> set[int]:
    parts = words(text)
    runs = (" ".join(parts[i : i + size]).encode() for i in range(max(1, len(parts) - size + 1)))
    return {int.from_bytes(hashlib.blake2b(run, digest_size=8).digest(), "big") for run in runs}


# --- the fit -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Examples:
    """One matrix row per window: n-gram counts · worth / √(their number). `text[i]`: the text it is from."""

    matrix: sparse.csr_matrix
    text: npt.NDArray[np.intp]

    def __getitem__(self, rows_: Any) -> Examples:
        """Some of the windows."""
        return Examples(self.matrix[rows_], self.text[rows_])

    def z(self, point: Floats) -> Floats:
        """The log odds of each window by `fit`'s result."""
        odds: Floats = self.matrix @ point[:-1].astype(np.float32) + point[-1]
        return odds

    def of_texts(self, values: Floats) -> Floats:
        """The highest value of each text's windows; -inf for a text without any."""
        out = np.full(self.text.max() + 1, -np.inf)
        np.maximum.at(out, self.text, values)
        return out


def examples(texts: Sequence[str], strides: int = LONGEST, step: int = 1) -> Examples:
    """The windows of the texts, or one in `step`. A text without a visible character has none."""
    columns, values, sizes, owners = [], [], [], []
    worth = np.array(WORTH, np.float32)
    for number, text in enumerate(texts):
        for block in Features.of(text):
            lows, highs, *_ = block.windows(strides)
            for low, high in zip(lows.T[::step], highs.T[::step], strict=True):
                column = np.concatenate([block.buckets[a:b] for a, b in zip(low, high, strict=True)])
                columns.append(column.astype(np.int32))
                values.append(np.repeat(worth, high - low) / np.float32(np.sqrt(column.size)))
                sizes.append(column.size)
                owners.append(number)
    matrix = sparse.csr_matrix(
        (np.concatenate(values), np.concatenate(columns), np.cumsum([0, *sizes])),
        shape=(len(sizes), 1 << BITS),
    )
    matrix.sum_duplicates()
    return Examples(matrix, np.array(owners))


def fit(
    matrix: sparse.csr_matrix,
    labels: npt.ArrayLike,
    weights: npt.ArrayLike,
    *,
    strength: float,
    rounds: int = 200,
    start: Floats | None = None,
) -> Floats:
    """Logistic regression by L-BFGS: 2^18 coefficients, then the intercept.

    Minimises Σ wᵢ·loss / Σ wᵢ + |coefficients|² / (2 · strength · n): `strength` is scikit-learn's C.
    """
    sign = np.where(np.asarray(labels) > 0, 1.0, -1.0)
    share = np.asarray(weights, np.float64) / np.sum(weights)
    back = matrix.T
    pull = 1 / (strength * matrix.shape[0])

    def loss(point: Floats) -> tuple[float, Floats]:
        margin = sign * (matrix @ point[:-1].astype(np.float32) + point[-1])
        value = float(share @ np.logaddexp(0, -margin)) + pull / 2 * float(point[:-1] @ point[:-1])
        slope = -sign * share / (1 + np.exp(np.clip(margin, -60, 60)))
        # The mean over many rows is small: scaled, it stays in float32's range of equal relative error.
        pushed = (back @ (slope * matrix.shape[0]).astype(np.float32)).astype(np.float64) / matrix.shape[0]
        return value, np.append(pushed + pull * point[:-1], slope.sum())

    at = np.zeros((1 << BITS) + 1) if start is None else start
    found = optimize.minimize(
        loss,
        at,
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": rounds, "maxcor": 10, "ftol": 1e-9, "gtol": 1e-7},
    )
    point: Floats = found.x
    return point


def quantized(
    name: str, point: Floats, calibration: tuple[float, float] = (1.0, 0.0), strides: int = LONGEST
) -> LinearModel:
    """The model with int8 weights. `calibration` (a, b) makes log odds a · z + b of the fit's z.

    Its threshold is 1: choose one on its scores.
    """
    coefficients = point[:-1]
    top = float(np.abs(coefficients).max())  # the largest carry the most: cutting them off costs AUC
    slope, shift = calibration
    return LinearModel(
        name,
        np.round(coefficients / top * 127).astype(np.int8),
        scale=float(f"{slope * top / 127:.9g}"),
        bias=float(f"{slope * point[-1] + shift:.9g}"),
        threshold=1.0,
        strides=strides,
    )


def calibrate(z: Floats, labels: npt.ArrayLike) -> tuple[float, float]:
    """Platt's slope and shift: logistic regression of the labels on z."""
    sign = np.where(np.asarray(labels) > 0, 1.0, -1.0)

    def loss(point: Floats) -> float:
        return float(np.logaddexp(0, -sign * (point[0] * z + point[1])).mean())

    found = optimize.minimize(loss, np.array([1.0, 0.0]), method="BFGS")
    return float(found.x[0]), float(found.x[1])


def save(model: LinearModel) -> str:
    """Write the weights; returns the file's sha256, which the card names."""
    data = model.encode()
    WEIGHTS.mkdir(exist_ok=True)
    (WEIGHTS / f"{model.name}.linear").write_bytes(data)
    return hashlib.sha256(data).hexdigest()


# --- measures ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its 95 % interval and the number of texts behind it."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def auc(scores: npt.ArrayLike, labels: npt.ArrayLike) -> Estimate:
    """Area under the ROC curve with DeLong's interval (DeLong et al. 1988; ranks as in Sun & Xu 2014)."""
    values, positive = np.asarray(scores, np.float64), np.asarray(labels) > 0
    m, n = int(positive.sum()), int((~positive).sum())
    ranks = stats.rankdata(values)
    above = (ranks[positive] - stats.rankdata(values[positive])) / n  # per positive: share of negatives below
    below = 1 - (ranks[~positive] - stats.rankdata(values[~positive])) / m
    area = float(above.mean())
    error = float(np.sqrt(above.var(ddof=1) / m + below.var(ddof=1) / n))
    return Estimate(area, max(0.0, area - 1.96 * error), min(1.0, area + 1.96 * error), m + n)


def share(hits: npt.ArrayLike) -> Estimate:
    """A proportion with Wilson's interval."""
    flags = np.asarray(hits, np.bool_)
    n, p, z = flags.size, float(flags.mean()), 1.96
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return Estimate(p, max(0.0, middle - half), min(1.0, middle + half), n)


def threshold(benign: npt.ArrayLike, rate: float = 0.01) -> float:
    """The lowest score, to four places, that at most `rate` of the benign texts reach."""
    ordered = np.sort(np.asarray(benign, np.float64))[::-1]
    allowed = int(rate * ordered.size)
    return float(np.floor(ordered[allowed] * 1e4 + 1) / 1e4)


def recall_at(scores: npt.ArrayLike, labels: npt.ArrayLike, rate: float = 0.01) -> Estimate:
    """Recall at the threshold that `rate` of this set's own negatives reach."""
    values, positive = np.asarray(scores, np.float64), np.asarray(labels) > 0
    return share(values[positive] >= threshold(values[~positive], rate))


def scores(model: LinearModel, texts: Iterable[str]) -> Floats:
    """The model's score of each text."""
    return np.array([model.score(text) for text in texts])


# --- the card ----------------------------------------------------------------------------------------------


def table(head: Sequence[str], body: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def by(rows_: Iterable[Row], key: Callable[[Row], str]) -> Iterator[tuple[str, list[int]]]:
    """The positions of the rows by a key, in order of the key."""
    groups: dict[str, list[int]] = {}
    for position, row in enumerate(rows_):
        groups.setdefault(key(row), []).append(position)
    yield from sorted(groups.items())
