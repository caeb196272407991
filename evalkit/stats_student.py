"""Student's t: how much wider an interval of few values has to be than the normal one."""

from __future__ import annotations

import math
from statistics import NormalDist


def student(df: int, level: float = 0.95) -> float:
    """Student's t with P(|T| ≤ t) = level, for df ≥ 1.

    The finite sums of Abramowitz and Stegun 26.7.3 and 26.7.4, turned round by halving; beyond 200 degrees
    of freedom the expansion 26.7.5, which is exact to seven digits there.
    """
    if df < 1:
        raise ValueError("Student's t needs at least one degree of freedom")
    z = NormalDist().inv_cdf((1 + level) / 2)
    if df > 200:
        return z + (z**3 + z) / (4 * df) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * df**2)
    low, high = 0.0, z
    while _within(high, df) < level:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, df) < level else (low, middle)
    return high


def _within(t: float, df: int) -> float:
    """P(|T| ≤ t)."""
    angle = math.atan(t / math.sqrt(df))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = df % 2
    term, total = (cosine, cosine) if odd else (1.0, 1.0)
    for i in range(3 if odd else 2, df - 1, 2):
        term *= cosine * cosine * (i - 1) / i
        total += term
    if not odd:
        return sine * total
    return 2 / math.pi * (angle + (sine * total if df > 1 else 0.0))
