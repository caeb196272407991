"""The short-facts set holds what its card says, and each sample tells a right answer from a wrong one."""

from __future__ import annotations

import json
import re
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

FOLDER = Path(__file__).parents[2] / "datasets" / "short-facts"
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
LEVELS = {"easy", "medium", "hard"}


def load() -> list[dict[str, Any]]:
    text = (FOLDER / "samples.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def accepts(scorer: str, text: str, references: list[str]) -> bool:
    """Score `text` by the rule that the card gives for `scorer`."""
    if scorer == "contains":
        return any(reference.casefold() in text.casefold() for reference in references)
    if scorer == "exact":
        return text in references
    if scorer == "choice":
        return text.split(")")[0] in references
    if scorer == "numeric":
        numbers = NUMBER.findall(text)
        return bool(numbers) and Decimal(numbers[-1]) in map(Decimal, references)
    raise AssertionError(f"unknown scorer {scorer!r}")


SAMPLES = load()


def test_ids_and_prompts_are_unique() -> None:
    assert [sample["id"] for sample in SAMPLES] == [f"sf-{i:03d}" for i in range(1, len(SAMPLES) + 1)]
    assert len({sample["input"] for sample in SAMPLES}) == len(SAMPLES)


def test_counts() -> None:
    counts = Counter(sample["metadata"]["scorer"] for sample in SAMPLES)
    assert counts == {"contains": 56, "exact": 7, "numeric": 52, "choice": 12}


def test_the_card_agrees_with_the_samples() -> None:
    _, front, prose = (FOLDER / "CARD.md").read_text(encoding="utf-8").split("---\n", 2)
    card = yaml.safe_load(front)
    assert card["name"] == FOLDER.name
    assert card["version"] == "1.0.0"
    assert card["licence"] == "Apache-2.0"
    assert card["samples"] == len(SAMPLES)
    for scorer, n in Counter(sample["metadata"]["scorer"] for sample in SAMPLES).items():
        assert f"| `{scorer}` | {n} |" in prose


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample["id"])
def test_sample(sample: dict[str, Any]) -> None:
    assert sample.keys() == {"id", "input", "references", "tags", "metadata"}
    metadata = sample["metadata"]
    assert metadata.keys() == {"answer", "wrong", "scorer"}
    assert sample["references"]
    assert all(reference.strip() == reference != "" for reference in sample["references"])
    assert len(LEVELS.intersection(sample["tags"])) == 1

    scorer = metadata["scorer"]
    assert accepts(scorer, metadata["answer"], sample["references"])
    assert not accepts(scorer, metadata["wrong"], sample["references"])
    assert not any(reference in metadata["wrong"] for reference in sample["references"])
    if scorer == "contains":
        assert not accepts(scorer, sample["input"], sample["references"]), "the prompt gives the answer away"
    if scorer == "choice":
        options = dict(line.split(") ", 1) for line in sample["input"].splitlines()[1:])
        assert list(options) == ["A", "B", "C", "D"]
        for text in (metadata["answer"], metadata["wrong"]):
            letter, option = text.split(") ", 1)
            assert options[letter] == option
