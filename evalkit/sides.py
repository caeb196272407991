"""Two kept runs held against each other: their arms' differences, and the samples that changed sides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evalkit.compare import Comparison, changed, compare_runs, counterpart

if TYPE_CHECKING:
    from rich.console import Console

    from evalkit.columns import Columns


@dataclass(frozen=True, slots=True)
class Side:
    """The samples that an arm passes less and more often than its counterpart; None where there is none."""

    set: str
    arm: str
    less: Sequence[str] | None
    more: Sequence[str] | None


@dataclass(frozen=True, slots=True)
class Sides:
    """A run against another one, called `baseline`."""

    baseline: str
    comparisons: Sequence[Comparison]
    sides: Sequence[Side]

    @classmethod
    def of(cls, ours: Columns, theirs: Columns, baseline: str) -> Sides:
        """From the rows of both."""
        sides = []
        for number, group in enumerate(ours.groups):
            other = counterpart(group, theirs)
            found = (None, None) if other is None else changed(ours.group(number), theirs.group(other))
            sides.append(Side(group.set, group.arm, *found))
        return cls(baseline, compare_runs(ours, theirs, baseline), sides)

    def plain(self) -> dict[str, Any]:
        """For machines: `changed` has null for both where the other run has no such arm."""
        from evalkit.ci.plain import comparison

        return {
            "baseline": self.baseline,
            "comparisons": [comparison(each) for each in self.comparisons],
            "changed": [
                {"set": each.set, "endpoint": each.arm, "less_often": each.less, "more_often": each.more}
                for each in self.sides
            ],
        }

    def show(self, console: Console, limit: int) -> None:
        """For people: `limit` samples of each side are named."""
        from evalkit import view

        view.comparisons(console, self.comparisons)
        for each in self.sides:
            place = view.escape(f"{each.arm} on {each.set}" if each.set else each.arm)
            if each.less is None or each.more is None:
                console.print(f"\n{place}: {view.escape(self.baseline)} has no such arm", highlight=False)
                continue
            for word, ids in (("less", each.less), ("more", each.more)):
                more = f" and {len(ids) - limit:,} more" if len(ids) > limit else ""
                listed = view.escape(", ".join(ids[:limit])) + more
                passes = "passes" if len(ids) == 1 else "pass"
                console.print(
                    f"{place}: {len(ids):,} {passes} {word} often: {listed or '–'}", highlight=False
                )
