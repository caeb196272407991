"""Did too much fail to say anything? The rule behind the verdict `errors`, for everything that tells it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from evalkit.columns import FAILED, MISJUDGED, Columns


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why the numbers of a run are no verdict. `share` of its calls or their judges failed.

    `no_call` was made, `no_answer` came, no answer could be judged (`unjudged`), or `too_many` failed: more
    than the suite's `allowed` share. Where nothing at all was measured there is nothing to allow: neither of
    the run nor of one of its arms, which is `where` then.
    """

    what: Literal["no_call", "no_answer", "unjudged", "too_many"]
    share: float
    allowed: float
    where: str = ""

    @classmethod
    def of(cls, columns: Columns, allowed: float) -> Trouble | None:
        """None for rows that say enough."""
        rows = len(columns)
        if not rows:
            return cls("no_call", 0.0, allowed)
        failed, misjudged = columns.flagged(FAILED), columns.flagged(MISJUDGED)
        share = int((failed | misjudged).sum()) / rows
        if (what := _nothing(columns)) is not None:
            return cls(what, share, allowed)
        for number, group in enumerate(columns.groups):
            if (what := _nothing(columns.group(number))) is not None:
                return cls(what, share, allowed, " on ".join(part for part in (group.arm, group.set) if part))
        return cls("too_many", share, allowed) if share > allowed else None


def _nothing(columns: Columns) -> Literal["no_answer", "unjudged"] | None:
    """Why rows say nothing at all, if so; no rows say nothing of that."""
    if not len(columns):
        return None
    failed = columns.flagged(FAILED)
    if failed.all():
        return "no_answer"
    return "unjudged" if (failed | columns.flagged(MISJUDGED)).all() else None
