"""Which judges of a report agree too little with people? What calibrations found, kept and looked up.

`keep` writes a calibration into `.evalkit/calibrations`; `flags` has a sentence for each judge that people
have to be warned of, for everything that prints its verdicts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalkit.whole import opened

if TYPE_CHECKING:
    from evalkit.calibration import Calibration

FOLDER = "calibrations"


def digests(info: Mapping[str, Any]) -> dict[str, str]:
    """What names each scorer's options, prompt and models in a run's lineage; empty when it does not say."""
    found = info.get("scorers")
    return {str(name): str(each) for name, each in found.items()} if isinstance(found, Mapping) else {}


def keep(found: Calibration, home: Path) -> Path:
    """Write a calibration to `home`/calibrations/JUDGE.json, in place of the one before; the path."""
    folder = home / FOLDER
    safe = re.sub(r"[^A-Za-z0-9._-]", "-", found.judge)[:60].strip(".-") or "judge"
    if safe != found.judge:
        safe += "-" + blake2b(found.judge.encode("utf-8", "replace"), digest_size=4).hexdigest()
    path = folder / f"{safe}.json"
    with opened(path) as file:
        file.write(json.dumps(found.as_dict(), indent=2, ensure_ascii=False).encode() + b"\n")
    return path


@dataclass(frozen=True, slots=True)
class Known:
    """What is kept of a judge's calibration, as far as reports need it."""

    judge: str
    kappa: float | None
    low: float | None
    high: float | None
    labelled: int
    minimum: float
    flagged: bool
    digest: str

    @property
    def said(self) -> str:
        """`kappa 0.42 [0.21, 0.61] on 80 labels`."""
        known = None not in (self.kappa, self.low, self.high)
        value = f"{self.kappa:.2f} [{self.low:.2f}, {self.high:.2f}]" if known else "unknown"
        return f"kappa {value} on {self.labelled:,} labels"


def known(home: Path) -> dict[str, Known]:
    """The calibrations that are kept, by the judge's name; files that cannot be read are none."""
    found = {}
    for path in sorted((home / FOLDER).glob("*.json")):
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
            of = (raw["kappa"] if len(raw["values"]) <= 2 else raw["weighted_kappa"]) or {}
            value, low, high = (_number(of.get(name)) for name in ("value", "low", "high"))
            one = Known(
                str(raw["judge"]), value, low, high,
                int(raw["labelled"]), float(raw["minimum"]), bool(raw["flagged"]), str(raw["digest"]),
            )  # fmt: skip
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue
        found[one.judge] = one
    return found


def _number(end: object) -> float | None:
    return None if end is None else float(str(end))


def flags(judges: Iterable[str], found: Mapping[str, Known], run: Mapping[str, str]) -> list[str]:
    """A sentence for each of the judges that agrees too little with people, or was calibrated otherwise.

    `run` is `digests` of the run; a judge that it does not name is taken for the one that was calibrated. One
    that never was is not named: most judges need no calibration.
    """
    said = []
    for name in dict.fromkeys(judges):
        one = found.get(name)
        if one is None:
            continue
        if one.flagged:
            said.append(
                f"Judge {name} agrees too little with people: {one.said}, below {one.minimum:g}. "
                "Its verdicts are no measure of quality by themselves."
            )
        elif one.low is not None and one.low < one.minimum:
            said.append(
                f"Judge {name} may agree too little with people: {one.said}, and {one.minimum:g} is asked "
                "for. More labels would tell."
            )
        if one.digest and run.get(name, one.digest) != one.digest:
            said.append(
                f"Judge {name} was calibrated with other settings than this run's: calibrate it again."
            )
    return said
