"""What the default filters cost, each figure beside its goal.

    python tests/bench/filter_costs.py

CPU time of the process, all its threads; medians over different texts. The four detectors of the default
policy (personal data and secrets also in disguise, toxicity, jailbreaks), as the filters look at a whole
text, and the same as a call through both layers. Then the memory of a process, and what it pays before its
first verdict; and texts made to be slow, given to the detectors as they are (a filter would refuse 65,536
characters without a space unseen). The clean text comes from the folder that `EVALKIT_SHARED` names, else
`../shared`.
"""

from __future__ import annotations

import asyncio
import gc
import gzip
import importlib.util
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from guardrails import endpoint
from guardrails.call import Request
from guardrails.filters import Detector, Pii, scan
from guardrails.filters.detector import Reading
from guardrails.filters.jailbreak import Jailbreak
from guardrails.filters.normal import Normalized
from guardrails.filters.run import at_once, part_by_part
from guardrails.filters.secrets import Secrets
from guardrails.filters.toxicity import Toxicity

ROOT = Path(__file__).parents[2]
SHARED = Path(os.environ.get("EVALKIT_SHARED") or ROOT.parent / "shared")
PLACES: Mapping[str, Detector] = {"pii": Normalized(Pii()), "secrets": Normalized(Secrets())}
WINDOWS: Mapping[str, Detector] = {"toxicity": Toxicity(), "jailbreak": Jailbreak()}
DETECTORS = {**PLACES, **WINDOWS}
SIZES = {4_000: 3.0, 200: 0.4}  # and the milliseconds that the whole policy may take
HOSTILE_GOAL = 100.0  # milliseconds for 10,000 characters
HOSTILE_SIZE = 100_000


def looks() -> dict[str, Callable[[str], object]]:
    """How the filters look: for places part by part, with the judges of windows at all of it."""
    places = {name: partial(scan, detect=d.detect, reach=d.reach) for name, d in PLACES.items()}
    return {**places, **{name: d.detect for name, d in WINDOWS.items()}}


def everything(text: str) -> None:
    """All four, one after another, as the rules of one direction."""
    reading = Reading()
    for name, detector in DETECTORS.items():
        (part_by_part if name in PLACES else at_once)(detector, text, reading)


def clean(size: int, count: int) -> list[str]:
    """Passages of an encyclopedia."""
    with gzip.open(SHARED / "data/jailbreak/benign_wiki_2500.jsonl.gz", "rt", encoding="utf-8") as lines:
        prose = " ".join(json.loads(line)["text"] for line in lines)
    rng = random.Random(size)
    return [prose[at : at + size] for at in (rng.randrange(len(prose) - size) for _ in range(count))]


def milliseconds(work: Callable[[], object]) -> float:
    start = time.process_time_ns()
    work()
    return (time.process_time_ns() - start) / 1e6


def median(work: Callable[[str], object], texts: list[str]) -> float:
    for text in texts[:3]:
        work(text)
    return statistics.median(milliseconds(partial(work, text)) for text in texts)


def line(what: str, value: float, goal: float | None = None, unit: str = "ms") -> None:
    verdict = "" if goal is None else f"{goal:10.1f} {'met' if value <= goal else 'MISSED'}"
    print(f"{what:58}{value:10.2f} {unit:3}{verdict}")


def policy() -> None:
    """Clean text, detector by detector, and all of them."""
    for size, goal in SIZES.items():
        texts = clean(size, 300)
        total = 0.0
        for name, look in looks().items():
            spent = median(look, texts)
            total += spent
            line(f"{name}, {size:,} clean characters", spent)
        line(f"all four, sum of medians, {size:,} characters", total, goal)
        together = median(everything, texts)
        line(f"all four in one go, {size:,} characters", together, goal)
        bare, filtered = calls(size, None), calls(size, "default")
        line(f"a call through the default policy, {size:,} in and out", filtered - bare)


def calls(size: int, filters: str | None) -> float:
    """A call that is asked and answers so many characters, median."""
    texts, answers = clean(size, 200), iter(clean(size + 1, 400))

    async def answer(request: Request) -> str:
        return next(answers)

    async def spend() -> float:
        layers = [] if filters is None else _layers(filters)
        async with endpoint(answer, *layers) as llm:
            await llm.ask("warm")
            spent = []
            for text in texts:
                start = time.process_time_ns()
                await llm.ask(text)
                spent.append((time.process_time_ns() - start) / 1e6)
        return statistics.median(spent)

    return asyncio.run(spend())


def _layers(filters: str) -> list[Any]:
    """The layers that a policy file with `filters: default` makes."""
    from guardrails.config import BUILTIN
    from guardrails.filters.layers import layers
    from guardrails.filters.spec import Filters, rulebook
    from guardrails.named import Site
    from guardrails.source import Source

    site = Site(Source("policy", {}, {}), BUILTIN)
    book = rulebook(site, Filters.model_validate(filters))
    assert not site.found, site.found
    return list(layers(book))


def hostile_texts() -> dict[str, Callable[[int], str]]:
    """The texts of the tests."""
    path = ROOT / "tests/guardrails/filters/test_hostile.py"
    spec = importlib.util.spec_from_file_location("hostile_texts", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return dict(module.TEXTS)


def hostile() -> None:
    """CPU for 10,000 characters of the worst texts, at 100,000, and what half of the text costs."""
    print(f"\nhostile texts, ms for 10,000 characters at {HOSTILE_SIZE:,}, all four together the worst first")
    rows = []
    for name, made in hostile_texts().items():
        half, whole = made(HOSTILE_SIZE // 2), made(HOSTILE_SIZE)
        less = sum(milliseconds(partial(d.detect, half)) for d in DETECTORS.values())
        spent = {name: milliseconds(partial(d.detect, whole)) for name, d in DETECTORS.items()}
        total = sum(spent.values())
        share = 10_000 / len(whole)
        growth = (total / len(whole)) / (less / len(half))  # by length: nested base64 has not every length
        rows.append((total * share, name, growth, {d: ms * share for d, ms in spent.items()}))
    rows.sort(reverse=True)
    heads = "".join(f"{name:>11}" for name in ("all", *DETECTORS, "growth"))
    print(f"{'text':32}{heads}  (growth 1: linear)")
    for total, name, growth, by in rows[:15]:
        print(f"{name:32}{total:11.1f}" + "".join(f"{ms:11.1f}" for ms in by.values()) + f"{growth:11.2f}")
    worst = max(rows)
    line(f"the worst, all four: {worst[1]}", worst[0], HOSTILE_GOAL)
    single = max((ms, f"{d} on {name}") for _, name, _, by in rows for d, ms in by.items())
    line(f"the worst, one detector: {single[1]}", single[0], HOSTILE_GOAL)
    steepest = max((growth, name) for total, name, growth, _ in rows if total > 1)
    print(
        f"the steepest: {steepest[1]}, {steepest[0]:.2f} times as much for each character of twice the text"
    )


_PROCESS = """
import resource
def seen():
    use = resource.getrusage(resource.RUSAGE_SELF)
    now = next(line for line in open("/proc/self/status") if line.startswith("VmRSS"))
    return use.ru_utime + use.ru_stime, int(now.split()[1]) / 1024
started = seen()
import {first}
before = seen()
from guardrails.filters import Pii
from guardrails.filters.normal import Normalized
from guardrails.filters.run import at_once, part_by_part
from guardrails.filters.secrets import Secrets
from guardrails.filters.toxicity import Toxicity
from guardrails.filters.jailbreak import Jailbreak
for detector in (Normalized(Pii()), Normalized(Secrets()), Toxicity(), Jailbreak()):
    detector.detect("Mail jo@acme.com or call 212-555-0123, please. You are all idiots.")
print(*started, *before, *seen())
"""


def process() -> None:
    """Memory, and CPU before the first verdict, in processes of their own; medians of five."""
    print()
    for first in ("presidio_analyzer.predefined_recognizers", "guardrails"):
        runs = []
        for _ in range(5):
            done = subprocess.run(
                [sys.executable, "-c", _PROCESS.format(first=first)],
                capture_output=True,
                text=True,
                check=True,
                cwd=ROOT,
            )
            runs.append([float(word) for word in done.stdout.split()])
        began, _, imported, mib_before, verdict, mib = (
            statistics.median(column) for column in zip(*runs, strict=True)
        )
        line(f"import {first}", imported - began, unit="s")
        line("  resident then", mib_before, unit="MiB")
        if first == "guardrails":
            line("  then to the first verdict of all four", verdict - imported, unit="s")
            line("  resident with the default policy", mib, 180, "MiB")
        else:
            line("  from there to the first verdict of all four", verdict - imported, 0.6, "s")


def main() -> None:
    gc.collect()
    gc.freeze()
    print(f"{'':58}{'measured':>10}    {'goal':>10}")
    policy()
    process()
    hostile()


if __name__ == "__main__":
    main()
