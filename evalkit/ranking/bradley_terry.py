"""One scale for many models: Bradley–Terry strengths from comparisons of two, with ties and intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from evalkit.stats import LEVEL, Measured
from judges.agreement import interval

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats: TypeAlias = npt.NDArray[np.float64]

Ties = Literal["half", "davidson"]
_STEPS = 100
_AT_ONCE = 200
_FAR = 15.0  # log odds of three million to one: on their way to infinity


@dataclass(frozen=True, slots=True)
class Comparisons:
    """Arrays of one row a comparison: models `one` and `other` (codes from 0), `won` by one: 1, ½ (tie) or 0.

    `items` numbers comparisons that belong together; None: each stands alone.
    """

    one: Any
    other: Any
    won: Any
    items: Any = None


@dataclass(frozen=True, slots=True)
class Strengths:
    """`log` strengths with mean 0, one a model: model i beats j with odds exp(log_i − log_j).

    `tie` is log ν of Davidson's model, None where ties count half. `draws` are bootstrapped strengths, one
    row a draw.
    """

    log: tuple[Measured, ...]
    tie: float | None
    draws: Floats

    def chance(self, one: int, other: int) -> Measured:
        """The chance that `one` beats `other`, ties aside."""
        gap = self.log[one].value - self.log[other].value
        few = max(2, 2 * self.log[one].n // len(self.log))
        ends = interval(gap, self.draws[:, one] - self.draws[:, other], self.log[one].level, few)
        value, low, high = (1 / (1 + math.exp(-x)) for x in (gap, *ends))
        return Measured(value, low, high, self.log[one].n, self.log[one].level)

    def elo(self, model: int, mean: float = 1000.0) -> Measured:
        """On the scale on which 400 points are odds of 10 to 1."""
        scale, of = 400 / math.log(10), self.log[model]
        value, low, high = (mean + scale * x for x in (of.value, of.low, of.high))
        return Measured(value, low, high, of.n, of.level)


def bradley_terry(
    comparisons: Comparisons,
    models: int,
    rng: np.random.Generator,
    *,
    ties: Ties = "half",
    prior: float = 0.25,
    resamples: int = 1_000,
    level: float = LEVEL,
) -> Strengths | None:
    """The most likely strengths, with percentile intervals over resampled items. None without comparisons.

    P(i beats j) = s_i / (s_i + s_j); a tie is half a win for each, or with `davidson` an outcome of its own
    with weight ν·√(s_i·s_j) (Davidson 1970, JASA 65:317). `prior`: so many wins and as many losses of every
    model against one of mean strength; 0 gives plain maximum likelihood, which is infinite for a model that
    won or lost everything, and raises `ValueError` then. Items are resampled with exponential weights:
    no resample loses a model. Source: Bradley and Terry (1952), Biometrika 39:324.
    """
    import numpy as np

    if len(comparisons.won) == 0:
        return None
    tables, of = _tables(comparisons, models)
    n = int(of.max()) + 1
    point = _fit(_summed(tables, np.ones((1, n)), of, models), ties, prior)
    found = []
    for start in range(0, resamples, _AT_ONCE):
        weights = rng.exponential(size=(min(_AT_ONCE, resamples - start), n))
        found.append(_fit(_summed(tables, weights, of, models), ties, prior))
    draws = np.concatenate(found)
    each = max(2, 2 * n // models)  # about so many items tell of one model
    log = tuple(
        Measured(value, *interval(value, draws[:, i], level, each), n, level)
        for i, value in enumerate(point[0, :models].tolist())
    )
    return Strengths(log, float(point[0, models]) if ties == "davidson" else None, draws[:, :models])


def _tables(comparisons: Comparisons, models: int) -> tuple[tuple[Any, ...], Any]:
    import numpy as np

    one, other = np.asarray(comparisons.one), np.asarray(comparisons.other)
    won = np.asarray(comparisons.won, dtype=np.float64)
    if bool(np.any(one == other)):
        raise ValueError("a model is compared with itself")
    if not bool(np.all((won == 0) | (won == 0.5) | (won == 1))):
        raise ValueError("a comparison is won (1), lost (0) or a tie (0.5)")
    items = np.arange(len(won)) if comparisons.items is None else comparisons.items
    _, of = np.unique(items, return_inverse=True)
    winner = np.where(won == 0, other, one)
    loser = np.where(won == 0, one, other)
    return (winner * models + loser, won == 0.5), of


def _summed(tables: tuple[Any, ...], weights: Floats, of: Any, models: int) -> tuple[Floats, Floats]:
    """Wins of each model over each and ties between them (counted both ways), by draw."""
    import numpy as np

    cell, tied = tables
    shape = (len(weights), models, models)
    wins, ties = np.zeros(shape), np.zeros(shape)
    for number, each in enumerate(weights):
        by_row = each[of]
        counted = np.bincount(cell, by_row * ~tied, minlength=models**2).reshape(models, models)
        even = np.bincount(cell, by_row * tied, minlength=models**2).reshape(models, models)
        wins[number], ties[number] = counted, even + even.T
    return wins, ties


def _fit(sums: tuple[Floats, Floats], ties: Ties, prior: float) -> Floats:
    """Newton's steps, all draws at once; the last column is log ν."""
    import numpy as np

    wins, even = sums
    draws, k = wins.shape[:2]
    b = np.zeros((draws, k + 1))
    points = wins.sum(2) + even.sum(2) / 2 + prior
    games = wins + wins.transpose(0, 2, 1) + even
    davidson = ties == "davidson"
    tied = even.sum((1, 2)) / 2 + (0.5 if davidson and prior else 0.0)
    for _ in range(_STEPS):
        gradient, hessian = _slopes(b, games, points, tied, prior, davidson)
        step = np.linalg.solve(hessian, gradient[..., None])[..., 0]
        step *= np.minimum(1.0, 2.0 / np.maximum(np.abs(step).max(1, keepdims=True), 1e-300))
        b = b + step
        if float(np.abs(step).max()) < 1e-9 or float(np.abs(b[:, :k]).max()) > _FAR:
            break
    if float(np.abs(b[:, :k]).max()) > _FAR:
        raise ValueError("a model won or lost everything, or is not connected with the others; give a prior")
    b[:, :k] -= b[:, :k].mean(1, keepdims=True)
    return b


def _slopes(
    b: Floats, games: Floats, points: Floats, tied: Floats, prior: float, davidson: bool
) -> tuple[Floats, Floats]:
    import numpy as np

    k = games.shape[1]
    strength = b[:, :k]
    gap = (strength[:, :, None] - strength[:, None, :]) / 2
    up, down = np.exp(gap), np.exp(-gap)
    even = np.exp(b[:, k])[:, None, None] if davidson else 0.0
    total = up + down + even
    win, tie = up / total, even / total
    expected = win + tie / 2
    lone = 1 / (1 + np.exp(-strength))
    gradient = np.zeros_like(b)
    gradient[:, :k] = points - (games * expected).sum(2) - 2 * prior * lone
    # The variance of a comparison's points, 1, ½ or 0.
    spread = games * (win + tie / 4 - expected**2)
    hessian = np.zeros((len(b), k + 1, k + 1))
    hessian[:, :k, :k] = -spread
    places = np.arange(k)
    hessian[:, places, places] += spread.sum(2) + 2 * prior * lone * (1 - lone)
    if not prior:
        hessian[:, :k, :k] += 1.0 / k  # fixes the mean, which comparisons leave open
    if davidson:
        half = np.triu(games, 1)
        # One tie's worth of prior, half a tie and half none, holds ν off zero.
        nu = np.exp(b[:, k])
        loose = (1.0 if prior else 0.0) * nu / (1 + nu)
        gradient[:, k] = tied - (half * tie).sum((1, 2)) - loose
        both = tie / 2 - expected * tie
        hessian[:, :k, k] = hessian[:, k, :k] = (games * both).sum(2)
        hessian[:, k, k] = (half * tie * (1 - tie)).sum((1, 2)) + loose / (1 + nu) + 1e-12
    else:
        hessian[:, k, k] = 1.0
    return gradient, hessian
