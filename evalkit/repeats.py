"""Several answers a sample: would one of k be right, would all, do they agree, and why do they differ?

The question is the unit everywhere (see `evalkit.stats_cluster`). Counted are the answers that were judged, a
failed call being an answer that did not pass; a question is left out of what it has too few answers for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evalkit.columns import Columns, distinct
from evalkit.questions import Questions, Values, mean_score
from evalkit.stats import Measured
from evalkit.stats_cluster import Variance, split_variance

if TYPE_CHECKING:
    import numpy as np

STEPS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
"""The k of pass@k and pass^k that a summary shows, and the number of answers itself."""

MOST_FLAKY = 20


@dataclass(frozen=True, slots=True)
class Flaky:
    """A sample that passes sometimes: `passed` of `judged` answers."""

    sample: str
    passed: int
    judged: int


@dataclass(frozen=True, slots=True)
class Repeats:
    """What several answers a question say. `answers`: the fewest and the most judged ones of a question.

    `at_least[k]` is pass@k, the chance that one of k answers passes; `every[k]` is pass^k, that all k do.
    `majority` is the rate at which the most frequent answer passes (text without case and spacing); where
    several are most frequent, `ties` questions, the question counts with their mean. `best` is by scorer the
    mean over questions of the best answer's value (of scorers that say yes or no, that is pass@n). A question
    with two answers and more `always` passes, `never` does, or is `flaky`; `flakiest` are those nearest to a
    coin. `variance` is None where too little was asked to say.
    """

    answers: tuple[int, int]
    at_least: Mapping[int, Measured]
    every: Mapping[int, Measured]
    majority: Measured | None
    ties: int
    best: Mapping[str, Measured]
    always: int
    never: int
    flaky: int
    flake_rate: Measured | None
    flakiest: tuple[Flaky, ...]
    variance: Variance | None


def repeats(columns: Columns, rng: np.random.Generator) -> Repeats | None:
    """What the rows of one group say; None where no sample was asked twice."""
    import numpy as np

    if distinct(columns.rows["sample"]) == len(columns):
        return None
    q = Questions.of_rows(columns)
    steps = [k for k in sorted({*STEPS, q.most}) if 1 <= k <= q.most]
    several = q.judged >= 2
    majority, ties = q.majority()
    flaky = q.flaky()
    return Repeats(
        answers=(int(q.judged.min(initial=q.most)), q.most),
        at_least={k: found for k in steps if (found := q.pass_at(k).share()) is not None},
        every={k: found for k in steps if (found := q.pass_all(k).share()) is not None},
        majority=majority.share(),
        ties=ties,
        best=_best(columns, rng),
        always=int(np.sum(several & (q.passed == q.judged))),
        never=int(np.sum(several & (q.passed == 0))),
        flaky=int(flaky.value.sum()),
        flake_rate=flaky.share(),
        flakiest=_flakiest(columns, q),
        variance=_variance(columns, q, rng),
    )


def _best(columns: Columns, rng: np.random.Generator) -> dict[str, Measured]:
    """By scorer: the mean over questions of the highest value that one of its answers got."""
    import numpy as np

    found = {}
    sample, scores, weight = columns.rows["sample"], columns.scores, columns.rows["weight"]
    for number, name in enumerate(columns.words.scorers):
        values = scores["value"]
        meant = (scores["scorer"] == number) & ~np.isnan(values)
        values = values[meant]
        if bool(np.all((values == 0) | (values == 1))):
            continue
        row = scores["row"][meant]
        asked, first, of = np.unique(sample[row], return_index=True, return_inverse=True)
        best = np.full(len(asked), -np.inf)
        np.maximum.at(best, of, values)
        if (measured := mean_score(Values(asked, best, weight[row[first]], len(best)), rng)) is not None:
            found[name] = measured
    return found


def _flakiest(columns: Columns, q: Questions) -> tuple[Flaky, ...]:
    import numpy as np

    numbers = np.flatnonzero((q.passed > 0) & (q.passed < q.judged))
    nearest = np.argsort(np.abs(q.passed[numbers] / q.judged[numbers] - 0.5), kind="stable")
    chosen = numbers[nearest[:MOST_FLAKY]]
    return tuple(
        Flaky(sample, int(q.passed[each]), int(q.judged[each]))
        for sample, each in zip(columns.sample_ids(q.first[chosen]), chosen, strict=True)
    )


def _variance(columns: Columns, q: Questions, rng: np.random.Generator) -> Variance | None:
    """Of the values of the first scorer that judged answers several times; else of the verdicts.

    Where no scorer gives verdicts, it is of the first scorer's values.
    """
    import numpy as np

    table = columns.again
    if len(table) == 0:
        if len(q.judged):
            return split_variance(q.right.astype(np.float64), q.of, np.arange(len(q.of)), rng)
        table = columns.scores
        table = table.where(~np.isnan(table["value"]))
    if len(table) == 0:
        return None
    scorer = table["scorer"]
    table = table.where(scorer == scorer.min())
    row = table["row"]
    _, question = np.unique(columns.rows["sample"][row], return_inverse=True)
    _, answer = np.unique(row, return_inverse=True)
    return split_variance(table["value"], question, answer, rng)
