"""How far `guardrails.tokens.estimate` is from o200k_base, by kind of text.

    TIKTOKEN_CACHE_DIR=../shared/tiktoken python tests/bench/token_estimate.py

Texts come from the folder that `EVALKIT_SHARED` names, else `../shared`. The rule was fitted on the texts
whose hash is even; the table is of the odd ones, which it has never seen. Relative error =
|estimate − exact| / exact, per text; bias = sum of the estimates / sum of the exact counts − 1.
"""

from __future__ import annotations

import gzip
import json
import os
import statistics
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

KINDS = ("prose", "chat", "code", "european", "cyrillic", "cjk")


def shared() -> Path:
    """The folder of public texts."""
    return Path(os.environ.get("EVALKIT_SHARED") or Path(__file__).parents[2].parent / "shared")


def rows(name: str) -> Iterator[dict[str, Any]]:
    """The rows of one data set."""
    with gzip.open(shared() / "data" / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def share(text: str, first: str, last: str) -> float:
    """The part of the characters that lies in a range."""
    return sum(first <= letter <= last for letter in text) / len(text)


def kind_of_prompt(text: str) -> str:
    """Sort a prompt by its script."""
    if share(text, "\u0400", "\u04ff") > 0.2:
        return "cyrillic"
    if share(text, "\u3040", "\u9fff") + share(text, "\uac00", "\ud7af") > 0.2:
        return "cjk"
    if share(text, "\u00c0", "\u024f") > 0.01:
        return "european"
    return "chat"


def texts() -> Iterator[tuple[str, str]]:
    """(kind, text), each text of 40 to 6,000 characters."""
    for row in rows("jailbreak/arena_hard_benign"):
        yield kind_of_prompt(row["text"]), row["text"]
    for name in ("jailbreak/deepset_train", "jailbreak/deepset_test"):
        for row in rows(name):
            if kind_of_prompt(row["text"]) == "european":
                yield "european", row["text"]
    for row in rows("jailbreak/benign_gsm8k_sample1500"):
        yield "chat", row["text"]
    for row in rows("jailbreak/benign_wiki_2500"):
        yield "prose", row["text"]
    for row in rows("groundedness/ragtruth_train66"):
        yield "prose", row["context"]
    for row in rows("code/HumanEval"):
        yield "code", row["prompt"] + row["canonical_solution"]
    for row in rows("code/mbpp_sanitized"):
        yield "code", row["canonical_solution"] + row["test"]
    for row in rows("jailbreak/benign_code_docs"):
        yield "code", row["text"]


def half(odd: bool) -> dict[str, list[str]]:
    """One half of the distinct texts, by kind."""
    found: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for kind, text in dict.fromkeys((kind, text[:6000]) for kind, text in texts() if len(text) >= 40):
        if zlib.crc32(text.encode()) % 2 == odd:
            found[kind].append(text)
    return found


def errors(
    count: Callable[[str], int], exact: Callable[[str], int], sample: list[str]
) -> tuple[float, float, float]:
    """(mean, 95th percentile) of the relative error, and the bias."""
    pairs = [(count(text), exact(text)) for text in sample]
    relative = sorted(abs(n - true) / true for n, true in pairs)
    bias = sum(n for n, _ in pairs) / sum(true for _, true in pairs) - 1
    return statistics.fmean(relative), relative[int(0.95 * (len(relative) - 1))], bias


def main() -> None:
    """Print the table."""
    from guardrails import tokens

    os.environ.setdefault("TIKTOKEN_CACHE_DIR", str(shared() / "tiktoken"))
    if not tokens.warm("gpt-4o"):
        sys.exit("no o200k_base vocabulary: set TIKTOKEN_CACHE_DIR or EVALKIT_SHARED")
    print(f"{'kind':10} {'n':>5} {'mean':>7} {'p95':>7} {'bias':>7}")
    for kind, sample in half(odd=True).items():
        mean, p95, bias = errors(tokens.estimate, lambda text: tokens.count(text, "gpt-4o").n, sample)
        print(f"{kind:10} {len(sample):5} {mean:7.1%} {p95:7.1%} {bias:+7.1%}")
    everything = "\n".join(text for sample in half(odd=True).values() for text in sample)
    start = time.perf_counter()
    tokens.estimate(everything)
    spent = time.perf_counter() - start
    print(f"{spent / len(everything) * 1e9:.0f} ns per character over {len(everything):,} characters")


if __name__ == "__main__":
    main()
