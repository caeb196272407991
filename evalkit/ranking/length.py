"""What would the win rate be, if both answers were equally long? AlpacaEval 2's regression.

P(win) = σ(θ + φ·tanh(Δ/sd(Δ)) + γ·d): θ is the model, Δ the baseline's length less the model's in characters,
d the instruction's difficulty. The length-controlled win rate is the mean of σ(θ + γ·d): what the same
regression says at Δ = 0. Source: Dubois et al. (2024), arXiv 2404.04475.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from evalkit.stats import LEVEL, Measured, critical, score_interval
from evalkit.stats_student import student

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats: TypeAlias = npt.NDArray[np.float64]

_STEPS = 60


@dataclass(frozen=True, slots=True)
class LengthControlled:
    """The rate at equal lengths, a share, and the regression's coefficients θ, φ and γ."""

    rate: Measured
    model: float
    length: float
    difficulty: float


def scaled(delta: Floats) -> Floats:
    """tanh(Δ/sd(Δ)), the regression's length term; 0 where all lengths differ by as much."""
    import numpy as np

    spread = float(np.std(delta, ddof=1)) if len(delta) > 1 else 0.0
    return np.tanh(delta / spread) if spread > 0 else np.zeros(len(delta))


def length_controlled(
    preferences: Floats,
    delta: Floats,
    difficulty: Floats | None = None,
    pull: tuple[float, float] | None = None,
    level: float = LEVEL,
) -> LengthControlled | None:
    """The win rate at equal lengths, of one preference in [0, 1] an item. None without any.

    `delta`: the other answer's length less this one's. `pull` = (φ₀, strength) draws φ towards φ₀ with the
    weight of `strength` units of information: AlpacaEval does so with comparisons of its baseline's own short
    and long answers. Without it a model that is always shorter or longer leaves φ to chance.

    Interval: Wilson's of n_eff = p(1−p)/SE², with SE from the estimate's influence function over items
    (a sandwich, which needs no right model) and Student's quantile.
    """
    import numpy as np

    n = len(preferences)
    if n == 0:
        return None
    hard = np.zeros(n) if difficulty is None else difficulty
    if float(np.ptp(preferences)) == 0.0 and float(np.ptp(delta)) == 0.0:
        value = float(preferences[0])
        low, high = score_interval(value, n, level)
        return LengthControlled(Measured(value, low, high, n, level), _logit(value), 0.0, 0.0)
    x = np.stack([np.ones(n), scaled(delta), hard], axis=1)
    towards, strength = pull or (0.0, 0.0)
    target = np.array([0.0, towards, 0.0])
    # A millionth of an observation, so that terms that do not vary are 0 and perfect separation ends.
    holding = np.array([1e-6, strength + 1e-6, 1e-6])
    b = _logistic(x, preferences, holding, target)
    flat = x * np.array([1.0, 0.0, 1.0])
    at_zero, fitted = _sigmoid(flat @ b), _sigmoid(x @ b)
    value = float(at_zero.mean())
    slope = (flat * (at_zero * (1 - at_zero))[:, None]).mean(0)
    information = (x * (fitted * (1 - fitted))[:, None]).T @ x + np.diag(holding)
    moves = x @ np.linalg.solve(information, slope) * (preferences - fitted)
    error = math.sqrt(float(np.sum(((at_zero - value) / n + moves) ** 2)) * n / max(1, n - 3))
    wider = student(max(1, n - 3), level) / critical(level)
    inside = 0 < value < 1 and error > 0
    effective = min(float(n) * 100, value * (1 - value) / (error * wider) ** 2) if inside else float(n)
    low, high = score_interval(value, effective, level)
    rate = Measured(value, low, high, n, level, effective)
    return LengthControlled(rate, float(b[0]), float(b[1]), float(b[2]))


def _logistic(x: Floats, y: Floats, holding: Floats, target: Floats) -> Floats:
    """The most likely coefficients of a logistic regression on shares, held towards `target`."""
    import numpy as np

    b = target.copy()
    for _ in range(_STEPS):
        p = _sigmoid(x @ b)
        gradient = x.T @ (y - p) - holding * (b - target)
        hessian = (x * (p * (1 - p))[:, None]).T @ x + np.diag(holding)
        step = np.clip(np.linalg.solve(hessian, gradient), -2.0, 2.0)
        b = b + step
        if float(np.abs(step).max()) < 1e-10:
            break
    return b


def _sigmoid(x: Floats) -> Floats:
    import numpy as np

    found: Floats = 1 / (1 + np.exp(-np.clip(x, -500, 500)))
    return found


def _logit(p: float) -> float:
    return math.log(p / (1 - p)) if 0 < p < 1 else math.copysign(math.inf, p - 0.5)


def difficulties(preferences: Floats, delta: Floats, ridge: float = 1.0, rounds: int = 60) -> Floats:
    """How much easier each item is to win than another, in log odds, mean 0: one value an item.

    `preferences` and `delta` are models × items, NaN for none. One regression of all models with
    P = σ(θ_m + φ_m·tanh(Δ/sd) + d_i) and `ridge` units of information towards d = 0, by alternating steps.
    """
    import numpy as np

    known = ~np.isnan(preferences)
    seen = np.where(known, preferences, 0.0)
    lengths = np.zeros_like(seen)
    for m, has in enumerate(known):
        lengths[m, has] = scaled(delta[m, has])
    d = np.zeros(seen.shape[1])
    b = np.zeros((len(seen), 2))
    x = np.stack([np.ones_like(lengths), lengths], axis=2) * known[:, :, None]
    for _ in range(rounds):
        for _ in range(2):
            p = _sigmoid(np.einsum("mic,mc->mi", x, b) + d)
            gradient = np.einsum("mic,mi->mc", x, seen - p) - 0.01 * b
            hessian = np.einsum("mic,mi,mie->mce", x, p * (1 - p), x) + 0.01 * np.eye(2)
            b = b + np.clip(np.linalg.solve(hessian, gradient[..., None])[..., 0], -1.0, 1.0)
        p = _sigmoid(np.einsum("mic,mc->mi", x, b) + d)
        gradient = np.where(known, seen - p, 0.0).sum(0) - ridge * d
        step = np.clip(gradient / (np.where(known, p * (1 - p), 0.0).sum(0) + ridge), -1.0, 1.0)
        d = d + step
        d -= d.mean()
        if float(np.abs(step).max()) < 1e-6:
            break
    return d
