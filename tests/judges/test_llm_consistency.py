"""Self-consistency and semantic entropy against values worked out by hand, and laws."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrails.errors import ConfigError
from guardrails.testing import ScriptedEndpoint
from judges.consistency import (
    Entropy,
    SameMeaning,
    Supports,
    both_ways,
    embedding,
    nli,
    semantic_entropy,
    sentences,
    unigram,
)
from judges.llm import Model, fenced, verdict_of

ANSWER = "Canberra is the capital. It was founded in 1913."
SAMPLES = ["Canberra is the capital. It dates from 1913.", "The capital is Canberra."]


def test_sentences_are_cut_after_stops_and_at_line_breaks() -> None:
    assert sentences('One. "Two!" Three?\nFour') == ["One.", '"Two!"', "Three?", "Four"]
    assert sentences(" \n...\n") == []
    assert len(sentences("a. " * 10_000)) == 200


def test_unigram_is_the_papers_formula() -> None:
    # Words of all three answers together: a 3, b 2, c 1 of 6.
    found = unigram("a b. c.", ["a b.", "a"])
    assert found.sentences == pytest.approx(((math.log(6 / 3) + math.log(6 / 2)) / 2, math.log(6)))
    assert found.peaks == pytest.approx((math.log(3), math.log(6)))
    assert found.value == pytest.approx(sum(found.sentences) / 2)


def test_without_other_answers_nothing_is_said() -> None:
    assert unigram(ANSWER, []).value is None
    assert asyncio.run(embedding(ANSWER, [], lambda texts: [[1.0]] * len(texts))).value is None
    assert asyncio.run(nli(ANSWER, [], lambda a, b: 0.5)).value is None


@given(
    answer=st.text("ab .", min_size=1, max_size=40),
    samples=st.lists(st.text("abc .", max_size=40), max_size=4),
)
def test_unigram_is_never_negative_and_does_not_mind_the_order(answer: str, samples: list[str]) -> None:
    found = unigram(answer, samples)
    assert all(0 <= mean <= peak + 1e-12 for mean, peak in zip(found.sentences, found.peaks, strict=True))
    assert unigram(answer, samples[::-1]) == found


def test_embedding_compares_with_the_nearest_sentence_of_each_sample() -> None:
    vectors = {"A.": [1.0, 0.0], "B.": [0.0, 1.0], "C.": [1.0, 1.0]}
    asked: list[list[str]] = []

    async def embed(texts: list[str]) -> Any:
        asked.append(texts)
        return [vectors[text] for text in texts]

    found = asyncio.run(embedding("A. B.", ["A. C.", "B."], embed))
    half = 1 - math.sqrt(0.5)
    assert found.sentences == pytest.approx(((0 + 1) / 2, (half + 0) / 2))
    assert asked == [["A.", "B.", "C."]]


def test_nli_is_the_mean_probability_of_a_contradiction() -> None:
    asked = []

    def contradicts(premise: str, hypothesis: str) -> float:
        asked.append((premise, hypothesis))
        return 1.0 if "1913" in hypothesis and "1913" not in premise else 0.0

    found = asyncio.run(nli(ANSWER, SAMPLES, contradicts))
    assert found.sentences == (0.0, 0.5)
    assert asked[0] == (SAMPLES[0], "Canberra is the capital.")
    with pytest.raises(ValueError, match="from 0 to 1"):
        asyncio.run(nli(ANSWER, SAMPLES, lambda a, b: math.nan))


def test_a_model_is_asked_once_for_each_sample() -> None:
    def answer(call: Any) -> str:
        (text,) = fenced(call, "answer")
        said = ["yes", "yes" if "1913" in text else "no"]
        rows = [{"number": n, "supported": word} for n, word in enumerate(said, start=1)]
        return verdict_of(call, sentences=rows) if "broken" not in text else "?"

    endpoint = ScriptedEndpoint(answer)
    found = asyncio.run(Supports(asked=Model(endpoint))(ANSWER, [*SAMPLES, "broken"]))
    assert found.sentences == (0.0, 0.5)
    assert (found.samples, found.undecided) == (2, 1)
    assert found.spent.calls == 4  # the broken one was asked for again


# --- semantic entropy --------------------------------------------------------------------------------------


def entropy(answers: list[str], same: Any) -> Entropy:
    return asyncio.run(semantic_entropy(answers, same))


def test_answers_of_one_meaning_are_one_group() -> None:
    found = entropy(
        ["Paris", "paris!", "Lyon", "PARIS"], lambda a, b: a.strip("!").lower() == b.strip("!").lower()
    )
    assert found.groups == (0, 0, 1, 0)
    expected = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert found.nats == pytest.approx(expected)
    assert found.share == pytest.approx(expected / math.log(4))


def test_the_ends_of_the_entropy() -> None:
    assert entropy(["a", "b", "c"], lambda a, b: False).share == pytest.approx(1)
    assert entropy(["a", "b", "c"], lambda a, b: True).nats == 0
    assert entropy(["a"], lambda a, b: True).nats is None


def test_equal_texts_are_not_asked_about() -> None:
    def never(a: str, b: str) -> bool:
        raise AssertionError

    assert entropy(["a  b", "a b", "a b "], never).groups == (0, 0, 0)


def test_what_cannot_be_told_counts_as_different_and_is_counted() -> None:
    found = entropy(["a", "b"], lambda a, b: None)
    assert (found.groups, found.undecided) == ((0, 1), 1)


def test_entailment_has_to_go_both_ways() -> None:
    # "Paris, France" entails "Paris", and not the other way round.
    same = both_ways(lambda premise, hypothesis: hypothesis in premise)
    assert entropy(["Paris, France", "Paris", "Paris, France"], same).groups == (0, 1, 0)


def test_a_model_can_say_what_means_the_same() -> None:
    def answer(call: Any) -> str:
        (a,), (b,) = fenced(call, "answer_a"), fenced(call, "answer_b")
        return verdict_of(call, first_entails_second=a[0] == b[0], second_entails_first=a[0] == b[0])

    endpoint = ScriptedEndpoint(answer)
    same = SameMeaning(asked=Model(endpoint), question="Which city?")
    assert entropy(["Paris", "Lyon", "P."], same).groups == (0, 1, 0)
    assert fenced(endpoint.calls[0], "question") == ["Which city?"]
    assert entropy(["a", "b"], SameMeaning(asked=Model(ScriptedEndpoint("?")))).undecided == 1


@given(answers=st.lists(st.sampled_from("abcd"), max_size=12))
def test_groups_are_those_of_an_equivalence(answers: list[str]) -> None:
    found = entropy(answers, lambda a, b: a == b)
    first = list(dict.fromkeys(answers))
    assert found.groups == tuple(first.index(each) for each in answers)
    assert found.nats is None or 0 <= found.nats <= math.log(len(answers)) + 1e-12


def test_more_answers_than_can_be_compared_are_refused() -> None:
    for call in (lambda: unigram("a", ["a"] * 101), lambda: unigram("x" * 200_001, ["a"])):
        with pytest.raises(ConfigError, match="can be compared"):
            call()
