"""What people say of answers: labels of several raters, what most of them say, and where they differ.

A label is a JSON object a line::

    {"rater": "ann", "answer": "1f0c…", "label": true, "weight": "gold"}
    {"rater": "bob", "set": "desk", "sample": "q7", "label": 4, "scale": [1, 5]}
    {"sample": "q9", "label": false, "judged": true, "length": 812, "first": true}

`label` is true, false or a number in [0, 1], or in `scale`. An answer is named by `answer`, as
`evalkit label` writes it, or by `sample` with `set`, `endpoint` and `k` as far as they are needed. `judged`,
`length` and `first` (the judge preferred what it was shown first) are for labels without a run.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guardrails.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from evalkit.trial import Trial

WEIGHTS = {"gold": 4.0, "silver": 2.0, "bronze": 1.0}
"""An expert's label outvotes a trained rater's and a passer-by's together."""

CLEAR = 2 / 3
"""The share of the weight that one value needs for the case to be closed."""

MAX_LINE = 1_000_000


@dataclass(frozen=True, slots=True)
class Label:
    """One rater's label of one answer, as a share: 1.0 is yes. Named as in the module's text."""

    label: float
    rater: str = ""
    weight: float = WEIGHTS["gold"]
    answer: str = ""
    set: str = ""
    sample: str = ""
    endpoint: str = ""
    k: int | None = None
    judged: float | None = None
    length: int | None = None
    first: bool | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """What it is a label of."""
        if self.answer:
            return (self.answer,)
        return (self.set, self.sample, self.endpoint, "" if self.k is None else str(self.k))


def answer_id(row: Trial) -> str:
    """What names a row's answer in a label: a hash of set, sample and text, and so blind to the model.

    Equal answers to one sample have one name, and a label stays good for a run that was judged again.
    """
    text = "" if row.answer is None else row.answer.text + "\0" + row.answer.refusal
    hashed = blake2b(digest_size=12)
    for part in (row.set, row.sample, text):
        coded = part.encode("utf-8", "surrogatepass")
        hashed.update(b"%d:" % len(coded) + coded)
    return hashed.hexdigest()


def named(label: Label, row: Trial) -> bool:
    """Whether a label is of a row's answer."""
    if label.answer:
        return label.answer == answer_id(row)
    return (
        label.sample == row.sample
        and label.set in ("", row.set)
        and label.endpoint in ("", row.endpoint, row.arm)
        and label.k in (None, row.k)
    )


# --- reading -----------------------------------------------------------------------------------------------


def read(path: Path) -> list[Label]:
    """The labels of a file. Raises `ConfigError` with the line of the first that cannot be read."""
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as lines:
            return [
                parsed(line, f"{path.name}:{number}")
                for number, line in enumerate(lines, start=1)
                if line.strip()
            ]
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}", hint="`evalkit label RUN`") from None


def parsed(line: str, place: str) -> Label:
    """A label from its line. `place` is for the complaint, which quotes nothing."""
    try:
        raw = json.loads(line) if len(line) <= MAX_LINE else None
    except (ValueError, RecursionError):
        raw = None
    if not isinstance(raw, dict):
        raise ConfigError(f"{place}: it is not a JSON object", hint='{"sample": "q1", "label": true}')
    try:
        return _label(raw)
    except ValueError as error:
        raise ConfigError(
            f"{place}: {error}", hint='{"sample": "q1", "rater": "ann", "label": true}'
        ) from None


def _label(raw: Mapping[str, Any]) -> Label:
    words = {name: raw.get(name, "") for name in ("rater", "answer", "set", "sample", "endpoint")}
    for name, word in words.items():
        if not isinstance(word, str):
            raise ValueError(f"`{name}` is not text")
    if not words["answer"] and not words["sample"]:
        raise ValueError("it names neither an `answer` nor a `sample`")
    scale = raw.get("scale", [0, 1])
    if not isinstance(scale, list) or len(scale) != 2:
        raise ValueError("`scale` is not its lowest and its highest value, such as [1, 5]")
    low, high = (_number(end, "scale") for end in scale)
    if not low < high:
        raise ValueError("`scale` does not rise")
    for name in ("k", "length"):
        count = raw.get(name)
        if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 0):
            raise ValueError(f"`{name}` is not a whole number")
    judged, first = raw.get("judged"), raw.get("first")
    if first is not None and not isinstance(first, bool):
        raise ValueError("`first` is neither true nor false")
    return Label(
        label=_share(raw.get("label"), "label", low, high),
        weight=_weight(raw.get("weight", "gold")),
        k=raw.get("k"),
        judged=None if judged is None else _share(judged, "judged", low, high),
        length=raw.get("length"),
        first=first,
        **words,
    )


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"`{name}` holds no number")
    return float(value)


def _share(value: Any, name: str, low: float, high: float) -> float:
    if isinstance(value, bool):
        return float(value)
    number = _number(value, name)
    if not low <= number <= high:
        raise ValueError(f"`{name}` is not within {low:g} and {high:g}; say another `scale`")
    return (number - low) / (high - low)


def _weight(value: Any) -> float:
    if isinstance(value, str):
        if value not in WEIGHTS:
            raise ValueError(f"`weight` is none of {', '.join(WEIGHTS)}, nor a number")
        return WEIGHTS[value]
    weight = _number(value, "weight")
    if weight <= 0:
        raise ValueError("`weight` is not positive")
    return weight


# --- agreeing ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Verdict:
    """What raters say of one answer: `value` is what most of the weight is for, None for a tie.

    `support` is its share of the weight. The last label of a rater counts.
    """

    names: tuple[str, ...]
    value: float | None
    support: float
    labels: tuple[Label, ...]

    @property
    def open(self) -> bool:
        """Whether somebody has to decide."""
        return self.value is None or self.support < CLEAR


def majority(labels: Iterable[Label]) -> list[Verdict]:
    """The weighted majority of each answer, in the order in which answers come up."""
    by_answer: dict[tuple[str, ...], dict[object, Label]] = {}
    for number, label in enumerate(labels):
        of = by_answer.setdefault(label.names, {})
        of[label.rater or number] = label  # labels without a rater's name are all different raters'
    return [_verdict(names, tuple(of.values())) for names, of in by_answer.items()]


def _verdict(names: tuple[str, ...], labels: tuple[Label, ...]) -> Verdict:
    weights: dict[float, float] = {}
    for label in labels:
        weights[label.label] = weights.get(label.label, 0.0) + label.weight
    most, total = max(weights.values()), math.fsum(weights.values())
    top = [value for value, weight in weights.items() if math.isclose(weight, most)]
    return Verdict(names, top[0] if len(top) == 1 else None, most / total, labels)


def adjudication(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """The answers that somebody has to decide, the most disputed first."""
    return sorted((each for each in verdicts if each.open), key=lambda each: each.support)


def matrix(verdicts: Sequence[Verdict]) -> tuple[npt.NDArray[np.float64], list[str]]:
    """Answers × raters with NaN for none, as `judges.agreement.alpha` takes it, and the raters' names."""
    import numpy as np

    raters = list(dict.fromkeys(label.rater for each in verdicts for label in each.labels if label.rater))
    place = {rater: number for number, rater in enumerate(raters)}
    found = np.full((len(verdicts), len(raters)), np.nan)
    for row, each in enumerate(verdicts):
        for label in each.labels:
            if label.rater:
                found[row, place[label.rater]] = label.label
    return found, raters
