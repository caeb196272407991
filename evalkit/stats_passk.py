"""pass@k and pass^k of many problems at once, with intervals over problems.

Of n answers to a problem, c are right. pass@k is the chance that at least one of k drawn answers is right,
1 − C(n−c, k)/C(n, k) (Chen et al. 2021, arXiv 2107.03374); pass^k is the chance that all k are,
C(c, k)/C(n, k) (Yao et al. 2024, arXiv 2406.12045). Both are unbiased; plugging c/n into 1 − (1−p)^k is not.

The answers to one problem stand and fall together, so the problems are the unit: a benchmark of 164 problems
is 164 observations, however many answers each has.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

from evalkit.stats import LEVEL, Measured
from evalkit.stats_cluster import share

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]


def pass_at_k(answers: Sequence[int], right: Sequence[int], k: int) -> Floats:
    """pass@k of each problem, in [0, 1]. `answers` is n and `right` is c, a number a problem.

    Raises `ValueError` when a problem has fewer than k answers.
    """
    import numpy as np

    n, c = _counts(answers, right, k)
    logs = _log_shares(int(n.max(initial=0)), k)
    some_right = n - c >= k
    wrong = np.where(some_right, n - c, k)
    return np.where(some_right, np.abs(np.expm1(logs[n] - logs[wrong])), 1.0)


def pass_all_k(answers: Sequence[int], right: Sequence[int], k: int) -> Floats:
    """pass^k of each problem, in [0, 1]: all of k drawn answers are right. Arguments as for `pass_at_k`."""
    import numpy as np

    n, c = _counts(answers, right, k)
    logs = _log_shares(int(n.max(initial=0)), k)
    return np.where(c >= k, np.exp(logs[n] - logs[np.maximum(c, k)]), 0.0)


def over_problems(values: Floats, answers: int, k: int, level: float = LEVEL) -> Measured | None:
    """The mean over problems with its interval, from so many answers in all. None when there are no problems.

    The interval is `evalkit.stats_cluster.share`'s, for answers/k draws of k at most: resampling problems
    would hold pass@5 = 99 % of 20 problems two times in three, and claim to be certain where all passed.
    """
    import numpy as np

    return share(values, np.ones(len(values)), answers / k, level)


def _counts(
    answers: Sequence[int], right: Sequence[int], k: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    import numpy as np

    n, c = np.asarray(answers, dtype=np.int64), np.asarray(right, dtype=np.int64)
    if n.shape != c.shape or n.ndim != 1:
        raise ValueError("one number of answers and one of right ones a problem")
    if bool(np.any((c < 0) | (c > n))):
        raise ValueError("a problem has between none and all of its answers right")
    if k < 1 or bool(np.any(n < k)):
        raise ValueError("pass@k needs at least k answers to every problem, and k of at least 1")
    return n, c


def _log_shares(most: int, k: int) -> Floats:
    """At i ≥ k: log C(k, k)/C(i, k), by a sum that neither overflows nor cancels.

    C(i−1, k)/C(i, k) = 1 − k/i, so it is Σ log(1 − k/j) over j from k+1 to i.
    """
    import numpy as np

    logs = np.zeros(most + 1)
    steps = np.arange(k + 1, most + 1)
    logs[k + 1 :] = np.cumsum(np.log1p(-k / steps))
    return logs
