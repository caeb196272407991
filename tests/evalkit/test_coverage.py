"""Intervals hold the truth as often as they say. The settings are those of `tests/bench/coverage.py`."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest


def _bench() -> ModuleType:
    path = Path(__file__).resolve().parents[1] / "bench" / "coverage.py"
    spec = importlib.util.spec_from_file_location("interval_coverage", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["interval_coverage"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


bench = _bench()
EVALUATIONS = 2_000
CHOSEN = {
    ("rate (Wilson)", "n=10, p 0.9–1"): (0.93, 0.97),
    ("clustered rate", "20 questions × 4, p 0.9–1"): (0.93, 0.975),
    ("pass@k", "20 problems × 10, k=5, Beta(2, 0.2)"): (0.93, 0.97),
    ("paired difference", "n=100, p 0.1–0.9"): (0.93, 0.97),
    ("paired difference, clustered", "2 questions × 5, p 0.1–0.9"): (0.93, 1.0),
    ("paired difference, clustered", "3 questions × 20, p 0.1–0.9"): (0.93, 1.0),
    ("paired difference, clustered", "100 questions × 5, p 0.1–0.9"): (0.93, 0.975),
    ("mean score", "n=10, nine in ten full marks"): (0.93, 0.975),
    ("accuracy", "n=200, p 0.1–0.9"): (0.93, 0.97),
    ("kappa", "n=20, yes=0.5, right=0.8"): (0.93, 0.97),
    ("PPI", "50 labels, 1000 rows, p 0.9–1, 0.9/0.9"): (0.93, 0.97),
    ("PPI, values", "50 labels, 1000 rows, p=0.9"): (0.93, 0.975),
    ("Rogan–Gladen", "30 labels, 500 rows, p 0.9–1, 0.9/0.8"): (0.93, 0.985),
    ("Rogan–Gladen", "100 labels, 1000 rows, p 0–0.1, 0.9/0.9"): (0.93, 0.97),
    ("win rate", "50 questions × 2, p=0.9, ties=0.1"): (0.925, 0.97),
    ("length-controlled", "n=100, θ=-2.0"): (0.93, 0.97),
    ("Spearman", "n=30, ρ=0.4"): (0.93, 0.97),
}


@pytest.mark.parametrize(("name", "setting"), list(CHOSEN))
def test_intervals_hold_the_truth(name: str, setting: str) -> None:
    once = next(once for a, b, once in bench.settings() if (a, b) == (name, setting))
    inside, length = bench.coverage(once, EVALUATIONS, np.random.default_rng(1))
    least, most = CHOSEN[name, setting]
    assert least <= inside <= most
    assert 0 < length < 1.5, "an interval that says nothing covers everything"


def test_wilson_covers_as_said_on_average_over_rates_near_its_ends() -> None:
    """At one rate a count's coverage jumps; over rates it is what it says (Brown, Cai, DasGupta 2001)."""
    from evalkit.stats import wilson

    rng = np.random.default_rng(2)
    for n in (10, 20, 50, 200):
        ends = [wilson(k, n) for k in range(n + 1)]
        low, high = np.array([[e.low, e.high] for e in ends if e is not None]).T
        for least, most in ((0.0, 0.1), (0.9, 1.0), (0.0, 1.0)):
            p = rng.uniform(least, most, 20_000)
            k = rng.binomial(n, p)
            inside = float(np.mean((low[k] <= p) & (p <= high[k])))
            assert 0.93 <= inside <= 0.975, (n, least)
