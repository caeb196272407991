"""What finding personal data costs, beside Presidio's own engine in the same run.

    python tests/bench/filters.py [--all]

CPU per text, the least of five looks (each side loads patterns at its first), median over different texts.
Clean: encyclopaedia passages that Presidio finds nothing in but for a licence's number (a letter and digits)
now and then; sparse: one identifier in every 200 characters; dense: three in four words belong to one. Both
sides look for the 17 default kinds at a threshold of 0.4, with `rules="presidio"`, and the findings are
compared. Then `rules="own"`, hostile texts, and what a process pays
before its first verdict. `--all` compares the findings on every text of the shared data (a minute).

The data comes from the folder that `EVALKIT_SHARED` names, else `../shared`.
"""

from __future__ import annotations

import gzip
import json
import math
import os
import random
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pii_texts
from presidio_oracle import engine, finder

from guardrails.filters import Pii, scan

SHARED = Path(os.environ.get("EVALKIT_SHARED") or Path(__file__).parents[2].parent / "shared")
SIZES = (200, 4000)
HOSTILE = (
    *(
        "a.",
        "www.",
        "@",
        "1-",
        "1 ",
        "{",
        "a@",
        "a.a@",
        "a.in",
        "a.com/",
        "http://a",
        "a:",
        "ab:",
        "1",
        "A1",
        "1.",
        "(1",
    ),
    *("12345678 ", "020 7946 0", "+1", "0 ", "DE89 ", "a!", '"a.com', "ssn 1 ", "請"),
)


def texts(name: str, field: str = "text") -> list[str]:
    """The texts of a shared file."""
    with gzip.open(SHARED / "data" / name, "rt", encoding="utf-8") as lines:
        return [json.loads(line)[field] for line in lines]


def samples(kind: str, size: int, count: int) -> list[str]:
    """Texts of that kind and size."""
    rng = random.Random(f"{kind} {size}")
    prose = " ".join(texts("jailbreak/benign_wiki_2500.jsonl.gz"))
    out = []
    for _ in range(count):
        at = rng.randrange(len(prose) - size)
        text = prose[at : at + size]
        if kind == "sparse":
            parts = [text[at : at + 170] for at in range(0, size, 170)]
            text = "".join(f"{part[:85]} {rng.choice(pii_texts.KINDS)(rng)} {part[85:]}" for part in parts)
        elif kind == "dense":
            text = ""
            while len(text) < size:
                text += pii_texts.sentence(rng, share=0.75)
        out.append(text[:size])
    return out


def milliseconds(works: Sequence[Callable[[str], object]], cases: list[str]) -> list[float]:
    """Median CPU of a call, the least of five for each text; all take turns at it."""
    spent: list[list[float]] = [[] for _ in works]
    for text in cases:
        least = [math.inf] * len(works)
        for _ in range(5):
            for number, work in enumerate(works):
                start = time.process_time_ns()
                work(text)
                least[number] = min(least[number], (time.process_time_ns() - start) / 1e6)
        for one, value in zip(spent, least, strict=True):
            one.append(value)
    return list(map(statistics.median, spent))


def table() -> None:
    """Both engines, side by side."""
    theirs = finder(engine(), 0.4)
    same, own = Pii(rules="presidio"), Pii()
    same.warm(), own.warm()
    print(
        f"{'ms CPU a text, median':32}{'Presidio':>10}{'rules=presidio':>16}{'times':>7}"
        f"{'rules=own':>11}{'times':>7}  findings"
    )
    for kind in ("clean", "sparse", "dense"):
        for size in SIZES:
            cases = samples(kind, size, 60 if size == 200 else 20)
            slow, fast, ours = milliseconds((theirs, same.detect, own.detect), cases)
            found = [theirs(text) for text in cases]
            equal = all(
                {(f.kind, f.start, f.end, f.score) for f in same.detect(text)} == keys
                for text, keys in zip(cases, found, strict=True)
            )
            label = f"{kind}, {size:,} characters, n={len(cases)}"
            total = f"{sum(map(len, found))} {'equal' if equal else 'DIFFERENT'}"
            print(
                f"{label:32}{slow:10.2f}{fast:16.3f}{slow / fast:6.1f}×"
                f"{ours:11.3f}{slow / ours:6.1f}×  {total}"
            )


def hostile() -> None:
    """CPU per 10,000 characters of texts that make careless patterns slow, read as the filters read them."""
    print(f"\n{'hostile, ms CPU per 10,000 characters of':42}{'20,000':>9}{'100,000':>9}")
    for rules in ("own", "presidio"):
        detector = Pii(rules=rules)  # type: ignore[arg-type] # both are allowed
        for unit in HOSTILE:
            row = ""
            for size in (20_000, 100_000):
                text = unit * (size // len(unit))
                start = time.process_time()
                detector.detect(text) if rules == "presidio" else scan(text, detector.detect, detector.reach)
                row += f"{(time.process_time() - start) * 1e3 * 1e4 / size:9.1f}"
            print(f"{rules:9} {unit!r:32}{row}")


_START = """
import resource, time
def seen():
    use = resource.getrusage(resource.RUSAGE_SELF)
    peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    return use.ru_utime + use.ru_stime, int(peak.split()[1]) / 1024
{first}
before = seen()
{second}
after = seen()
print(*before, *after)
"""


def start() -> None:
    """What a process pays before its first verdict."""
    first = "import presidio_analyzer.predefined_recognizers"
    second = "from guardrails.filters import Pii; Pii().detect('jo@acme.com, 212-555-0123, https://acme.com')"
    print(f"\n{'from start to':52}{'s CPU':>8}{'MiB RSS':>9}")
    for label, before in (
        ("importing presidio-analyzer (spaCy included)", first),
        ("import guardrails.filters", "import guardrails.filters"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", _START.format(first=before, second=second)],
            capture_output=True,
            text=True,
            check=True,
        )
        cpu, rss, cpu_after, rss_after = map(float, done.stdout.split())
        print(
            f"{label:52}{cpu:8.2f}{rss:9.0f}\n"
            f"{'  and then to the first verdict':52}{cpu_after:8.2f}{rss_after:9.0f}"
        )


def compare() -> None:
    """The findings on all shared data, at every score."""
    theirs, ours = finder(engine(), 0.0), Pii(rules="presidio", threshold=1e-9)
    for path in sorted((SHARED / "data/pii").glob("*.gz")):
        cases = texts(f"pii/{path.name}")
        found = different = 0
        for text in cases:
            keys = theirs(text)
            found += len(keys)
            different += keys != {(f.kind, f.start, f.end, f.score) for f in ours.detect(text)}
        print(f"{path.name:32}{len(cases):6} texts{found:7} findings{different:4} texts with a difference")


if __name__ == "__main__":
    table()
    hostile()
    start()
    if "--all" in sys.argv:
        print()
        compare()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"\npeak of this process, Presidio's engine included: {peak:.0f} MiB")
