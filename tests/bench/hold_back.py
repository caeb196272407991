"""How long streamed text waits for PII and secrets, in characters, and what looking costs.

    python tests/bench/hold_back.py

An encyclopedia's text from the folder that `EVALKIT_SHARED` names, else `../shared`, in pieces of 4
characters.
"always look" is what a detector without `begins` costs and holds.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from secrets_normal import clean

from guardrails.filters.detector import Detector, Finding, Reading, redact
from guardrails.filters.normal import Normalized
from guardrails.filters.pii import Pii
from guardrails.filters.secrets import Secrets
from guardrails.filters.window import Begins, Window, earliest

SIZE, PIECE = 40_000, 4


def stream(text: str, detectors: Sequence[Detector], begins: Begins | None) -> tuple[float, list[int], str]:
    """CPU milliseconds, the characters that were held after each piece, and what came out."""

    def look(part: str) -> list[Finding]:
        reading = Reading()
        return [f for detector in detectors for f in reading.detect(detector, part)]

    window = Window(look, 64, begins=begins)
    held, found = [], list[Finding]()
    start = time.process_time()
    for at in range(0, len(text), PIECE):
        found += window.push(text[at : at + PIECE])
        held.append(min(at + PIECE, len(text)) - window.decided)
    found += window.finish()
    return (time.process_time() - start) * 1e3, held, redact(text, found)


def first(detectors: Sequence[Any]) -> Begins:
    """What a filter makes of the detectors' `begins`."""
    signs = dict.fromkeys(sign for d in detectors for sign in getattr(d, "signs", (d.begins,)))
    return partial(earliest, signs)


def main() -> None:
    """Print the table."""
    text = clean()[:SIZE]
    normalized = Normalized(Pii()), Normalized(Secrets())
    print(f"{SIZE:,} characters{'':16}{'median':>8}{'mean':>8}{'p90':>8}{'most':>8}{'CPU ms':>8}")
    for name, detectors in (("PII", [Pii()]), ("secrets", [Secrets()]), ("both, normalized", normalized)):
        stream(text, detectors, None)
        out = set[str]()
        for how, begins in (("always look", None), ("begins", first(detectors))):
            spent, held, redacted = stream(text, detectors, begins)
            out.add(redacted)
            row = statistics.median(held), statistics.mean(held), sorted(held)[len(held) * 9 // 10], max(held)
            print(f"{name + ', ' + how:33}" + "".join(f"{value:8.0f}" for value in row) + f"{spent:8.1f}")
        assert len(out) == 1, "the same text comes out"


if __name__ == "__main__":
    main()
