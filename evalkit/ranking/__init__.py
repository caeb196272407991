"""Which model is better, from comparisons of two answers each: win rates, Bradley–Terry, length control."""

from __future__ import annotations

from evalkit.ranking.bradley_terry import Comparisons, Strengths, bradley_terry
from evalkit.ranking.length import LengthControlled, difficulties, length_controlled
from evalkit.ranking.winrate import WinRate, win_rate

__all__ = [
    "Comparisons",
    "LengthControlled",
    "Strengths",
    "WinRate",
    "bradley_terry",
    "difficulties",
    "length_controlled",
    "win_rate",
]
