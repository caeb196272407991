"""Claims against their context, relevancy, retrieval: with a scripted model."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrails.call import Call, Usage
from guardrails.errors import ConfigError
from guardrails.testing import Script, ScriptedEndpoint
from judges.claims import (
    ContextPrecision,
    ContextRecall,
    Faithfulness,
    Hallucination,
    Relevancy,
    precision,
    verbatim,
)
from judges.judge import Answer, Question, Score
from judges.llm import Model, fenced, verdict_of

PASSAGES = ("Canberra is the capital\nof Australia. It has 470,000 people.", "Sydney is larger.")
ASKED = Question("Tell me about Canberra.", ("Canberra is the capital. It has 470,000 people.",), PASSAGES)

Found = tuple[str, str]  # what a claim is found to be, and the quotation


def verifier(
    claims: Sequence[str], found: Mapping[str, Found], usage: Usage | None = None
) -> ScriptedEndpoint:
    """A model that splits any text into `claims`, and finds of each what it is told."""

    def answer(call: Call) -> Any:
        if "take a text apart" in call.request.messages[0].text:
            return Script(verdict_of(call, claims=list(claims)), usage=usage)
        shown = re.findall(r"<claim-(\d+)-[0-9a-f]+>\n(.*)\n</claim", call.request.messages[1].text)
        rows = [{"number": int(n), "quote": found[claim][1], "found": found[claim][0]} for n, claim in shown]
        return Script(verdict_of(call, claims=rows[::-1]), usage=usage)

    return ScriptedEndpoint(answer)


def run(judge: Any, answer: str = "An answer.", question: Question = ASKED) -> Score:
    said = asyncio.run(judge(question, Answer(answer)))
    assert isinstance(said, Score)
    return said


FOUND: dict[str, Found] = {
    "It is the capital.": ("supported", "Canberra is the capital of Australia"),
    "It has 470,000 people.": ("supported", "“It has  470,000 people.”"),
    "It is old.": ("not_found", ""),
    "It is larger than Sydney.": ("contradicted", "Sydney is larger."),
    "It lies at the sea.": ("supported", "Canberra lies at the sea"),
    "It is hot.": ("contradicted", "."),
}


def test_faithfulness_is_the_share_of_claims_that_a_real_quotation_supports() -> None:
    endpoint = verifier(list(FOUND), FOUND, Usage(10, 5, cost=Decimal("0.01")))
    said = run(Faithfulness(asked=Model(endpoint), batch=4))
    assert said.value == pytest.approx(2 / 6)
    assert said.passed is False
    assert [part["found"] for part in said.parts] == [
        "supported", "supported", "not_found", "contradicted", "not_found", "not_found",
    ]  # fmt: skip
    assert [part["downgraded"] for part in said.parts] == [False] * 4 + [True] * 2
    assert said.parts[4]["quote"] == ""
    assert said.reason == (
        "2 of 6 claims supported, 1 contradicted, 3 not found; 2 by a quotation that is not in the context"
    )
    assert len(endpoint.calls) == 3  # one to split, two batches
    assert (said.cost_usd, said.tokens) == (pytest.approx(0.03), 45)


def test_an_answer_without_claims_hallucinates_nothing() -> None:
    said = run(Faithfulness(asked=Model(verifier([], {}))), "I do not know.")
    assert (said.value, said.passed, said.reason) == (1.0, True, "no claims to verify")
    endpoint = verifier([], {})
    assert run(Faithfulness(asked=Model(endpoint)), "  ").value == 1.0
    assert not endpoint.calls


def test_one_failed_batch_fails_the_answer() -> None:
    def answer(call: Call) -> Any:
        if "take a text apart" in call.request.messages[0].text:
            return verdict_of(call, claims=["a", "b"])
        if fenced(call, "claim-1") == ["a"]:
            return verdict_of(call, claims=[{"number": 1, "quote": "Sydney", "found": "supported"}])
        return "?"

    said = run(Faithfulness(asked=Model(ScriptedEndpoint(answer)), batch=1))
    assert (said.value, said.error) == (None, "unreadable")


@pytest.mark.parametrize("numbers", [[1], [1, 1], [1, 3], [0, 1], [1, 2, 3]])
def test_every_claim_is_decided_once_or_the_reply_is_unreadable(numbers: list[int]) -> None:
    def answer(call: Call) -> Any:
        if "take a text apart" in call.request.messages[0].text:
            return verdict_of(call, claims=["a", "b"])
        rows = [{"number": n, "quote": "", "found": "not_found"} for n in numbers]
        return verdict_of(call, claims=rows)

    said = run(Faithfulness(asked=Model(ScriptedEndpoint(answer))))
    assert said.error == "unreadable"
    assert "1 to 2, each once" in said.reason


def test_a_model_that_never_stops_splitting_is_unreadable() -> None:
    endpoint = ScriptedEndpoint(lambda call: verdict_of(call, claims=["claim"] * 101))
    assert run(Faithfulness(asked=Model(endpoint))).error == "unreadable"


def test_context_is_needed() -> None:
    judge = Faithfulness(asked=Model(verifier([], {})))
    for question in (Question("?"), Question("?", (), (" ",)), Question("?", (), ("x",) * 201)):
        assert judge.check(question) is not None
        assert run(judge, question=question).error == "reference"
    with pytest.raises(ConfigError, match="threshold"):
        Faithfulness(asked=Model(verifier([], {})), threshold=2)
    with pytest.raises(ConfigError, match="batch"):
        Faithfulness(asked=Model(verifier([], {})), batch=0)


def test_recall_is_that_of_the_reference_and_paid_for_once() -> None:
    endpoint = verifier(list(FOUND)[:3], FOUND)
    judge = ContextRecall(asked=Model(endpoint), threshold=0.5)
    first, second = run(judge, "One answer."), run(judge, "Another answer.")
    assert first.value == second.value == pytest.approx(2 / 3)
    assert len(endpoint.calls) == 2
    assert "470,000" in fenced(endpoint.calls[0], "answer")[0]


def test_hallucination_is_counted_per_answer_and_per_claim() -> None:
    good = run(Faithfulness(asked=Model(verifier(list(FOUND)[:2], FOUND))))
    bad = run(Faithfulness(asked=Model(verifier(list(FOUND), FOUND))))
    counts = Hallucination.of([good, bad, Score.unjudged("unreadable", "why")])
    assert counts == Hallucination(2, 1, 8, 4, 1, 2, 1)
    assert (counts.per_answer, counts.per_claim) == (0.5, 0.5)
    assert Hallucination().per_answer is None


# --- quotations --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("quote", "there"),
    [
        ("Canberra is the capital of Australia", True),
        ("the  capital\t of", True),
        ("'Sydney is larger.'", True),
        ("sydney is larger", False),
        ("Canberra … Australia", False),
        ("people.\nSydney", False),
        ("", False),
        ("...", False),
        ("470,000", True),
    ],
)
def test_a_quotation_is_verbatim_up_to_white_space(quote: str, there: bool) -> None:
    assert verbatim(quote, PASSAGES) is there


@given(text=st.text(min_size=1, max_size=80), start=st.integers(0, 79), length=st.integers(1, 40))
def test_whatever_is_cut_from_a_passage_is_verbatim(text: str, start: int, length: int) -> None:
    quote = text[start : start + length]
    if any(char.isalnum() for char in quote):
        assert verbatim(quote, [text])


def test_a_quotation_of_what_was_defused_is_verbatim_both_ways() -> None:
    passage = "Write <|im_end|> at the end."
    assert verbatim("Write <|im_end|> at", [passage])
    assert verbatim("Write ‹|im_end|> at", [passage])


@pytest.mark.parametrize("quote", ["<question ‹s>> is told", "<question ‹s", "question <s>> is told"])
def test_so_is_a_quotation_of_a_mark_in_a_mark_and_of_a_part_of_it(quote: str) -> None:
    assert verbatim(quote, ["What <question <s>> is told."])


class Counted(str):
    """A passage that counts how often it is made comparable."""

    __slots__ = ("count",)

    def translate(self, table: Any) -> str:
        self.count = getattr(self, "count", 0) + 1
        return super().translate(table)


def test_passages_are_made_comparable_once_however_many_claims_there_are() -> None:
    passages = tuple(map(Counted, PASSAGES))
    said = run(Faithfulness(asked=Model(verifier(list(FOUND), FOUND))), question=Question("?", (), passages))
    assert len(said.parts) == len(FOUND) > 1
    assert [each.count for each in passages] == [1, 1]


# --- relevancy and precision -------------------------------------------------------------------------------


def relevancy(relevant: Sequence[bool], answers: bool = True, **options: Any) -> Score:
    rows = [{"gist": "g", "relevant": each} for each in relevant]
    endpoint = ScriptedEndpoint(lambda call: verdict_of(call, statements=rows, answers=answers))
    return run(Relevancy(asked=Model(endpoint), **options))


def test_relevancy_is_the_share_of_statements_to_the_point() -> None:
    said = relevancy([True, True, False, True])
    assert (said.value, said.passed) == (0.75, True)
    assert said.reason == "3 of 4 statements are to the point"
    assert relevancy([True], answers=False).value == 0.0
    assert relevancy([], answers=True).value == 0.0


@pytest.mark.parametrize(
    ("useful", "value"),
    [([True, False], 1.0), ([False, True], 0.5), ([True, False, True], 5 / 6), ([False], 0.0), ([True], 1.0)],
)
def test_precision_rewards_useful_passages_that_stand_first(useful: list[bool], value: float) -> None:
    assert precision(useful) == pytest.approx(value)
    rows = [{"number": n, "reasons": "r", "useful": each} for n, each in enumerate(useful, start=1)]
    endpoint = ScriptedEndpoint(lambda call: verdict_of(call, passages=rows))
    question = Question("?", ("reference",), tuple(f"passage {n}" for n, _ in enumerate(useful)))
    said = run(ContextPrecision(asked=Model(endpoint)), question=question)
    assert said.value == pytest.approx(value)
    assert said.passed is None
    assert fenced(endpoint.calls[0], "answer") == ["reference"]
    assert [part["useful"] for part in said.parts] == useful


@given(useful=st.lists(st.booleans(), min_size=1, max_size=30))
def test_precision_is_a_share_and_best_in_order(useful: list[bool]) -> None:
    assert 0 <= precision(useful) <= precision(sorted(useful, reverse=True)) <= 1
    if any(useful):
        assert precision(sorted(useful, reverse=True)) == pytest.approx(1)
