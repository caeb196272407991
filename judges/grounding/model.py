"""The small model of the support score: a weighted sum of features, each of which can only speak against.

Every weight is at least 0, and every feature is turned so that more of it means less support. So the model
cannot learn that a covered word is a bad sign because one training set happened to look like that: among
several kinds of models this one held up best on sources that it had not seen. Its card is
`weights/groundedness.md`, and `training/groundedness.py` makes it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np

from judges.grounding.features import NAMES, Floats, Sentence, Vocabulary

SHORTEST, LONGEST = 20, 2_000  # characters: the answers it was trained on lie between

FILE = Path(__file__).with_name("weights") / "groundedness.json"

_SAFE = frozenset(
    {
        *("covered", "covered_pairs", "covered_triples", "best_place", "two_places", "neighbourhood"),
        *("order", "copied_run", "stop_pairs"),
    }
)
_SIZES = frozenset({"numbers", "names", "near_miss", "tokens", "content", "margin"})

_USED = np.array([name not in _SIZES for name in NAMES])
_SIGN = np.array([-1.0 if name in _SAFE else 1.0 for name in NAMES])[_USED]

FEATURES = tuple(f"{name}:{how}" for how in ("mean", "worst") for name in NAMES if name not in _SIZES)
"""Each feature's mean over the sentences by their length, and its worst value."""

COLUMNS = (*FEATURES, "length")
"""What the model weighs. `length` is that of the sentences: a long answer has more places to look bad."""


def columns(found: Sequence[Sentence]) -> Floats:
    """The model's view of one or several sentences, in the order of `COLUMNS`; sentences have claims."""
    matrix = np.stack([sentence.features for sentence in found])[:, _USED] * _SIGN
    size = np.array([float(sentence.end - sentence.start) for sentence in found])
    return np.concatenate([size @ matrix / size.sum(), matrix.max(axis=0), [-length(size.sum())]])


def length(characters: float) -> float:
    """The natural logarithm of a number of characters, of those that the training answers had."""
    return math.log(min(max(characters, SHORTEST), LONGEST))


@dataclass(frozen=True, slots=True)
class Model:
    """`support = 1 / (1 + e^(weights · columns − offset))`: 0.5 is where the training sources divide best."""

    weights: Floats = field(repr=False)
    offset: float
    vocabulary: Vocabulary = field(repr=False)

    @classmethod
    def load(cls) -> Model:
        """The model in the package, read once."""
        return _loaded()

    @classmethod
    def parse(cls, text: str) -> Model:
        """A model as `dumps` wrote it. Raises ValueError for one of other columns than this version's."""
        told = json.loads(text)
        if set(told["weights"]) - set(COLUMNS):
            raise ValueError("the weights are those of another version of the features")
        words = {word: float(weight) for weight, line in told["words"].items() for word in line.split()}
        weights = np.array([float(told["weights"].get(column, 0.0)) for column in COLUMNS])
        return cls(weights, float(told["offset"]), Vocabulary(words, float(told["rare"])))

    def dumps(self) -> str:
        """As JSON, with the words by what they weigh: the same text for the same model."""
        lines: dict[str, list[str]] = {}
        for word, weight in sorted(self.vocabulary.weights.items(), key=lambda item: (item[1], item[0])):
            lines.setdefault(f"{weight:g}", []).append(word)
        told = {
            "offset": round(self.offset, 4),
            "weights": {c: round(float(w), 4) for c, w in zip(COLUMNS, self.weights, strict=True) if w > 0},
            "rare": self.vocabulary.rare,
            "words": {weight: " ".join(words) for weight, words in lines.items()},
        }
        return json.dumps(told, indent=1, ensure_ascii=False) + "\n"

    def risk(self, found: Sequence[Sentence]) -> float:
        """The weighted sum for these sentences taken together: what speaks against them."""
        return float(columns(found) @ self.weights)

    def support(self, found: Sequence[Sentence]) -> float:
        """From 0 to 1; 1 for what claims nothing."""
        claims = [sentence for sentence in found if sentence.claims]
        if not claims:
            return 1.0
        return 1 / (1 + math.exp(min(700.0, self.risk(claims) - self.offset)))


@cache
def _loaded() -> Model:
    return Model.parse(FILE.read_text(encoding="utf-8"))
