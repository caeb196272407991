"""CPU time of the linear text models: one extraction, and what each model adds.

    python tests/bench/linear.py

Medians over short batches, µs of CPU of this process. 100,000 characters of hostile input show that time is
linear in the length whatever the text.
"""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable, Sequence

from guardrails.filters.linear import Features, LinearModel

PROSE = (
    "The committee met on Tuesday, and discussed the budget for the coming year; nobody was surprised. "
    "How do I reset the password of my 2nd account? I've tried everything twice.\n"
)
HOSTILE = ["a.", "www.", "@", "1-", "{", "\u200b", "a ", "🙂"]


def microseconds(work: Callable[[], object], batch: int, batches: int = 30) -> float:
    """The median CPU time of one call."""
    work()
    times = []
    for _ in range(batches):
        start = time.process_time_ns()
        for _ in range(batch):
            work()
        times.append((time.process_time_ns() - start) / batch / 1e3)
    return statistics.median(times)


def extract(text: str) -> list[Features]:
    """The features of all blocks."""
    return list(Features.of(text))


def judge(model: LinearModel, blocks: Sequence[Features]) -> list[object]:
    """What a model adds once the features are there."""
    return [model.judge(block) for block in blocks]


def main() -> None:
    model = LinearModel.load("toxicity")
    print("characters   extraction   + one model   + two models   (µs of CPU)")
    for size in (200, 4_000, 100_000):
        text = (PROSE * (size // len(PROSE) + 1))[:size]
        blocks = extract(text)
        batch = max(1, 100_000 // size)
        extraction = microseconds(functools.partial(extract, text), batch)
        judging = microseconds(functools.partial(judge, model, blocks), batch)
        print(f"{size:10,} {extraction:12.1f} {extraction + judging:13.1f} {extraction + 2 * judging:14.1f}")
    print("\nhostile, 100,000 characters: µs per 10,000")
    for unit in HOSTILE:
        text = (unit * 100_000)[:100_000]
        spent = microseconds(functools.partial(model.score, text), 1)
        print(f"{unit!r:>10} {spent / 10:10.1f}")


if __name__ == "__main__":
    main()
