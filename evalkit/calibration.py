"""How far can a judge be trusted? Its verdicts against people's labels, and what that does to a pass rate.

What comes out is kept by `evalkit.known_judges`, where reports find the judges that they have to warn of.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from evalkit.corrected import Corrected, Errors, ppi, rogan_gladen
from evalkit.labels import Label, Verdict, adjudication, answer_id, majority, matrix
from evalkit.stats import Measured
from evalkit.stats_cluster import share
from guardrails.errors import ConfigError
from judges.agreement import Agreement, accuracy, alpha, confusion, kappa, position_bias, rank_correlation

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from evalkit.trial import Trial

    Floats: TypeAlias = npt.NDArray[np.float64]

MIN_AGREEMENT = 0.6
"""Cohen's kappa below which a judge is flagged; Landis and Koch (1977) call 0.61 and more substantial."""


@dataclass(frozen=True, slots=True)
class Case:
    """An answer that a judge judged, with what people say of it; None where nobody does."""

    judged: float
    truth: float | None = None
    item: str = ""
    arm: str = ""
    length: int | None = None
    first: bool | None = None


@dataclass(frozen=True, slots=True)
class Material:
    """What there is to compare. `unread` answers, by arm, have no verdict: the judge failed on them.

    Of the labelled answers so many were `unjudged` (the judge failed), `unmatched` (no answer of the run is
    called that) or `ambiguous` (several different answers are). `cost_usd` is what `priced` verdicts cost.
    """

    cases: Sequence[Case]
    verdicts: Sequence[Verdict]
    unread: Mapping[str, int] = field(default_factory=dict)
    unjudged: int = 0
    unmatched: int = 0
    ambiguous: int = 0
    cost_usd: float = 0.0
    priced: int = 0


@dataclass(frozen=True, slots=True)
class Rates:
    """One arm's pass rate: as the judge says, and corrected where labels allow it. Of judged answers.

    The judge failed on `unread` answers besides: `bounds` of a rate are what it would be with these, if all
    of them had failed and if all had passed.
    """

    arm: str
    judged: Measured
    ppi: Corrected | None
    rogan_gladen: Corrected | None
    unread: int = 0
    answers: int = 0

    def bounds(self, rate: float) -> tuple[float, float]:
        """The rate of all answers, at worst and at best."""
        lost = self.unread / max(1, self.answers)
        return rate * (1 - lost), rate * (1 - lost) + lost


@dataclass(frozen=True, slots=True)
class Calibration:
    """A judge against people, on `labelled` answers. `values` name the rows and columns of `confusion`.

    `length_bias` is Spearman's correlation of judge − people with the answer's length; `position_bias` the
    share of verdicts for what was shown first, less one half. `people` is alpha among the raters themselves:
    a judge can hardly agree more with people than they do with each other. `disputed` answers are tied among
    people and took no part; `adjudicate` names all that somebody has to decide, the most disputed first.
    The other counts are `Material`'s.
    """

    judge: str
    labelled: int
    values: tuple[float, ...]
    confusion: tuple[tuple[int, ...], ...]
    accuracy: Agreement | None
    kappa: Agreement | None
    weighted_kappa: Agreement | None
    alpha: Agreement | None
    people: Agreement | None
    length_bias: Agreement | None
    position_bias: Agreement | None
    errors: Errors | None
    rates: tuple[Rates, ...] = ()
    unjudged: int = 0
    unmatched: int = 0
    ambiguous: int = 0
    disputed: int = 0
    adjudicate: tuple[str, ...] = ()
    cost_usd: float = 0.0
    priced: int = 0
    minimum: float = MIN_AGREEMENT
    digest: str = ""
    notes: tuple[str, ...] = field(default=())

    @property
    def agreement(self) -> Agreement | None:
        """What is held against `minimum`: kappa, quadratically weighted if there are more than two values."""
        return self.kappa if len(self.values) <= 2 else self.weighted_kappa

    @property
    def flagged(self) -> bool:
        """Whether reports have to warn: the agreement is below the minimum, or nobody knows it."""
        found = self.agreement
        return found is None or not found.value >= self.minimum

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values: NaN and infinity are None."""
        plain = asdict(self) | {"flagged": self.flagged}
        found: dict[str, Any] = _finite(plain)
        return found


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


# --- from labels to cases ----------------------------------------------------------------------------------


def of_labels(labels: Iterable[Label]) -> Material:
    """From labels that hold the judge's verdict themselves, in `judged`."""
    verdicts = majority(labels)
    cases = []
    for each in verdicts:
        label = next((label for label in each.labels if label.judged is not None), None)
        if label is not None and label.judged is not None:
            item = label.sample or label.answer
            cases.append(Case(label.judged, each.value, item, label.endpoint, label.length, label.first))
    return Material(cases, verdicts, unmatched=len(verdicts) - len(cases))


def of_run(rows: Iterable[Trial], scorer: str, labels: Sequence[Label]) -> Material:
    """From the rows that `scorer` judged, with the labels of their answers.

    Whatever a label calls an answer, all labels of it count together. A label that fits several different
    answers (a sample without `endpoint` where two gave one) is nobody's.
    """
    wanted = {label.names for label in labels}
    called: dict[tuple[str, ...], set[str]] = {}
    judged: list[tuple[str, Trial]] = []
    unread: dict[str, int] = {}
    costs = []
    for row in rows:
        if row.answer is None or (score := row.scores.get(scorer)) is None:
            continue
        answer = answer_id(row)
        for names in wanted.intersection(_names(row)):
            called.setdefault(names, set()).add(answer)
        costs.append(score.cost_usd)
        if score.value is None:
            unread[_arm(row)] = unread.get(_arm(row), 0) + 1
        else:
            judged.append((answer, row))
    fits = [(label, called.get(label.names, set())) for label in labels]
    verdicts = majority(replace(label, answer=next(iter(of))) for label, of in fits if len(of) == 1)
    by_answer = {each.names[0]: each for each in verdicts}
    yes_or_no = all(each.value in (0, 1, None) for each in verdicts)
    there = {answer for answer, _ in judged}
    known = [cost for cost in costs if cost is not None]
    return Material(
        [_case(row, scorer, by_answer.get(answer), yes_or_no) for answer, row in judged],
        [each for each in verdicts if each.names[0] in there],
        unread,
        unjudged=sum(each.names[0] not in there for each in verdicts),
        unmatched=len({label.names for label, of in fits if not of}),
        ambiguous=len({label.names for label, of in fits if len(of) > 1}),
        cost_usd=math.fsum(known),
        priced=len(known),
    )


def _case(row: Trial, scorer: str, found: Verdict | None, yes_or_no: bool) -> Case:
    score = row.scores[scorer]
    assert score.value is not None
    assert row.answer is not None
    value = float(score.passed) if yes_or_no and score.passed is not None else score.value
    truth = None if found is None else found.value
    return Case(value, truth, f"{row.set}/{row.sample}", _arm(row), len(row.answer.text))


def _arm(row: Trial) -> str:
    return " ".join(part for part in (row.set, row.arm) if part)


def _names(row: Trial) -> Iterator[tuple[str, ...]]:
    """Everything that a label may call a row."""
    yield (answer_id(row),)
    for k in (str(row.k), ""):
        for endpoint in dict.fromkeys((row.arm, row.endpoint, "")):
            for of in dict.fromkeys((row.set, "")):
                yield (of, row.sample, endpoint, k)


# --- comparing ---------------------------------------------------------------------------------------------


def calibrate(
    judge: str,
    material: Material,
    rng: np.random.Generator,
    *,
    minimum: float = MIN_AGREEMENT,
    digest: str = "",
) -> Calibration:
    """Compare a judge with people. Raises `ConfigError` when no judged answer has a label."""
    import numpy as np

    cases, verdicts = material.cases, material.verdicts
    labelled = [each for each in cases if each.truth is not None]
    if not labelled:
        raise _nothing_to_compare(judge, material)
    # Rounded: a third is one value, whichever way somebody came to it.
    truth = np.array([round(each.truth or 0.0, 9) for each in labelled], dtype=np.float64)
    judged = np.array([round(each.judged, 9) for each in labelled], dtype=np.float64)
    items = _items(labelled)
    notes = []
    if not set(np.unique(judged)) <= {0.0, 1.0} and set(np.unique(truth)) <= {0.0, 1.0}:
        notes.append("The judge gives values and people yes or no: it is taken for a yes from 0.5 on.")
        judged = (judged >= 0.5).astype(np.float64)
    values = np.unique(np.concatenate([truth, judged]))
    if len(values) == 1:
        values = np.array([0.0, 1.0])
    if len(labelled) == len(cases):
        notes.append("Every judged answer is labelled: there is no rate to correct, people's own is known.")
    if len(set(truth.tolist())) == 1:
        notes.append("People gave one label to all: how the judge treats other answers is unknown.")
    if len(values) > 20:
        notes.append("More than 20 values: kappa and the confusion are of values rounded to tenths.")
        truth, judged = np.round(truth, 1), np.round(judged, 1)
        values = np.unique(np.concatenate([truth, judged]))
    k, binary = len(values), set(values.tolist()) <= {0.0, 1.0}
    t, j = np.searchsorted(values, truth), np.searchsorted(values, judged)
    ratings = np.stack([truth, judged], axis=1)
    return Calibration(
        judge=judge,
        labelled=len(labelled),
        values=tuple(float(value) for value in values),
        confusion=tuple(tuple(int(n) for n in row) for row in confusion(t, j, k)),
        accuracy=accuracy(t, j, rng=rng, items=items),
        kappa=kappa(t, j, k, rng=rng, items=items),
        weighted_kappa=kappa(t, j, k, "quadratic", rng=rng, items=items),
        alpha=alpha(ratings, "nominal" if binary else "interval", rng=rng, items=items),
        people=_people(verdicts, rng, "nominal" if binary else "interval"),
        length_bias=_length_bias(labelled, judged - truth),
        position_bias=_position_bias(labelled, rng),
        errors=Errors.of(truth, judged) if binary else None,
        rates=tuple(_rates(material, binary, rng)),
        unjudged=material.unjudged,
        unmatched=material.unmatched,
        ambiguous=material.ambiguous,
        disputed=sum(each.value is None for each in verdicts),
        adjudicate=tuple(_called(each) for each in adjudication(verdicts)),
        cost_usd=material.cost_usd,
        priced=material.priced,
        minimum=minimum,
        digest=digest,
        notes=tuple(notes),
    )


def _nothing_to_compare(judge: str, material: Material) -> ConfigError:
    said = f"no label is of an answer that {judge or 'the judge'} judged"
    if material.ambiguous:
        return ConfigError(
            f"{said}: {material.ambiguous:,} fit several different answers",
            hint="name the `endpoint` and `k` in the labels, or the `answer` as `evalkit label` does",
        )
    if material.verdicts and not any(each.value is not None for each in material.verdicts):
        return ConfigError(f"{said}: people are tied on all", hint="`evalkit label RUN --disputed`")
    return ConfigError(said, hint="label answers of this run: `evalkit label RUN`")


def _called(of: Verdict) -> str:
    label = of.labels[0]
    return "/".join(part for part in (label.set, label.sample) if part) or label.answer


def _items(cases: Sequence[Case]) -> Any:
    """Numbers of what belongs together; None where every case stands alone."""
    import numpy as np

    number: dict[str, int] = {}
    of = [number.setdefault(each.item, len(number)) for each in cases]
    return None if len(number) == len(cases) else np.array(of)


def _people(verdicts: Sequence[Verdict], rng: np.random.Generator, metric: Any) -> Agreement | None:
    ratings, raters = matrix(verdicts)
    return alpha(ratings, metric, rng=rng) if len(raters) > 1 else None


def _length_bias(cases: Sequence[Case], gap: Floats) -> Agreement | None:
    import numpy as np

    known = np.array([each.length is not None for each in cases])
    lengths = np.array([each.length or 0 for each in cases], dtype=np.float64)
    return rank_correlation(gap[known], lengths[known])


def _position_bias(cases: Sequence[Case], rng: np.random.Generator) -> Agreement | None:
    import numpy as np

    first = np.array([each.first for each in cases if each.first is not None], dtype=np.int64)
    return position_bias(first, rng=rng) if len(first) else None


def _rates(material: Material, binary: bool, rng: np.random.Generator) -> Iterator[Rates]:
    """Of each arm: the judge's rate, and the corrected ones. Error rates are taken from all arms' labels."""
    import numpy as np

    cases = material.cases
    if all(each.truth is not None for each in cases) or not binary:
        return
    marked = [each for each in cases if each.truth is not None]
    errors = Errors.of(
        np.array([c.truth for c in marked]), np.array([float(c.judged >= 0.5) for c in marked])
    )
    for arm in dict.fromkeys(each.arm for each in cases):
        of = [each for each in cases if each.arm == arm]
        with_, without = ([c for c in of if (c.truth is None) == blank] for blank in (False, True))
        judged, rest = (np.array([float(c.judged >= 0.5) for c in some]) for some in (with_, without))
        whole = _share(of)
        if whole is None:
            continue
        truth = np.array([c.truth for c in with_], dtype=np.float64)
        powered = ppi(truth, judged, rest, rng=rng, items=_both(with_, without))
        others = _share(without)
        by_rates = None
        if others is not None:
            n = others.effective or others.n
            by_rates = rogan_gladen(errors, others.value * n, n, rng=rng)
        unread = material.unread.get(arm, 0)
        yield Rates(arm, whole, powered, by_rates, unread, len(of) + unread)


def _share(cases: Sequence[Case]) -> Measured | None:
    """The judge's pass rate of these answers, clustered by item."""
    import numpy as np

    if not cases:
        return None
    number: dict[str, int] = {}
    of = np.array([number.setdefault(each.item, len(number)) for each in cases])
    values = np.array([float(each.judged >= 0.5) for each in cases])
    means = np.bincount(of, values) / np.bincount(of)
    return share(means, np.ones(len(means)), len(cases))


def _both(some: Sequence[Case], others: Sequence[Case]) -> tuple[Any, Any] | None:
    items = _items([*some, *others])
    return None if items is None else (items[: len(some)], items[len(some) :])
