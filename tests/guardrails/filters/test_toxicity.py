"""The embedded toxicity model: the file is the card's, it finds what it is for, and its figures hold."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrails.errors import ConfigError
from guardrails.filters.detector import Detector
from guardrails.filters.linear import Features, LinearModel
from guardrails.filters.toxicity import Toxicity

ROOT = Path(__file__).parents[3]
DATA = Path(os.environ.get("EVALKIT_SHARED") or ROOT.parent / "shared") / "data"
WEIGHTS = resources.files("guardrails.filters") / "weights"

INSULTS = ["You are a fucking idiot.", "shut up you stupid bitch", "what a worthless piece of shit you are"]
PLAIN = [
    "Have a nice day!",
    "How do I reset my password?",
    "The class passed its assessment in Scunthorpe.",
    "hello",
]


def test_it_is_a_detector() -> None:
    detector: Detector = Toxicity()
    assert (detector.name, detector.reach) == ("toxicity", 0)


def test_the_weights_are_those_of_the_card() -> None:
    card = (WEIGHTS / "toxicity.md").read_text(encoding="utf-8")
    data = (WEIGHTS / "toxicity.linear").read_bytes()
    assert f"sha256 `{hashlib.sha256(data).hexdigest()}`" in card
    assert f"{len(data)} bytes" in card
    assert f"Threshold: **{LinearModel.load('toxicity').threshold}**" in card
    assert len(data) < 200_000


@pytest.mark.parametrize("text", INSULTS)
def test_insults_are_found(text: str) -> None:
    (finding,) = Toxicity().detect(text)
    assert (finding.kind, finding.detector, finding.start, finding.end) == (
        "TOXICITY",
        "toxicity",
        0,
        len(text),
    )
    assert finding.score == Toxicity().score(text)


@pytest.mark.parametrize("text", [*PLAIN, "", "   ", "\u200b"])
def test_plain_text_passes(text: str) -> None:
    assert Toxicity().detect(text) == []


def test_the_score_is_this_everywhere() -> None:
    model = LinearModel.load("toxicity")
    (block,) = Features.of(INSULTS[0])
    totals = [
        int(model.weights[block.buckets[a:b]].sum())
        for a, b in zip(block.low[:, 0], block.high[:, -1], strict=True)
    ]
    odds = (
        np.dot(totals, (1, 1, 1, 1, 3, 3))
        / np.sqrt((block.high[:, -1] - block.low[:, 0]).sum())
        * model.scale
        + model.bias
    )
    assert Toxicity().score(INSULTS[0]) == pytest.approx(1 / (1 + np.exp(-odds)), abs=1e-6)


def test_an_insult_in_a_long_text_is_found_where_it_is() -> None:
    plain = "The committee met on Tuesday and discussed the budget for the coming year. "
    text = plain * 40 + INSULTS[1] + ". " + plain * 40
    findings = Toxicity(threshold=0.5).detect(text)
    place = text.index(INSULTS[1])
    assert findings
    assert all(found.start < place + len(INSULTS[1]) and place < found.end for found in findings)
    assert max(found.end - found.start for found in findings) < 250


@given(st.text(max_size=500), st.floats(0.01, 1))
def test_findings_are_the_windows_that_reach_the_threshold(text: str, threshold: float) -> None:
    detector = Toxicity(threshold)
    findings = detector.detect(text)
    windows = [w for w in LinearModel.load("toxicity").windows(text) if w.score >= threshold]
    assert [(f.start, f.end, f.score) for f in findings] == windows
    assert bool(findings) == (detector.score(text) >= threshold)
    assert findings == [finding for block in Features.of(text) for finding in detector.judge(block)]


def test_the_default_threshold_is_the_models() -> None:
    chosen = LinearModel.load("toxicity").threshold
    for text in [*INSULTS, *PLAIN]:
        assert Toxicity().detect(text) == Toxicity(chosen).detect(text)


@pytest.mark.parametrize("threshold", [0, -0.1, 1.1, float("nan")])
def test_a_threshold_that_cannot_work_is_an_error(threshold: float) -> None:
    with pytest.raises(ConfigError, match="threshold"):
        Toxicity(threshold)


def test_threads_agree() -> None:
    texts = [text * 30 for text in INSULTS + PLAIN]
    detector = Toxicity()
    detector.warm()
    alone = [detector.detect(text) for text in texts]
    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(lambda _: [detector.detect(text) for text in texts], range(16)):
            assert found == alone


# --- figures -----------------------------------------------------------------------------------------------


def rows(name: str) -> list[dict[str, Any]]:
    path = DATA / f"{name}.jsonl.gz"
    if not path.exists():
        pytest.skip(f"{path} is not here: set EVALKIT_SHARED to the folder of public data")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def held_out(source: str, group: str) -> bool:
    """The dev part, by the rule that `training/linear.py` states."""
    digest = hashlib.sha256(f"{source}/{group}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") % 5 == 0


def words(text: str) -> str:
    return " ".join("".join(c if c.isalnum() else " " for c in text.lower()).split())


@pytest.mark.parametrize(
    ("source", "floor"), [("davidson_tweets", 0.97), ("paradetox", 0.985), ("toxigen_human", 0.81)]
)
def test_held_out_texts_are_told_apart(source: str, floor: float) -> None:
    # The goals are .975, .99 and .82; a sample of 1,500 may lie a little below.
    sample = [
        row
        for row in rows(f"toxicity/{source}")
        if held_out(source, str(row["pair"]) if "pair" in row else words(row["text"]))
    ]
    sample = sample[:: max(1, len(sample) // 1500)]  # the files are sorted
    scores = np.array([Toxicity().score(row["text"]) for row in sample])
    toxic = np.array([row["label"] for row in sample]) == 1
    wins = scores[toxic][:, None] > scores[~toxic]
    ties = scores[toxic][:, None] == scores[~toxic]
    assert (wins + ties / 2).mean() >= floor


def test_benign_prompts_pass() -> None:
    sample = rows("jailbreak/arena_hard_benign")
    flagged = np.mean([bool(Toxicity().detect(row["text"])) for row in sample])
    assert flagged <= 0.02


def test_the_card_names_what_it_misses() -> None:
    card = (WEIGHTS / "toxicity.md").read_text(encoding="utf-8")
    for functionality in ("counter_quote_nh", "negate_neg_nh", "slur_reclaimed_nh"):
        assert re.search(rf"\| {functionality} \| not \| \d+ \| \d\.\d+ \[", card)
