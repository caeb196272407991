"""What do 10,000 and 100,000 rows cost to sum up? Bytes a row, CPU a row, peak memory.

    python tests/bench/columns.py 100000

Rows are decoded from JSON one by one, as a store streams them; decoding alone is measured in the same run
and taken off. Memory is this process's: run the sizes one after the other to compare.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from typing import Any

import orjson

from evalkit.columns import Columns
from evalkit.compare import compare
from evalkit.gate import parse
from evalkit.summary import summarise
from evalkit.trial import Trial
from evalkit.verdict import decide_all
from judges.judge import Answer, Score

RECORD: dict[str, Any] = {
    "id": "c" * 32, "at": "2026-11-21", "endpoint": "vendor", "model": "m", "model_reported": "m-2026",
    "outcome": "complete", "finish_reason": "stop", "queue_ms": 0.1, "ttft_ms": 100.1, "ttfot_ms": 100.2,
    "tpot_ms": 10.0, "e2e_ms": 500.1, "input_tokens": 120, "output_tokens": 35, "token_source": "usage",
    "cost_usd": "0.0001234", "price_version": "2026-11", "wasted_usd": "0", "cached": False,
    "findings": [{"direction": "input", "kind": "EMAIL_ADDRESS", "action": "redact", "count": 1}],
    "scanned": ["input", "output"], "not_scanned": [],
}  # fmt: skip
GATES = ("pass_rate >= 80%", "p99_ttft_ms <= 800", "cost_per_call_usd <= 0.002", 'pass_rate >= "arm0" - 2%')


def plain(number: int) -> dict[str, Any]:
    """One row of two arms that each answer every sample."""
    row = Trial(
        *("run", f"sample-{number // 2:06d}", f"arm{number % 2}", f"{number:064x}", "2026-11-21T09:00:00"),
        set="support",
        place=number,
        content=f"{number // 2:064x}",
        tags=("billing", "easy"),
        answer=Answer("An answer of about two hundred characters, as people get them. " * 3),
        scores={"contains": Score.verdict(number % 7 != 0, "a reason")},
        record={**RECORD, "ttft_ms": 80 + number * 7919 % 997 / 10},
    )
    return row.as_dict()


def rows(lines: list[bytes], count: int) -> Iterator[Trial]:
    for number in range(count):
        raw = orjson.loads(lines[number % len(lines)])
        raw |= {"sample": f"sample-{number // 2:06d}", "place": number, "content": f"{number // 2:064x}"}
        yield Trial.read(raw)


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(count: int) -> None:
    lines = [orjson.dumps(plain(number)) for number in range(1_000)]
    Columns.of(rows(lines, 1_000))
    before = peak()
    began = time.process_time()
    for _ in rows(lines, count):
        pass
    decoded = time.process_time() - began
    began = time.process_time()
    columns = Columns.of(rows(lines, count))
    built = time.process_time() - began - decoded
    kept = peak()
    began = time.process_time()
    summarise(columns)
    compare(columns)
    decide_all([parse(each) for each in GATES], columns)
    summed = time.process_time() - began
    print(f"{count:,} rows: {columns.nbytes / count:.0f} B a row kept")
    print(f"CPU a row: {1e6 * decoded / count:.1f} µs decoding, {1e6 * built / count:.1f} µs columns")
    print(f"numbers, comparison and {len(GATES)} gates: {summed:.2f} s CPU")
    print(f"peak RSS: {before:.0f} MiB before, {kept:.0f} MiB with columns, {peak():.0f} MiB at the end")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
