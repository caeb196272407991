"""The support-desk golden set keeps what its card promises."""

from __future__ import annotations

import ipaddress
import itertools
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

HOME = Path(__file__).parents[2] / "datasets" / "support-desk"
TOPICS = {
    "returns", "warranty", "shipping", "repairs", "gift-cards",
    "loyalty", "account", "payments", "privacy", "stores",
}  # fmt: skip
FLAGS = {"pii", "unanswerable", "multi-turn", "angry", "typos"}
LEVELS = {"easy", "medium", "hard"}
FIELDS = {"id", "input", "messages", "references", "context", "tags", "metadata", "weight"}

Sample = dict[str, Any]


def load() -> list[Sample]:
    lines = (HOME / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def prompt(sample: Sample) -> str:
    if "input" in sample:
        return str(sample["input"])
    return "\n".join(message["content"] for message in sample["messages"])


def held(references: list[str], text: str) -> list[str]:
    return [reference for reference in references if reference.casefold() in text.casefold()]


def pii(samples: list[Sample], kind: str) -> list[str]:
    return [
        found["text"] for sample in samples for found in sample["metadata"]["pii"] if found["type"] == kind
    ]


def luhn(number: str) -> bool:
    digits = [int(character) for character in number if character.isdigit()]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return len(digits) in range(13, 20) and (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def mod97(iban: str) -> bool:
    compact = iban.replace(" ", "").upper()
    turned = compact[4:] + compact[:4]
    return int("".join(str(int(character, 36)) for character in turned)) % 97 == 1


def words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.casefold()))


SAMPLES = load()
EACH = pytest.mark.parametrize("sample", SAMPLES, ids=[sample["id"] for sample in SAMPLES])


def test_the_set_is_large_enough_and_every_id_is_its_own() -> None:
    assert len(SAMPLES) >= 80
    assert len({sample["id"] for sample in SAMPLES}) == len(SAMPLES)


def test_the_set_covers_what_it_is_for() -> None:
    tags = Counter(tag for sample in SAMPLES for tag in sample["tags"])
    assert set(tags) == TOPICS | FLAGS | LEVELS
    assert tags["pii"] >= 45
    assert tags["multi-turn"] >= 10
    assert tags["unanswerable"] >= 8
    assert min(tags[topic] for topic in TOPICS) >= 5
    beside_the_point = [s for s in SAMPLES if 0 < len(s["metadata"]["relevant"]) < len(s["context"])]
    assert len(beside_the_point) >= len(SAMPLES) / 3
    repeated = [s for s in SAMPLES if any(p["text"] in s["metadata"]["answer"] for p in s["metadata"]["pii"])]
    assert len(repeated) >= 25


@EACH
def test_a_sample_has_the_fields_of_the_card(sample: Sample) -> None:
    assert set(sample) <= FIELDS
    assert ("input" in sample) != ("messages" in sample)
    assert ("multi-turn" in sample["tags"]) == ("messages" in sample)
    for message in sample.get("messages", []):
        assert set(message) == {"role", "content"}
        assert message["role"] in {"system", "user", "assistant"}
    assert sample.get("messages", [{"role": "user"}])[-1]["role"] == "user"
    assert len(TOPICS & set(sample["tags"])) == 1
    assert len(LEVELS & set(sample["tags"])) == 1
    assert len(sample["context"]) in {1, 2, 3}
    assert set(sample["metadata"]["relevant"]) <= set(range(len(sample["context"])))
    assert ("unanswerable" in sample["tags"]) == (sample["metadata"]["relevant"] == [])
    assert sample.get("weight", 1.0) > 0


@EACH
def test_the_references_tell_the_right_answer_from_the_wrong_one(sample: Sample) -> None:
    assert sample["references"]
    assert held(sample["references"], sample["metadata"]["answer"])
    assert held(sample["references"], sample["metadata"]["wrong"]) == []


@EACH
def test_repeating_the_question_scores_nothing(sample: Sample) -> None:
    assert held(sample["references"], prompt(sample)) == []


@EACH
def test_every_reference_stands_in_a_passage_that_is_marked_as_relevant(sample: Sample) -> None:
    if "unanswerable" in sample["tags"]:
        passages = "\n".join(sample["context"])
        assert held(sample["references"], passages) == []
        return
    relevant = "\n".join(sample["context"][position] for position in sample["metadata"]["relevant"])
    assert held(sample["references"], relevant) == sample["references"]


@EACH
def test_the_labels_of_personal_data_match_the_prompt(sample: Sample) -> None:
    labels = sample["metadata"]["pii"]
    assert bool(labels) == ("pii" in sample["tags"])
    assert [label for label in labels if label["text"] not in prompt(sample)] == []
    found = re.findall(r"[\w.+-]+@[\w.-]+\w", prompt(sample))
    assert found == [label["text"] for label in labels if label["type"] == "EMAIL_ADDRESS"]


def test_no_number_or_address_can_belong_to_anybody() -> None:
    for card in pii(SAMPLES, "CREDIT_CARD"):
        assert luhn(card), card
    for iban in pii(SAMPLES, "IBAN_CODE"):
        assert mod97(iban), iban
    for email in pii(SAMPLES, "EMAIL_ADDRESS"):
        assert re.search(r"[@.]example\.(com|org|net)$", email), email
    for phone in pii(SAMPLES, "PHONE_NUMBER"):
        assert re.search(r"555-01\d\d$", phone), phone
    for address in pii(SAMPLES, "IP_ADDRESS"):
        assert ipaddress.ip_address(address) in ipaddress.ip_network("192.0.2.0/24"), address
    assert set(pii(SAMPLES, "US_SSN")) <= {"219-09-9999", "078-05-1120"}


def test_no_two_prompts_are_nearly_the_same() -> None:
    bags = [(sample["id"], words(prompt(sample))) for sample in SAMPLES]
    alike = [
        (one, other)
        for (one, left), (other, right) in itertools.combinations(bags, 2)
        if len(left & right) / len(left | right) >= 0.8
    ]
    assert alike == []


def test_the_card_describes_this_very_set() -> None:
    _, front, prose = (HOME / "CARD.md").read_text(encoding="utf-8").split("---\n", 2)
    card = yaml.safe_load(front)
    assert card["name"] == HOME.name
    assert card["samples"] == len(SAMPLES)
    assert card["scorer"] == "contains"
    assert card["licence"] == "Apache-2.0"
    tags = Counter(tag for sample in SAMPLES for tag in sample["tags"])
    for tag, sentence in {
        "unanswerable": "In {} samples (`unanswerable`)",
        "pii": "In {} samples (`pii`)",
        "multi-turn": "({} samples, tag `multi-turn`)",
    }.items():
        assert sentence.format(tags[tag]) in prose


@pytest.mark.parametrize(("number", "valid"), [("4111 1111 1111 1111", True), ("4111 1111 1111 1112", False)])
def test_the_luhn_check_can_fail(number: str, valid: bool) -> None:
    assert luhn(number) is valid


@pytest.mark.parametrize(
    ("iban", "valid"), [("GB82 WEST 1234 5698 7654 32", True), ("GB28 WEST 1234 5698 7654 32", False)]
)
def test_the_iban_check_can_fail(iban: str, valid: bool) -> None:
    assert mod97(iban) is valid
