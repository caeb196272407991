"""What secrets and normalization cost: CPU per call for texts of 200 and 4,000 characters.

    python tests/bench/secrets_normal.py

Clean: encyclopaedia passages from the folder that `EVALKIT_SHARED` names, else `../shared`. Dense: the same
with a key, a password and an obfuscated address in every 200 characters. Hostile: 100,000 characters each,
given per 10,000.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from guardrails.filters.normal import normalize
from guardrails.filters.secrets import Secrets


def clean() -> str:
    """Some 100,000 characters of ordinary English."""
    shared = Path(os.environ.get("EVALKIT_SHARED") or Path(__file__).parents[2].parent / "shared")
    with gzip.open(shared / "data/jailbreak/benign_wiki_2500.jsonl.gz", "rt", encoding="utf-8") as lines:
        return " ".join(json.loads(line)["text"] for line in lines)[:100_000]


def dense(text: str) -> str:
    """The text with something to find in every 200 characters."""
    planted = " AKIA2OGYBAH6QLVPX5MZ password=hunter2!x jo&#64;acme.com "
    return "".join(text[at : at + 150] + planted for at in range(0, len(text), 150))


def microseconds(work: Callable[[str], object], texts: list[str]) -> float:
    """Median CPU time of a call."""
    spent = []
    for text in texts * 8:
        start = time.perf_counter_ns()
        work(text)
        spent.append((time.perf_counter_ns() - start) / 1000)
    return statistics.median(spent)


def hostile() -> dict[str, str]:
    """Long texts that make careless patterns slow."""
    size, randomly = 100_000, random.Random(7)
    texts = {repr(unit): unit * (size // len(unit)) for unit in HOSTILE}
    texts["random bytes"] = randomly.randbytes(size).decode("latin-1")
    texts["random unicode"] = "".join(chr(randomly.randrange(0x20, 0x3000)) for _ in range(size))
    return texts


HOSTILE = (
    *("a.", "www.", "@", "1-", "{", "\u200b", "e\u0301", "\u0301\u0316", "%41", "%25", "&amp;", "&#", "QUJD"),
    *("sk-", "s.", "eyJ", "eyJ.", "password=", "key:", "token is ", "://a:", "-u a:", "xoxb-1-", "AKIA"),
    *("-----BEGIN ", "-----BEGIN PRIVATE KEY-----", "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0\n"),
    *("\ufdfa", "\u0430b", "\U000e0041"),
)


def main() -> None:
    """Print the table."""
    detector = Secrets()
    detector.warm()
    text = clean()
    works: dict[str, Callable[[str], object]] = {"secrets": detector.detect, "normalize": normalize}
    print(f"{'µs a call, median':28}" + "".join(f"{name:>12}" for name in works))
    for kind, source in (
        ("clean", text),
        ("dense", dense(text)),
        ("clean, one é", text.replace("the", "thé")),
    ):
        for size in (200, 4000):
            pieces = [source[at : at + size] for at in range(0, 100_000 - size, max(size, 2000))]
            row = "".join(f"{microseconds(work, pieces):12.1f}" for work in works.values())
            print(f"{kind + f', {size:,} characters':28}{row}")
    print("\nhostile, ms per 10,000 characters")
    for label, attack in hostile().items():
        row = ""
        for work in works.values():
            start = time.process_time()
            work(attack)
            row += f"{(time.process_time() - start) * 1e4 / len(attack) * 1e3:12.2f}"
        print(f"{label[:28]:28}{row}")


if __name__ == "__main__":
    main()
