"""How far can a judge be trusted? Its verdicts against people's labels, and what that does to a pass rate.

`calibrate` compares; `keep` writes what came out into `.evalkit/calibrations`; `flags` says which judges of a
report agree too little with people, for everything that prints their verdicts.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from evalkit.corrected import Corrected, Errors, ppi, rogan_gladen
from evalkit.labels import Label, Verdict, answer_id, majority, matrix
from evalkit.stats import Measured
from evalkit.stats_cluster import share
from guardrails.errors import ConfigError
from judges.agreement import Agreement, accuracy, alpha, confusion, kappa, position_bias, rank_correlation

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from evalkit.trial import Trial

    Floats: TypeAlias = npt.NDArray[np.float64]

FOLDER = "calibrations"
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
class Rates:
    """One arm's pass rate: as the judge says, and corrected where labels allow it. Of judged answers."""

    arm: str
    judged: Measured
    ppi: Corrected | None
    rogan_gladen: Corrected | None


@dataclass(frozen=True, slots=True)
class Calibration:
    """A judge against people, on `labelled` answers. `values` name the rows and columns of `confusion`.

    `length_bias` is Spearman's correlation of judge − people with the answer's length; `position_bias` the
    share of verdicts for what was shown first, less one half. `people` is alpha among the raters themselves:
    a judge can hardly agree more with people than they do with each other. `unmatched` labels fitted no
    judged answer; `disputed` ones wait for somebody who decides and took no part.
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
    unmatched: int = 0
    disputed: int = 0
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


def of_labels(labels: Iterable[Label]) -> tuple[list[Case], list[Verdict]]:
    """Cases from labels that hold the judge's verdict themselves, in `judged`."""
    verdicts = majority(labels)
    cases = []
    for each in verdicts:
        label = next((label for label in each.labels if label.judged is not None), None)
        if label is not None and label.judged is not None:
            item = label.sample or label.answer
            cases.append(Case(label.judged, each.value, item, label.endpoint, label.length, label.first))
    return cases, verdicts


def of_run(rows: Iterable[Trial], scorer: str, labels: Sequence[Label]) -> tuple[list[Case], list[Verdict]]:
    """Cases from the rows that `scorer` judged, with the labels of their answers."""
    verdicts = majority(labels)
    by_name = {each.names: each for each in verdicts}
    yes_or_no = all(each.value in (0, 1, None) for each in verdicts)
    cases, used = [], set()
    for row in rows:
        score = row.scores.get(scorer)
        if score is None or score.error is not None or score.value is None or row.answer is None:
            continue
        value = float(score.passed) if yes_or_no and score.passed is not None else score.value
        found = next((by_name[names] for names in _names(row) if names in by_name), None)
        if found is not None:
            used.add(found.names)
        truth = None if found is None else found.value
        item, arm = f"{row.set}/{row.sample}", " ".join(part for part in (row.set, row.arm) if part)
        cases.append(Case(value, truth, item, arm, len(row.answer.text)))
    return cases, [each for each in verdicts if each.names in used]


def _names(row: Trial) -> Iterator[tuple[str, ...]]:
    """Everything that a label may call a row, the most exact first."""
    yield (answer_id(row),)
    for k in (str(row.k), ""):
        for endpoint in dict.fromkeys((row.arm, row.endpoint, "")):
            for of in dict.fromkeys((row.set, "")):
                yield (of, row.sample, endpoint, k)


# --- comparing ---------------------------------------------------------------------------------------------


def calibrate(
    judge: str,
    cases: Sequence[Case],
    verdicts: Sequence[Verdict],
    rng: np.random.Generator,
    *,
    minimum: float = MIN_AGREEMENT,
    unmatched: int = 0,
    digest: str = "",
) -> Calibration:
    """Compare a judge with people. Raises `ConfigError` when no judged answer has a label."""
    import numpy as np

    labelled = [each for each in cases if each.truth is not None]
    if not labelled:
        raise ConfigError(
            f"no label is of an answer that {judge or 'the judge'} judged",
            hint="label answers of this run: `evalkit label RUN`",
        )
    truth = np.array([each.truth for each in labelled], dtype=np.float64)
    judged = np.array([each.judged for each in labelled], dtype=np.float64)
    items = _items(labelled)
    notes = []
    if not set(np.unique(judged)) <= {0.0, 1.0} and set(np.unique(truth)) <= {0.0, 1.0}:
        notes.append("The judge gives values and people yes or no: it is taken for a yes from 0.5 on.")
        judged = (judged >= 0.5).astype(np.float64)
    values = np.unique(np.concatenate([truth, judged]))
    if len(values) == 1:
        values = np.array([0.0, 1.0])
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
        rates=tuple(_rates(cases, binary, rng)),
        unmatched=unmatched,
        disputed=sum(each.value is None for each in verdicts),
        minimum=minimum,
        digest=digest,
        notes=tuple(notes),
    )


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


def _rates(cases: Sequence[Case], binary: bool, rng: np.random.Generator) -> Iterator[Rates]:
    """Of each arm: the judge's rate, and the corrected ones. Error rates are taken from all arms' labels."""
    import numpy as np

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
        yield Rates(arm, whole, powered, by_rates)


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


# --- kept, and looked up by reports ------------------------------------------------------------------------


def digest_of(info: Mapping[str, Any]) -> str:
    """What names the judges' configuration in a run's lineage; empty when it does not say."""
    scorers = info.get("suite", {}).get("scorers")
    if not scorers:
        return ""
    text = json.dumps(scorers, sort_keys=True, default=str, ensure_ascii=False)
    return blake2b(text.encode("utf-8", "replace"), digest_size=8).hexdigest()


def keep(found: Calibration, home: Path) -> Path:
    """Write a calibration to `home`/calibrations/JUDGE.json, in place of the one before; the path."""
    folder = home / FOLDER
    safe = re.sub(r"[^A-Za-z0-9._-]", "-", found.judge)[:60].strip(".-") or "judge"
    if safe != found.judge:
        safe += "-" + blake2b(found.judge.encode("utf-8", "replace"), digest_size=4).hexdigest()
    path = folder / f"{safe}.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_text(json.dumps(found.as_dict(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}", hint="--out DIR") from None
    return path


@dataclass(frozen=True, slots=True)
class Known:
    """What is kept of a judge's calibration, as far as reports need it."""

    judge: str
    kappa: float | None
    low: float | None
    high: float | None
    labelled: int
    minimum: float
    flagged: bool
    digest: str


def known(home: Path) -> dict[str, Known]:
    """The calibrations that are kept, by the judge's name; files that cannot be read are none."""
    found = {}
    for path in sorted((home / FOLDER).glob("*.json")):
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
            of = (raw["kappa"] if len(raw["values"]) <= 2 else raw["weighted_kappa"]) or {}
            one = Known(
                str(raw["judge"]), of.get("value"), of.get("low"), of.get("high"),
                int(raw["labelled"]), float(raw["minimum"]), bool(raw["flagged"]), str(raw["digest"]),
            )  # fmt: skip
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue
        found[one.judge] = one
    return found


def flags(judges: Iterable[str], found: Mapping[str, Known], digest: str = "") -> list[str]:
    """A sentence for each of the judges that agrees too little with people, or was calibrated otherwise.

    `digest` is `digest_of` the run; without it the configuration is not compared. A judge that was never
    calibrated is not named: most judges need none.
    """
    said = []
    for name in dict.fromkeys(judges):
        one = found.get(name)
        if one is None:
            continue
        if one.flagged:
            kappa_ = "unknown" if one.kappa is None else f"{one.kappa:.2f} [{one.low:.2f}, {one.high:.2f}]"
            said.append(
                f"Judge {name} agrees too little with people: kappa {kappa_} on {one.labelled:,} labels, "
                f"below {one.minimum:g}. Its verdicts are no measure of quality by themselves."
            )
        if digest and one.digest and digest != one.digest:
            said.append(
                f"Judge {name} was calibrated with other settings than this run's: calibrate it again."
            )
    return said
