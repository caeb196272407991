"""Published figures of AlpacaEval 2 and LLMBar, computed again from their public files."""

from __future__ import annotations

import csv
import gzip
import json
import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evalkit.ranking import difficulties, length_controlled, win_rate
from judges.agreement import both_orders

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("EVALKIT_SHARED") or ROOT.parent / "shared") / "data" / "judges"

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(not DATA.is_dir(), reason="the public files are not here: set EVALKIT_SHARED"),
]

BASELINE = "gpt4_1106_preview"
PULL = 7.0
"""Units of information towards the other models' length term. AlpacaEval adds 2 × 805 comparisons of its
baseline's short and long answers with weight 0.1 each: 161 rows of p(1 − p)·tanh² ≈ 0.04."""


def rows(name: str) -> Iterator[dict[str, Any]]:
    with gzip.open(DATA / name, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


@dataclass
class Alpaca:
    models: list[str]
    preferences: np.ndarray
    delta: np.ndarray
    board: dict[str, dict[str, str]]

    def of(self, model: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        place = self.models.index(model)
        has = ~np.isnan(self.preferences[place])
        return self.preferences[place, has], self.delta[place, has], has


@pytest.fixture(scope="module")
def alpaca() -> Alpaca:
    every = list(rows("alpaca_eval2_preferences.jsonl.gz"))
    models, items = ({row[name]: None for row in every} for name in ("model", "item"))
    place = [{name: number for number, name in enumerate(of)} for of in (models, items)]
    preferences = np.full((len(models), len(items)), np.nan)
    delta = preferences.copy()
    for row in every:
        at = place[0][row["model"]], place[1][row["item"]]
        preferences[at] = 0.5 if row["preference"] == 0 else row["preference"] - 1  # 0 is a draw
        delta[at] = row["len1"] - row["len2"]
    with (DATA / "alpaca_eval2_leaderboard.csv").open(encoding="utf-8") as file:
        board = {row[""]: row for row in csv.DictReader(file)}
    return Alpaca(list(models), preferences, delta, board)


def test_win_rates_and_standard_errors_are_the_leaderboards(alpaca: Alpaca) -> None:
    compared = [model for model in alpaca.models if model in alpaca.board]
    assert len(compared) == 57
    for model in compared:
        found, published = win_rate(alpaca.of(model)[0]), alpaca.board[model]
        assert found is not None
        assert 100 * found.rate.value == pytest.approx(float(published["win_rate"]), abs=1e-8)
        assert 100 * found.standard_error == pytest.approx(float(published["standard_error"]), abs=1e-8)
        counts = [int(published[name]) for name in ("n_wins", "n_wins_base", "n_draws")]
        assert [found.wins, found.losses, found.ties] == counts
        assert 100 * found.decided == pytest.approx(float(published["discrete_win_rate"]), abs=1e-8)


def length_gaps(alpaca: Alpaca) -> dict[str, float]:
    """Our length-controlled win rate less the published one, in points, by model."""
    others = [number for number, model in enumerate(alpaca.models) if model != BASELINE]
    easy = difficulties(alpaca.preferences[others], alpaca.delta[others])
    free = []
    for number in others:
        preferences, delta, has = alpaca.of(alpaca.models[number])
        fitted = length_controlled(preferences, delta, easy[has])
        assert fitted is not None
        free.append(fitted.length)
    pull = (float(np.median(free)), PULL)
    gaps = {}
    for model in alpaca.models:
        if model in alpaca.board:
            preferences, delta, has = alpaca.of(model)
            found = length_controlled(preferences, delta, easy[has], pull)
            assert found is not None
            gaps[model] = 100 * found.rate.value - float(alpaca.board[model]["length_controlled_winrate"])
    return gaps


def test_length_controlled_win_rates_are_near_as_far_as_the_file_allows(alpaca: Alpaca) -> None:
    """The file lacks AlpacaEval's instruction difficulties and the comparisons that hold its length term."""
    gaps = length_gaps(alpaca)
    sizes = np.abs(list(gaps.values()))
    print({model: round(gap, 2) for model, gap in sorted(gaps.items(), key=lambda one: -abs(one[1]))})
    print(
        f"median {np.median(sizes):.2f}, mean {sizes.mean():.2f}, within 0.3: {(sizes <= 0.3).sum()}, ",
        end="",
    )
    print(f"within 1: {(sizes <= 1).sum()}, largest {sizes.max():.2f}")
    assert len(gaps) == 57
    assert gaps[BASELINE] == 0.0, "nothing to estimate: exactly one half"
    assert (sizes <= 0.3).sum() >= 28
    assert (sizes <= 1).sum() >= 40
    assert np.median(sizes) < 0.4
    raw = [
        abs(float(row["win_rate"]) - float(row["length_controlled_winrate"]))
        for row in (alpaca.board[model] for model in gaps)
    ]
    assert np.mean(raw) > 3 * sizes.mean(), "the regression explains most of what the length changes"
    ours = [float(alpaca.board[m]["length_controlled_winrate"]) + gaps[m] for m in gaps]
    theirs = [float(alpaca.board[m]["length_controlled_winrate"]) for m in gaps]
    assert np.corrcoef(np.argsort(np.argsort(ours)), np.argsort(np.argsort(theirs)))[0, 1] > 0.98


def test_llmbars_counts_agreements_and_kappas_in_every_cell() -> None:
    cells: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
    for row in rows("llmbar_evaluator_votes.jsonl.gz"):
        cells[row["set"], row["evaluator"], row["strategy"]].append(row)
    published = list(rows("llmbar_published_statistics.jsonl.gz"))
    assert len(published) == len(cells) == 349
    for each in published:
        votes = cells[each["set"], each["evaluator"], each["strategy"]]
        # A strategy that swaps asks again with its first verdict in view: its last one counts.
        gold = [str(vote["gold"]) for vote in votes]
        one, other = ([vote["winner"][-1][order] for vote in votes] for order in ("False", "True"))
        found, said = both_orders(gold, one, other), each["stats"]
        counts = (*found.right, found.both_right, found.equal)
        for name, count in zip(
            ("correct_False", "correct_True", "correct_both", "equal"), counts, strict=True
        ):
            assert said[name].split(" = ")[0] == f"{count} / {found.n}", (each["set"], name)
        # LLMBar's kappa takes a verdict that cannot be read for a vote for the second.
        read = [["2" if vote == "None" else vote for vote in votes] for votes in (one, other)]
        assert both_orders(gold, *read).kappa == pytest.approx(said["kappa_agreement"], abs=1e-12)
