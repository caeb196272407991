"""How often do nominal 95 % intervals hold the truth? `python tests/bench/coverage.py [EVALUATIONS [NAME]]`.

Each line is a setting; each evaluation draws data from a known law, takes the interval and looks whether the
true value is inside. Where a setting gives a band of rates, each evaluation draws its own rate from it: a
count's coverage at one rate jumps with the rate, so that a single rate shows luck. With 2,000 evaluations
the share has a standard error of 0.5 points at 95 %.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from time import process_time

import numpy as np

from evalkit.corrected import Errors, ppi, rogan_gladen
from evalkit.questions import Values, share_difference
from evalkit.ranking import Comparisons, bradley_terry, length_controlled, win_rate
from evalkit.stats import mean, paired_rates, quantile, wilson
from evalkit.stats_cluster import bounded_mean, share, split_variance
from evalkit.stats_passk import over_problems, pass_at_k
from judges.agreement import accuracy, alpha, kappa, rank_correlation

Rng = np.random.Generator
Band = tuple[float, float]
NEAR_0, NEAR_1, BETWEEN = (0.0, 0.1), (0.9, 1.0), (0.1, 0.9)
Once = Callable[[Rng], tuple[float, float, float]]
"""One evaluation: the interval's ends and the truth."""


def ends(found: object, truth: float) -> tuple[float, float, float]:
    if found is None:  # nothing is claimed where there is nothing to say
        return -np.inf, np.inf, truth
    return found.low, found.high, truth  # type: ignore[attr-defined]


def of_wilson(n: int, band: Band) -> Once:
    def once(rng: Rng) -> tuple[float, float, float]:
        p = rng.uniform(*band)
        return ends(wilson(int(rng.binomial(n, p)), n), p)

    return once


def of_paired(n: int, band: Band, lost: float) -> Once:
    """The second side loses up to `lost` of what the first passes, and gains as much of what it fails."""

    def once(rng: Rng) -> tuple[float, float, float]:
        base, down, up = rng.uniform(*band), rng.uniform(0, lost), rng.uniform(0, lost)
        a = rng.random(n) < base
        b = np.where(a, rng.random(n) >= down, rng.random(n) < up)
        found = paired_rates(a.tolist(), b.tolist())
        return ends(found and found.difference, base * down - (1 - base) * up)

    return once


def of_paired_repeats(items: int, k: int, band: Band, lost: float) -> Once:
    """Several answers a question on both sides; what makes a question hard is hard for both."""

    def once(rng: Rng) -> tuple[float, float, float]:
        p, down = rng.uniform(*band), rng.uniform(0, lost)
        rates = rng.beta(2 * p, 2 * (1 - p), items)
        names, ones = np.arange(items, dtype=np.uint64), np.ones(items)
        sides = [Values(names, rng.binomial(k, r) / k, ones, items * k) for r in (rates, rates * (1 - down))]
        return ends(share_difference(*sides), p * down)

    return once


def of_clustered(items: int, k: int, band: Band, size: float) -> Once:
    """`size` is a + b of the Beta law of the items' rates: small is strongly clustered."""

    def once(rng: Rng) -> tuple[float, float, float]:
        p = rng.uniform(*band)
        rates = rng.beta(p * size, (1 - p) * size, items)
        values = rng.binomial(k, rates) / k
        return ends(share(values, np.ones(items), items * k), p)

    return once


def of_pass_at_k(problems: int, answers: int, k: int, a: float, b: float) -> Once:
    """Problems whose chances are Beta(a, b)."""
    chances = np.random.default_rng(1).beta(a, b, 1_000_000)
    truth = float(np.mean(1 - (1 - chances) ** k))

    def once(rng: Rng) -> tuple[float, float, float]:
        right = rng.binomial(answers, rng.beta(a, b, problems))
        values = pass_at_k([answers] * problems, right.tolist(), k)
        return ends(over_problems(values, problems * answers, k), truth)

    return once


Law = Callable[[Rng, int], np.ndarray]
FULL_MARKS: Law = lambda rng, n: rng.choice([0.0, 0.5, 0.75, 1.0], n, p=[0.02, 0.03, 0.05, 0.9])  # noqa: E731
RATINGS: Law = lambda rng, n: rng.choice([0, 0.25, 0.5, 0.75, 1], n, p=[0.02, 0.03, 0.1, 0.35, 0.5])  # noqa: E731
CLAIMS: Law = lambda rng, n: np.where(rng.random(n) < 0.7, 1.0, rng.beta(2, 2, n))  # noqa: E731
RARE: Law = lambda rng, n: np.where(rng.random(n) < 0.03, 0.0, rng.uniform(0.94, 1, n))  # noqa: E731


def of_scores(n: int, law: Law, truth: float) -> Once:
    return lambda rng: ends(bounded_mean(law(rng, n), np.ones(n), n), truth)


def of_mean(n: int, law: Law, truth: float) -> Once:
    return lambda rng: ends(mean(law(rng, n).tolist(), rng, resamples=1_000), truth)


def of_quantile(n: int, q: float) -> Once:
    truth = -np.log(1 - q)
    return lambda rng: ends(quantile(rng.exponential(size=n).tolist(), q), truth)


def of_variance(items: int, k: int, part: str) -> Once:
    """Questions with a standard deviation of 1, answers with one of 0.7."""

    def once(rng: Rng) -> tuple[float, float, float]:
        values = np.repeat(rng.standard_normal(items), k) + 0.7 * rng.standard_normal(items * k)
        found = split_variance(values, np.repeat(np.arange(items), k), np.arange(items * k), rng)
        return ends(found and getattr(found, part), {"question": 1.0, "generation": 0.49}[part])

    return once


def cohen(table: np.ndarray, costs: np.ndarray) -> float:
    return float(1 - (table * costs).sum() / (np.outer(table.sum(1), table.sum(0)) * costs).sum())


def noisy(k: int, margins: list[float], right: float) -> np.ndarray:
    """The joint law of a truth and a judge who is right so often and else errs evenly."""
    wrong = (1 - right) / (k - 1)
    return np.array(margins)[:, None] * (np.full((k, k), wrong) + np.eye(k) * (right - wrong))


def of_kappa(n: int, margins: list[float], right: float, weights: str = "none", k_items: int = 1) -> Once:
    k = len(margins)
    law = noisy(k, margins, right)
    far = np.abs(np.subtract.outer(np.arange(k), np.arange(k)))
    costs = (far > 0).astype(float) if weights == "none" else far**2.0
    truth = cohen(law, costs)

    def once(rng: Rng) -> tuple[float, float, float]:
        cells = rng.choice(k * k, p=law.ravel(), size=n)
        items = None
        if k_items > 1:  # the same outcome several times: a cluster that says as much as one row
            cells, items = np.repeat(cells, k_items), np.repeat(np.arange(n), k_items)
        return ends(kappa(cells // k, cells % k, k, weights, rng=rng, items=items, draws=1000), truth)

    return once


def of_accuracy(n: int, band: Band) -> Once:
    def once(rng: Rng) -> tuple[float, float, float]:
        right = rng.uniform(*band)
        same = rng.random(n) < right
        return ends(accuracy(np.ones(n, int), same.astype(int), rng=rng, draws=1000), right)

    return once


def of_alpha(n: int, raters: int, right: float, metric: str, missing: float = 0.2) -> Once:
    values = np.array([0.0, 1.0]) if metric == "nominal" else np.arange(5.0)
    k = len(values)

    def ratings(rng: Rng, rows: int, holes: float) -> np.ndarray:
        truth = rng.integers(k, size=rows)
        said = np.where(
            rng.random((rows, raters)) < right, truth[:, None], rng.integers(k, size=(rows, raters))
        )
        found = values[said]
        found[rng.random(found.shape) < holes] = np.nan
        return found

    # Raters are right together with chance right², and else agree as much as chance does.
    truth = right**2

    def once(rng: Rng) -> tuple[float, float, float]:
        return ends(alpha(ratings(rng, n, missing), metric, rng=rng, draws=1000), truth)

    return once


def judged(rng: Rng, n: int, rate: float, sens: float, spec: float) -> tuple[np.ndarray, np.ndarray]:
    truth = rng.random(n) < rate
    said = np.where(truth, rng.random(n) < sens, rng.random(n) >= spec)
    return truth.astype(float), said.astype(float)


def of_ppi(n: int, rows: int, band: Band, sens: float, spec: float) -> Once:
    def once(rng: Rng) -> tuple[float, float, float]:
        rate = rng.uniform(*band)
        truth, said = judged(rng, n + rows, rate, sens, spec)
        found = ppi(truth[:n], said[:n], said[n:], rng=rng, draws=1000)
        return ends(found and found.rate, rate)

    return once


def of_ppi_scores(n: int, rows: int, rate: float) -> Once:
    def once(rng: Rng) -> tuple[float, float, float]:
        truth = (rng.random(n + rows) < rate).astype(float)
        said = np.clip(0.5 + 0.25 * (truth - 0.5) + 0.15 * rng.standard_normal(n + rows), 0, 1)
        found = ppi(truth[:n], said[:n], said[n:], rng=rng, draws=1000)
        return ends(found and found.rate, rate)

    return once


def of_rogan(n: int, rows: int, band: Band, sens: float, spec: float) -> Once:
    def once(rng: Rng) -> tuple[float, float, float]:
        rate = rng.uniform(*band)
        truth, said = judged(rng, n, 0.5, sens, spec)
        _, others = judged(rng, rows, rate, sens, spec)
        found = rogan_gladen(Errors.of(truth, said), float(others.sum()), rows, rng=rng, draws=1000)
        return ends(found and found.rate, rate)

    return once


def of_win_rate(items: int, strong: float, tie: float) -> Once:
    """Two orders an item; the second agrees with the first four times in five."""

    def once(rng: Rng) -> tuple[float, float, float]:
        def drawn() -> np.ndarray:
            won = (rng.random(items) < strong).astype(float)
            return np.where(rng.random(items) < tie, 0.5, won)

        first, fresh = drawn(), drawn()
        second = np.where(rng.random(items) < 0.8, first, fresh)
        found = win_rate(np.r_[first, second], np.r_[np.arange(items), np.arange(items)])
        return ends(found and found.rate, tie / 2 + (1 - tie) * strong)

    return once


def of_bradley_terry(games: int, gap: float) -> Once:
    log = np.array([gap, 0.0, -gap])

    def once(rng: Rng) -> tuple[float, float, float]:
        one = rng.integers(3, size=games)
        other = (one + rng.integers(1, 3, size=games)) % 3
        won = (rng.random(games) < 1 / (1 + np.exp(log[other] - log[one]))).astype(float)
        found = bradley_terry(Comparisons(one, other, won), 3, rng, resamples=400)
        return ends(found and found.log[0], gap)

    return once


def of_length(n: int, theta: float) -> Once:
    rng = np.random.default_rng(1)
    hard = rng.standard_normal(200_000)
    truth = float(np.mean(1 / (1 + np.exp(-(theta + hard)))))

    def once(rng: Rng) -> tuple[float, float, float]:
        difficulty, delta = rng.standard_normal(n), 500 * rng.standard_normal(n) - 300
        chance = 1 / (1 + np.exp(-(theta - 1.5 * np.tanh(delta / 500) + difficulty)))
        won = (rng.random(n) < chance).astype(float)
        found = length_controlled(won, delta, difficulty)
        return ends(found and found.rate, truth)

    return once


def of_correlation(n: int, slope: float) -> Once:
    """Spearman's own value of a bivariate normal law is 6/π·asin(ρ/2)."""

    def once(rng: Rng) -> tuple[float, float, float]:
        a = rng.standard_normal(n)
        b = slope * a + np.sqrt(1 - slope**2) * rng.standard_normal(n)
        return ends(rank_correlation(a, b), 6 / np.pi * np.arcsin(slope / 2))

    return once


def spelled(band: Band) -> str:
    return f"p {band[0]:g}–{band[1]:g}"


def settings() -> Iterator[tuple[str, str, Once]]:
    yield from rates()
    yield from means()
    yield from agreements()
    yield from corrections()
    yield from rankings()
    yield from of_few()  # at the end: the seed of a setting is its place


def rates() -> Iterator[tuple[str, str, Once]]:
    for n in (10, 20, 100):
        for band in (NEAR_0, BETWEEN, NEAR_1):
            yield "rate (Wilson)", f"n={n}, {spelled(band)}", of_wilson(n, band)
    for items, k, band, size in (
        (10, 5, BETWEEN, 2.0),
        (20, 4, NEAR_1, 2.0),
        (50, 3, NEAR_0, 3.0),
        (200, 5, NEAR_1, 1.0),
    ):
        yield (
            "clustered rate",
            f"{items} questions × {k}, {spelled(band)}",
            of_clustered(items, k, band, size),
        )
    for problems, answers, k, a, b in (
        (10, 10, 5, 1, 1),
        (20, 10, 5, 2, 0.2),
        (20, 10, 5, 0.2, 2),
        (50, 5, 1, 3, 0.15),
        (164, 10, 5, 0.6, 0.4),
    ):
        yield (
            "pass@k",
            f"{problems} problems × {answers}, k={k}, Beta({a}, {b})",
            of_pass_at_k(problems, answers, k, a, b),
        )
    for n, band in ((10, BETWEEN), (20, NEAR_1), (50, NEAR_1), (100, BETWEEN), (200, NEAR_0)):
        yield "paired difference", f"n={n}, {spelled(band)}", of_paired(n, band, 0.3)
    for items, k, band in ((10, 5, BETWEEN), (30, 3, NEAR_1), (100, 5, BETWEEN)):
        yield (
            "paired difference, clustered",
            f"{items} questions × {k}, {spelled(band)}",
            of_paired_repeats(items, k, band, 0.3),
        )


def means() -> Iterator[tuple[str, str, Once]]:
    for n in (10, 20, 50, 200):
        yield "mean score", f"n={n}, nine in ten full marks", of_scores(n, FULL_MARKS, 0.9525)
        yield "mean score", f"n={n}, near 1 but 3 % zeros", of_scores(n, RARE, 0.97 * 0.97)
    for n in (10, 50):
        yield "mean score", f"n={n}, ratings 1–5", of_scores(n, RATINGS, 0.82)
        yield "mean score", f"n={n}, shares of claims", of_scores(n, CLAIMS, 0.85)
    for n in (10, 20, 50, 200):
        yield "mean (BCa, t)", f"n={n}, normal", of_mean(n, lambda rng, n: rng.standard_normal(n), 0.0)
        yield "mean (BCa, t)", f"n={n}, exponential", of_mean(n, lambda rng, n: rng.exponential(size=n), 1.0)
    for n, q in ((10, 0.5), (20, 0.5), (100, 0.5), (100, 0.9), (500, 0.99), (2000, 0.99)):
        yield "quantile", f"n={n}, p{100 * q:.0f}", of_quantile(n, q)
    for items, k in ((20, 4), (50, 4), (100, 4)):
        for part in ("question", "generation"):
            yield f"variance, {part}", f"{items} questions × {k}", of_variance(items, k, part)


def agreements() -> Iterator[tuple[str, str, Once]]:
    for n, band in ((10, BETWEEN), (20, NEAR_1), (50, NEAR_1), (200, BETWEEN)):
        yield "accuracy", f"n={n}, {spelled(band)}", of_accuracy(n, band)
    for n, share_, right in (
        (10, 0.5, 0.8), (20, 0.5, 0.8), (20, 0.8, 0.95), (50, 0.9, 0.9), (50, 0.5, 0.97), (200, 0.95, 0.95)
    ):  # fmt: skip
        yield "kappa", f"n={n}, yes={share_}, right={right}", of_kappa(n, [1 - share_, share_], right)
    yield "kappa, clustered", "40 questions × 3, yes=0.7", of_kappa(40, [0.3, 0.7], 0.85, k_items=3)
    five = [0.1, 0.15, 0.25, 0.3, 0.2]
    for n, right in ((20, 0.7), (40, 0.6), (100, 0.8), (300, 0.7)):
        yield "weighted kappa", f"n={n}, k=5, right={right}", of_kappa(n, five, right, "quadratic")
    for n, raters, right, metric in (
        (10, 3, 0.8, "nominal"), (30, 3, 0.8, "nominal"), (100, 3, 0.9, "nominal"), (40, 4, 0.8, "interval"),
        (100, 3, 0.9, "ordinal"),
    ):  # fmt: skip
        yield f"alpha, {metric}", f"n={n}, raters={raters}", of_alpha(n, raters, right, metric)
    for n, slope in ((10, 0.0), (30, 0.4), (100, 0.8)):
        yield "Spearman", f"n={n}, ρ={slope}", of_correlation(n, slope)


def corrections() -> Iterator[tuple[str, str, Once]]:
    for n, rows, band, sens, spec in (
        (10, 200, BETWEEN, 0.9, 0.8), (20, 500, BETWEEN, 0.9, 0.8), (20, 500, NEAR_1, 0.95, 0.7),
        (50, 1000, NEAR_1, 0.9, 0.9), (50, 1000, NEAR_0, 0.8, 0.95), (100, 2000, BETWEEN, 0.85, 0.85),
        (100, 300, (0.98, 1.0), 0.95, 0.6), (200, 5000, BETWEEN, 0.5, 0.5),
    ):  # fmt: skip
        yield (
            "PPI",
            f"{n} labels, {rows} rows, {spelled(band)}, {sens}/{spec}",
            of_ppi(n, rows, band, sens, spec),
        )
    for n, rows, rate in ((20, 500, 0.5), (50, 1000, 0.9), (100, 2000, 0.95)):
        yield "PPI, values", f"{n} labels, {rows} rows, p={rate}", of_ppi_scores(n, rows, rate)
    for n, rows, band, sens, spec in (
        (20, 200, BETWEEN, 0.9, 0.8), (30, 500, NEAR_1, 0.9, 0.8), (50, 1000, NEAR_1, 0.95, 0.9),
        (100, 1000, NEAR_0, 0.9, 0.9), (200, 2000, BETWEEN, 0.8, 0.7),
    ):  # fmt: skip
        yield (
            "Rogan–Gladen",
            f"{n} labels, {rows} rows, {spelled(band)}, {sens}/{spec}",
            of_rogan(n, rows, band, sens, spec),
        )


def rankings() -> Iterator[tuple[str, str, Once]]:
    for items, strong, tie in (
        (10, 0.6, 0.2),
        (20, 0.5, 0.2),
        (50, 0.9, 0.1),
        (100, 0.05, 0.1),
        (300, 0.7, 0.3),
    ):
        yield "win rate", f"{items} questions × 2, p={strong}, ties={tie}", of_win_rate(items, strong, tie)
    for games, gap in ((20, 0.5), (60, 0.5), (150, 1.0), (400, 2.0)):
        yield "Bradley–Terry", f"{games} comparisons, log={gap}", of_bradley_terry(games, gap)
    for n, theta in ((20, 0.0), (50, 0.0), (100, -2.0), (400, 1.5)):
        yield "length-controlled", f"n={n}, θ={theta}", of_length(n, theta)


def of_few() -> Iterator[tuple[str, str, Once]]:
    for items, k in ((2, 2), (2, 5), (2, 20), (3, 5), (3, 20), (5, 5), (5, 20)):
        yield (
            "paired difference, clustered",
            f"{items} questions × {k}, {spelled(BETWEEN)}",
            of_paired_repeats(items, k, BETWEEN, 0.3),
        )
    for n in (2, 3, 5):
        yield "mean (BCa, t)", f"n={n}, normal", of_mean(n, lambda rng, n: rng.standard_normal(n), 0.0)


def coverage(once: Once, evaluations: int, rng: Rng) -> tuple[float, float]:
    """The share of intervals that hold the truth, and their mean length."""
    found = np.array([once(rng) for _ in range(evaluations)])
    inside = (found[:, 0] <= found[:, 2] + 1e-12) & (found[:, 2] <= found[:, 1] + 1e-12)
    length = found[:, 1] - found[:, 0]
    return float(inside.mean()), float(length[np.isfinite(length)].mean())


def main(evaluations: int, only: str = "") -> None:
    print(f"| interval | setting | coverage of {evaluations:,} | mean length |\n|---|---|---|---|")
    started = process_time()
    for number, (name, setting, once) in enumerate(settings()):
        if not name.startswith(only):
            continue
        inside, length = coverage(once, evaluations, np.random.default_rng(number))
        print(f"| {name} | {setting} | {inside:.1%} | {length:.3f} |", flush=True)
    print(f"\n{process_time() - started:.0f} s of CPU", file=sys.stderr)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2_000, "".join(sys.argv[2:]))
