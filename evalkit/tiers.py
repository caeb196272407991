"""In what the answers' code was run: it stands beside every pass rate and pass@k that came of running it.

The judge `code` ends its reason with the sandbox that the program ran in, so each row says it for itself: a
run that went on elsewhere, or on many machines, may have had several.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from evalkit.trial import Trial

_SAID = re.compile(
    r"(?: tests pass(?:; [^()]{0,200})?|the tests never called it) \(((?:[^()]|\([^()]{0,100}\)){1,100})\)"
)


@dataclass(slots=True)
class Tiers:
    """Takes down the sandboxes of rows that pass by, by set and arm."""

    _found: dict[tuple[str, str], dict[str, None]] = field(default_factory=dict)

    def watch(self, rows: Iterable[Trial]) -> Iterator[Trial]:
        """The same rows."""
        for row in rows:
            for tier in tiers_of(row):
                self._found.setdefault((row.set, row.arm), {})[tier] = None
            yield row

    @property
    def found(self) -> Mapping[tuple[str, str], tuple[str, ...]]:
        """The sandboxes by (set, arm), in order of their names."""
        return {place: tuple(sorted(tiers)) for place, tiers in self._found.items()}


def tiers_of(row: Trial) -> Iterator[str]:
    """The sandboxes that a row's scores name."""
    for score in row.scores.values():
        if "tests " in score.reason:  # most rows ran no code
            yield from _SAID.findall(score.reason)
