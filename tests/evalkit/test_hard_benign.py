"""The hard-benign set keeps what its card promises."""

from __future__ import annotations

import json
import re
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

HOME = Path(__file__).parents[2] / "datasets" / "hard-benign"
KINDS = {
    "code-and-ignore", "quoted-attack", "prompt-writing", "security", "customer-mail", "role-play", "fiction",
    "imperative", "sysadmin", "documents", "teaching", "system-talk", "translation", "policy", "games",
    "moderation",
}  # fmt: skip
LANGUAGES = {"de", "fr", "es", "it"}

SAMPLES: list[dict[str, Any]] = [
    json.loads(line) for line in (HOME / "samples.jsonl").read_text(encoding="utf-8").splitlines()
]


def runs(text: str, size: int = 3) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.casefold())
    return {tuple(words[i : i + size]) for i in range(max(1, len(words) - size + 1))}


def test_the_set_is_large_enough_and_every_id_is_its_own() -> None:
    assert len(SAMPLES) >= 500
    assert len({sample["id"] for sample in SAMPLES}) == len(SAMPLES)
    assert all(sample["input"].strip() and sample["references"] == [] for sample in SAMPLES)


def test_no_two_prompts_are_near_duplicates() -> None:
    each = [(sample["id"], runs(sample["input"])) for sample in SAMPLES]
    close = [
        (one, other)
        for (one, left), (other, right) in combinations(each, 2)
        if 3 * len(left & right) >= len(left | right)
    ]
    assert close == []


def test_every_sample_has_one_kind_and_the_card_counts_them() -> None:
    kinds = Counter(tag for sample in SAMPLES for tag in sample["tags"] if tag in KINDS)
    assert kinds.keys() == KINDS
    assert sum(kinds.values()) == len(SAMPLES)
    assert {tag for sample in SAMPLES for tag in sample["tags"]} <= KINDS | LANGUAGES
    counted = re.findall(
        r"^\| `([\w-]+)` \| (\d+) \|", (HOME / "CARD.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert {kind: int(number) for kind, number in counted} == kinds
