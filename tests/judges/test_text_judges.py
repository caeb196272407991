"""exact, contains, regex and choice: what passes, what fails, what is an error row, what is never said."""

from __future__ import annotations

import asyncio
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrails.errors import ConfigError
from judges.judge import MAX_ANSWER, MAX_READ, Answer, Judge, Question, Score
from judges.letters import letters
from judges.registry import judge

TEXT_JUDGES = ["choice", "contains", "exact", "json_schema", "numeric", "regex"]
ANY_TEXT = st.text(st.characters(codec=None, categories=None), max_size=200)  # surrogates too


def score(spec: Any, answer: str, *references: str) -> Score:
    chosen: Judge = judge(spec) if isinstance(spec, str | dict) else spec
    return asyncio.run(chosen(Question("?", references), Answer(answer)))


# --- the score ---------------------------------------------------------------------------------------------


def test_a_failed_judge_has_no_value() -> None:
    assert Score.unjudged("too_long", "why") == Score(None, None, "why", "too_long")
    with pytest.raises(ValueError, match="neither"):
        Score(0.0, False, "why", "too_long")
    with pytest.raises(ValueError, match="finite"):
        Score(None, None, "why")
    with pytest.raises(ValueError, match="finite"):
        Score(float("nan"), False, "why")


def test_a_question_shows_nothing_in_its_repr() -> None:
    shown = repr(Question("SECRET", ("SECRET",), ("SECRET",), {"k": "SECRET"}))
    assert "SECRET" not in shown


@pytest.mark.parametrize("name", ["exact", "contains", "regex", "numeric", "choice"])
def test_no_reference_is_an_error_row_not_a_zero(name: str) -> None:
    assert score(name, "x").error == "reference"
    assert judge(name).check(Question()) is not None
    assert score(name, "x", "").error == "reference"


@pytest.mark.parametrize("name", ["exact", "contains", "regex", "numeric", "choice", "f1"])
def test_a_blank_reference_is_an_error_row(name: str) -> None:
    assert score(name, "", "B", " \n").reason == "a reference is blank: there is nothing to compare with"


@pytest.mark.parametrize("name", TEXT_JUDGES)
def test_an_answer_beyond_the_bound_is_an_error_row(name: str) -> None:
    spec = {name: {"schema": {}}} if name == "json_schema" else name
    most = MAX_ANSWER if name == "json_schema" else MAX_READ
    assert score(spec, "1" * (most + 1), "A" if name == "choice" else "1").error == "too_long"
    assert score(spec, "1" * most, "A" if name == "choice" else "1").error is None


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["exact", "contains", "regex", "numeric", "choice"])
@pytest.mark.parametrize(
    "piece", ["a", "1 ", "not A ", "A, B", "1.2.3 ", "1,", "answer: ", "-", "\u0301é", "\t"]
)
def test_an_answer_that_ran_away_is_wrong_and_no_failure_of_the_judge(name: str, piece: str) -> None:
    said = score(name, piece * (1_000_000 // len(piece)), "Q" if name == "choice" else "77")
    assert said.passed is False


@given(answer=ANY_TEXT, reference=ANY_TEXT)
@pytest.mark.parametrize("spec", [*TEXT_JUDGES, {"regex": {"full": True}}, {"numeric": {"which": "any"}}])
def test_judges_never_raise_and_never_quote_the_answer(spec: Any, answer: str, reference: str) -> None:
    if spec == "json_schema":
        spec = {"json_schema": {"schema": {"type": "string", "maxLength": 3}}}
    # Marked, so that a quotation of the answer would be seen in the reason whatever hypothesis draws.
    said = score(spec, "zqx" + answer + "zqx", reference)
    assert said.error is None or said.value is None
    assert "zqx" not in said.reason


# --- exact, contains ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "answer", "reference", "passed"),
    [
        ("exact", " Canberra\n", "Canberra", True),
        ("exact", "canberra", "Canberra", False),
        ("exact", "It is Canberra", "Canberra", False),
        ({"exact": {"strip": False}}, "Canberra\n", "Canberra", False),
        ({"exact": {"casefold": True}}, "STRASSE", "straße", True),
        ({"exact": {"whitespace": True}}, "a \n\t b", "a b", True),
        ("exact", "a  b", "a b", False),
        ({"exact": {"whitespace": True, "strip": False}}, " a  b", "a b", False),
        ({"exact": {"whitespace": True, "strip": False}}, "\n a  b", " a b", True),
        ("contains", "The capital is CANBERRA.", "Canberra", True),
        ({"contains": {"casefold": False}}, "CANBERRA", "Canberra", False),
        ("contains", "New\nYork", "New York", True),
        ({"contains": {"whitespace": False}}, "New\nYork", "New York", False),
        ("contains", "Sydney", "Canberra", False),
    ],
)
def test_comparison(spec: Any, answer: str, reference: str, passed: bool) -> None:
    assert score(spec, answer, reference).passed is passed


def test_any_reference_is_enough_or_all_are_needed() -> None:
    assert score("contains", "red", "blue", "red").passed
    every = {"contains": {"all": True}}
    assert score(every, "red", "blue", "red") == Score(0.5, False, "1 of 2 references found")
    assert score(every, "blue red", "blue", "red") == Score(1.0, True, "2 of 2 references found")
    assert score("exact", "red", "blue", "red").reason == "is reference 2"


@given(before=st.text(), reference=st.text(min_size=1).filter(str.strip), after=st.text())
def test_contains_finds_what_is_there(before: str, reference: str, after: str) -> None:
    spec = {"contains": {"casefold": False, "whitespace": False}}
    assert score(spec, before + reference + after, reference).passed


@given(text=st.text(min_size=1).filter(str.strip))
def test_exact_is_reflexive(text: str) -> None:
    assert score("exact", text, text).passed


def test_words_stand_in_for_references_and_may_have_to_be_absent() -> None:
    assert score({"contains": ["blue", "red"]}, "red").reason == "1 of 2 words found"
    assert score({"contains": "red"}, "Red").passed
    forbidden = {"contains": {"words": ["guarantee", "promise"], "absent": True}}
    assert score(forbidden, "we guarantee it") == Score(0.0, False, "1 of 2 words found")
    assert score(forbidden, "we hope so") == Score(1.0, True, "0 of 2 words found")
    assert score({"contains": {"absent": True}}, "no", "yes").passed
    for options in ({"all": True, "absent": True}, {"words": [""]}, {"words": ["yes", " \t"]}):
        with pytest.raises(ConfigError, match="contains"):
            judge({"contains": options})
    tabs = {"contains": {"words": ["\t"], "absent": True, "whitespace": False}}
    assert score(tabs, "a b").passed
    assert score(tabs, "a\tb").passed is False


# --- regex -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "answer", "passed"),
    [
        ({"pattern": r"\b12\b"}, "it is 12.", True),
        ({"pattern": r"\b12\b"}, "it is 312.", False),
        ({"pattern": r"\d+", "full": True}, " 12\n", True),
        ({"pattern": r"\d+", "full": True}, "12 kg", False),
        ({"pattern": "yes", "casefold": True}, "YES", True),
        ({"pattern": "yes"}, "YES", False),
        ({"pattern": "é+"}, "caféé", True),
        ({"pattern": r"\w+", "full": True}, "Café", False),  # ASCII only
        ({"pattern": r"[\pL\pN_]+", "full": True}, "Café", True),
        ({"pattern": r"(?:^|[^\pL\pN_])été(?:[^\pL\pN_]|$)"}, "un été chaud", True),
        ({"pattern": r"(?:^|[^\pL\pN_])été(?:[^\pL\pN_]|$)"}, "étés", False),
        ({"pattern": "", "full": True}, " ", True),
    ],
)
def test_regex(options: dict[str, Any], answer: str, passed: bool) -> None:
    assert score({"regex": options}, answer).passed is passed


def test_references_are_patterns_when_none_is_configured() -> None:
    assert score("regex", "abc 42", r"x\d", r"\d\d").reason == "pattern 2 matches"
    assert not score("regex", "abc", r"\d").passed


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("(?=a)", "look-ahead"),
        ("(?!a)", "negative look-ahead"),
        ("(?<=a)b", "look-behind"),
        (r"(a)\1", r"back-reference \1"),
        ("(?>a)", "atomic"),
        (r"a\Z", r"write \z"),
        ("(a", "missing )"),
        ("a{2000}", "repetition size"),
        ("x" * 10_001, "at most 10,000"),
        ("\ud800", "surrogate"),
        ("", "empty"),
    ],
)
def test_a_pattern_that_re2_cannot_take_is_refused_at_load(pattern: str, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        judge({"regex": {"pattern": pattern}})
    assert said in str(refused.value)
    assert judge("regex").check(Question("?", (pattern,))) is not None
    assert score("regex", "a", pattern).error == "reference"


def test_a_refused_pattern_is_not_quoted() -> None:
    complaint = judge("regex").check(Question("?", ("(jane.doe@example.org",)))
    assert complaint is not None
    assert "jane" not in complaint


@pytest.mark.timeout(20)
@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|aa)+$", "(.*a){12}$", r"^(\w+\s?)*$"])
def test_patterns_that_explode_elsewhere_end_here(pattern: str) -> None:
    assert score({"regex": {"pattern": pattern}}, "a" * (MAX_ANSWER - 1) + "!").error is None


# --- choice ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "named"),
    [
        ("B", "B"),
        ("b", "B"),
        ("(b)", "B"),
        ("**B**", "B"),
        ("Answer: B", "B"),
        ("answer: b", "B"),
        ("Final answer: $B$", "B"),
        ("**B)** Mercury", "B"),
        ("b) Mercury", "B"),
        ("B. Mercury", "B"),
        ("The correct answer is (C).", "C"),
        ("The answer is **B**.", "B"),
        ("Answer:\n\nB", "B"),
        (r"So it is \boxed{D}.", "D"),
        ("A) is wrong. B) is right. The answer is B", "B"),
        ("The best choice is D because A is wrong", "D"),
        ("I'd go with C", "C"),
        ("I think it's C", "C"),
        ("A is right", "A"),
        ("Answer: A or B", "AB"),
        ("Both A and B", "AB"),
        ("B. Mercury\nC. Venus", "BC"),
        ("It is not B", ""),
        ("It isn't B but C", "C"),
        ("A dog", ""),
        ("The answer is a planet", ""),
        ("I do not know", ""),
        ("", ""),
        # A statement counts for more than a letter in passing.
        ("Let's see. Option A is about plants. Option B is about rocks. The answer is C.", "C"),
        ("ANSWER: B\n\nNote: choice A was tempting", "B"),
        # What stands on another line denies nothing, and nor does what follows a stated answer.
        ("Statement 2 is false\n\nAnswer: B", "B"),
        ("True, False\nAnswer: C", "C"),
        ("A is wrong\nB is wrong\nC is wrong\n\n**Answer: D**", "D"),
        ("A) True\nB) True\nC) False\n\nAnswer: C", "C"),
        ("Answer: B is not only correct but elegant", "B"),
        ("Answer: B can't be beaten.", "B"),
        # Some questions ask for what is wrong.
        ("The incorrect option is B.", "B"),
        ("The wrong answer is B.", "B"),
        ("The one that is not correct is option D.", "D"),
        # The options again, below words that look like a statement.
        ("Select the correct answer:\nA) Paris\nB) Lyon\n\nI pick B.", "B"),
        ("Here is the question and answer:\n\nA) 1\nB) 2\nC) 3\n\nI choose C", "C"),
        ("**Answer:**\nB", "B"),
        ("The correct answer is:\n\n**B**", "B"),
        ("Answer: I is correct", "I"),
        ("The answer is I which is lithium", "I"),
        ("Some would pick A. The answer is C.", "C"),
        ("Answer A is about plants. Between B and C, I choose C.", "C"),
        ("The correct answer would be: option (B) Mars", "B"),
        ("**Answer:** **B**", "B"),
        ("Option A is about plants. Option B is about rocks.", "AB"),
        ("Final answer: B. Wait, the answer is C.", "BC"),
        ("Let me look at each option:\nA) no\nB) yes", "AB"),
        ("There are many options. Several people had answers.", ""),
        # What is denied is not named.
        ("Option B is wrong.", ""),
        ("Choice B is incorrect; choice C is right", "C"),
        ("The answer is **not** B, and **A** is **wrong**", ""),
        ("Option A is wrong because it is dry. Therefore the answer is B.", "B"),
        ("The answer cannot be B", ""),
        ("The correct answer is not B.", ""),
        ("I don't think the answer is B", ""),
        ("I can't choose A", ""),
        ("It is neither A nor B", ""),
        ("It is not A or B", ""),
        ("Definitely not option B", ""),
        ("Answer: A and B are both wrong, so none", ""),
        ("Both A and B are wrong", ""),
        ("A, C, and D are incorrect, which leaves B", "B"),
        ("The answer is B and A is wrong", "B"),
        ("The answer is B, not A", "B"),
        ("It is not A but B", "B"),
        ("B isn't right, C is", "C"),
        ("I'm not sure, but the answer is B", "B"),
        ("The answer is not only B but also C", "BC"),
        # I am no option.
        ("The answer is I don't know", ""),
        ("The answer is I cannot determine this", ""),
        ("Answer: I'm not sure", ""),
        ("Answer: I", "I"),
        ("The answer is I because it is smooth", "I"),
    ],
)
def test_letters(answer: str, named: str) -> None:
    assert letters(answer) == set(named)


def test_choice() -> None:
    assert score("choice", "(b) Mercury", "B") == Score(1.0, True, "names B, the reference is B")
    assert score("choice", "Answer: C", "(b)").passed is False
    assert score("choice", "Answer: A or B", "B").reason == "ambiguous: names 2 options"
    assert score("choice", "I do not know", "B").reason == "names no option"
    assert score({"choice": {"options": "ABCD"}}, "Plan B beats vitamin K", "B").passed
    assert score({"choice": {"options": "ABCD"}}, "Vitamins K and E, so B", "B").passed


@pytest.mark.parametrize("reference", ["Mercury", "7", "AB", "é"])
def test_a_reference_that_is_no_letter_is_an_error_row(reference: str) -> None:
    assert score("choice", "B", reference).error == "reference"
    assert score({"choice": {"options": "AB"}}, "B", "C").error == "reference"


@given(
    letter=st.sampled_from("ABCDEFGH"),
    frame=st.sampled_from(["{}", "({})", "**{})** x", "Answer: {}", "[{}]"]),
)
def test_a_letter_is_found_in_every_common_frame(letter: str, frame: str) -> None:
    assert letters(frame.format(letter)) == {letter}


# --- the registry ------------------------------------------------------------------------------------------


def test_unknown_names_and_options_say_what_there_is() -> None:
    with pytest.raises(
        ConfigError, match=r"choice, chrf, citations, code, contains, .*cost, exact, f1.*tool_calls"
    ):
        judge("contain")
    with pytest.raises(ConfigError, match="its options are tolerance, relative"):
        judge({"numeric": {"tolerence": 1}})
    with pytest.raises(ConfigError, match=r"numeric.*tolerance"):
        judge({"numeric": {"tolerance": "small"}})
    with pytest.raises(ConfigError, match="has no option '_compiled'"):
        judge({"regex": {"_compiled": 1}})


@pytest.mark.parametrize("spec", [{}, {"exact": {}, "regex": {}}, {"exact": 3}, {3: {}}, 3, None, ["exact"]])
def test_a_spec_of_another_shape_is_refused(spec: Any) -> None:
    with pytest.raises(ConfigError, match="written as its name"):
        judge(spec)


def test_judges_take_a_name_and_survive_pickling() -> None:
    every = judge({"contains": {"all": True, "name": "contains_all"}})
    assert every.name == "contains_all"
    assert pickle.loads(pickle.dumps(every)) == every
    assert judge({"exact": None}) == judge("exact")
