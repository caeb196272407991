"""How often does one model beat another? Win rates, with ties and with clustered intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from evalkit.stats import LEVEL, Measured
from evalkit.stats_cluster import share

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class WinRate:
    """The mean preference, a share in [0, 1]; `standard_error` is s/√n over items, NaN for one item.

    `wins`, `losses` and `ties` count comparisons above, below and at one half; `decided` is the share of wins
    when each comparison is rounded to a win, a loss or half a win.
    """

    rate: Measured
    standard_error: float
    wins: int
    losses: int
    ties: int

    @property
    def decided(self) -> float:
        """(wins + ties/2) / comparisons."""
        return (self.wins + self.ties / 2) / (self.wins + self.losses + self.ties)


def win_rate(preferences: Floats, items: Any = None, level: float = LEVEL) -> WinRate | None:
    """The win rate over comparisons with `preferences` in [0, 1]: 1 a win, 0 a loss, ½ a tie. None: no rows.

    `items` numbers the comparisons that belong together (both orders, several answers): each item counts once
    with its mean, and the interval is clustered by it. AlpacaEval's win rate is this with preference − 1.
    """
    import numpy as np

    if len(preferences) == 0:
        return None
    if not bool(np.all((preferences >= 0) & (preferences <= 1))):
        raise ValueError("a preference is between 0 and 1")
    if items is None:
        means = preferences
    else:
        _, of = np.unique(items, return_inverse=True)
        means = np.bincount(of, preferences) / np.bincount(of)
    rate = share(means, np.ones(len(means)), len(preferences), level)
    assert rate is not None
    error = float(np.std(means, ddof=1)) / math.sqrt(len(means)) if len(means) > 1 else math.nan
    wins, losses = int((preferences > 0.5).sum()), int((preferences < 0.5).sum())
    return WinRate(rate, error, wins, losses, len(preferences) - wins - losses)
