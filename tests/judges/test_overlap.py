"""f1, bleu, chrf, rouge: known values, laws, and bounds."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrails.errors import ConfigError
from judges import overlap
from judges.judge import MAX_READ, Answer, Question, Score
from judges.overlap import MAX_CHARACTERS, squad_tokens, token_f1
from judges.registry import judge

WORDS = st.lists(st.sampled_from(["cat", "dog", "the", "a", "sat", "mat", "Cat."]), max_size=8).map(" ".join)


def score(spec: Any, answer: str, *references: str) -> Score:
    return asyncio.run(judge(spec)(Question("?", references), Answer(answer)))


def test_a_value_that_is_its_threshold_but_for_rounding_passes() -> None:
    assert score({"bleu": {"lowercase": False}}, "The cat", "the cat").value == pytest.approx(0.5)
    assert score("bleu", "The cat", "the cat").passed
    assert not score({"bleu": {"threshold": 0.5001}}, "The cat", "the cat").passed


# --- F1 ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "reference", "value"),
    [
        ("The Eiffel Tower!", "eiffel tower", 1.0),
        ("in Paris, France", "Paris", 0.5),  # P 1/3, R 1
        ("cat cat", "cat", 2 / 3),  # each word counts as often as it occurs
        ("dog", "cat", 0.0),
        ("the", "a", 1.0),  # nothing is left of either
        ("the cat", "a", 0.0),
        ("", "cat", 0.0),
    ],
)
def test_f1(answer: str, reference: str, value: float) -> None:
    assert score("f1", answer, reference).value == pytest.approx(value)


@given(answer=WORDS, reference=WORDS)
def test_f1_is_the_harmonic_mean_of_precision_and_recall(answer: str, reference: str) -> None:
    given_, wanted = Counter(squad_tokens(answer)), Counter(squad_tokens(reference))
    shared = sum(min(count, wanted[word]) for word, count in given_.items())
    if not shared:
        assert token_f1(answer, reference) == (not given_ and not wanted)
        return
    precision, recall = shared / given_.total(), shared / wanted.total()
    assert token_f1(answer, reference) == pytest.approx(2 / (1 / precision + 1 / recall))
    assert token_f1(answer, reference) == token_f1(reference, answer)


def test_the_nearest_reference_counts_and_the_threshold_decides() -> None:
    said = score("f1", "in Paris, France", "Rome", "Paris")
    assert said == Score(0.5, True, "f1 0.500 (the nearest of 2 references)")
    assert score({"f1": 0.6}, "in Paris, France", "Paris").passed is False
    assert score({"f1": {"threshold": None}}, "in Paris, France", "Paris").passed is None


# --- the libraries -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spec", ["f1", "bleu", "chrf", {"chrf": {"word_order": 2}}, "rouge", {"rouge": "rouge1"}]
)
def test_the_same_text_is_1_and_another_0(spec: Any) -> None:
    _need_libraries()
    text = "the small cat sat quietly on the warm mat"
    assert score(spec, text, text).value == pytest.approx(1.0)
    assert score(spec, text, "no", text).value == pytest.approx(1.0)
    assert score(spec, "ggg", "zzz yyy www").value == pytest.approx(0.0, abs=0.01)


def test_values_as_the_libraries_give_them() -> None:
    sacrebleu = pytest.importorskip("sacrebleu")
    rouge = pytest.importorskip("rouge_score.rouge_scorer")
    answer, references = "the cat was sitting on the mat", ["the cat sat on the mat", "a cat is on the mat"]
    bleu = sacrebleu.sentence_bleu(answer, references).score / 100
    assert score("bleu", answer, *references).value == pytest.approx(bleu)
    chrf = sacrebleu.sentence_chrf(answer, references).score / 100
    assert score("chrf", answer, *references).value == pytest.approx(chrf)
    scorer = rouge.RougeScorer(["rougeL", "rouge2"])
    each = [scorer.score(reference, answer) for reference in references]
    assert score("rouge", answer, *references).value == max(one["rougeL"].fmeasure for one in each)
    recall = {"rouge": {"kind": "rouge2", "measure": "recall"}}
    assert score(recall, answer, *references).value == max(one["rouge2"].recall for one in each)


def test_rouge_drops_other_scripts_unless_told_not_to() -> None:
    _need_libraries()
    said = judge("rouge").check(Question("?", ("кошка сидит",)))
    assert said == "reference 1 has no word of the letters a to z: set `words: any`"
    any_words = {"rouge": {"words": "any"}}
    assert judge(any_words).check(Question("?", ("кошка сидит",))) is None
    assert score(any_words, "кошка спит", "кошка сидит").value == pytest.approx(0.5)


def test_a_missing_library_is_said_at_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlap, "find_spec", lambda name: None)
    for name, distribution in (("bleu", "sacrebleu"), ("chrf", "sacrebleu"), ("rouge", "rouge-score")):
        with pytest.raises(ConfigError, match=rf"{distribution} is not installed.*\[scorers\]"):
            judge(name)


# --- bounds ------------------------------------------------------------------------------------------------


def test_f1_of_an_answer_that_ran_away_is_0() -> None:
    assert score("f1", "a b " * 250_000, "cat").value == 0
    assert score("f1", "x" * (MAX_READ + 1), "cat").error == "too_long"


@pytest.mark.parametrize("name", ["bleu", "chrf", "rouge"])
def test_long_texts_are_not_compared(name: str) -> None:
    _need_libraries()
    assert score(name, "a" * (MAX_CHARACTERS + 1), "a").error == "too_long"
    assert score(name, "a", "a" * (MAX_CHARACTERS + 1)).error == "reference"
    assert score(name, "a" * MAX_CHARACTERS, "a").error is None


def test_rouge_fills_no_table_beyond_its_bound() -> None:
    _need_libraries()
    words = "ab " * 2_001
    assert score("rouge", words, words).error == "too_long"
    assert score({"rouge": "rouge1"}, words, words).value == 1
    lines = "ab\n" * 1_001
    assert score({"rouge": "rougeLsum"}, lines, lines).error == "too_long"


@pytest.mark.parametrize("options", [{"threshold": 1.5}, {"threshold": "high"}, {"treshold": 1}])
def test_bad_options_are_refused(options: dict[str, Any]) -> None:
    _need_libraries()
    for name in ("f1", "bleu", "chrf", "rouge"):
        with pytest.raises(ConfigError, match=name):
            judge({name: options})
    for spec in (
        {"bleu": {"tokenize": "flores200"}},
        {"rouge": "rougeX"},
        {"rouge": {"stem": True, "words": "any"}},
    ):
        with pytest.raises(ConfigError):
            judge(spec)


def _need_libraries() -> None:
    pytest.importorskip("sacrebleu")
    pytest.importorskip("rouge_score")
