"""Citations: which are seen, and what the three checks say of them."""

from __future__ import annotations

import asyncio
from time import process_time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardrails.errors import ConfigError
from judges.answer import Answer
from judges.citations import MAX_QUOTES, Citations, Tally, citations, plain, quotations, without_code
from judges.judge import Question, Score
from judges.registry import judge

FIRST = "The bridge was opened in May 1932, and “nobody had expected so many people” to come."
SECOND = "It is 503 m long. Its arch is made of steel – about 39,000 tons of it."
ASKED = Question("How long is the bridge?", context=(FIRST, SECOND))
ANY = st.text(st.characters(codec=None, categories=None), max_size=200)


def score(text: str, question: Question = ASKED, **options: Any) -> Score:
    return asyncio.run(Citations(**options)(question, Answer(text)))


def tally(text: str, check: Any, question: Question = ASKED, **options: Any) -> Tally:
    return Citations(checks=(check,), **options).look(question, text)[check]


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("Long [1].", ["1"]),
        ("Long [1, 2] and [2;3].", ["1", "2", "2", "3"]),
        ("Long [1-3] and [1–2] and [4 - 5].", ["1", "2", "3", "1", "2", "4", "5"]),
        ("Long[01][2].", ["1", "2"]),
        ("Note [^7] here.", ["7"]),
        ("A [sic] word, a [link](http://x.y), [x] done, a[i].", []),
        ("Absurd [1-999999].", ["1", "999999"]),
    ],
)
def test_what_counts_as_a_citation(text: str, ids: list[str]) -> None:
    assert [each for cited in citations(text, ("brackets", "footnotes")) for each in cited.ids] == ids


def test_parentheses_cite_only_when_asked_for() -> None:
    text = "Long (1). Built (1932), by f(2)."
    assert list(citations(text, ("brackets",))) == []
    assert [cited.ids for cited in citations(text, ("parentheses",))] == [("1",), ("1932",)]


def test_code_cites_nothing() -> None:
    text = "See `a[9]` and\n```\nb = a[8]\n```\nand [1]."
    assert len(without_code(text)) == len(text)
    assert [c.ids for c in citations(without_code(text), ("brackets",))] == [("1",)]


def test_a_cited_id_has_to_exist() -> None:
    text = "It is 503 m long [2]. It is old [3]."
    found = tally(text, "exists")
    assert (found.right, found.all) == (1, 2)
    assert [text[a:b] for a, b in found.wrong] == ["[3]"]
    assert score(text, checks=("exists",)).passed is False
    assert score("It is 503 m long [2].").passed


def test_ids_may_come_from_the_metadata() -> None:
    question = Question("?", context=(FIRST, SECOND), metadata={"ids": ["doc-a", "b"]})
    judged = Citations(ids="ids")
    assert judged.check(question) is None
    found = judged.look(question, "Long [doc-a]. Old [b; doc-9]. Well [sic].")["exists"]
    assert (found.right, found.all) == (2, 3)
    assert judged.check(ASKED) is not None
    assert judged.check(Question("?", context=("a",), metadata={"ids": "a"})) is not None


@pytest.mark.parametrize(
    "said",
    [
        '"nobody had expected so many people"',
        "“Nobody  had expected\tso many people”",
        "“nobody … so many people”",
        '"nobody [...] so many people"',
        "«made of steel - about 39,000 tons»",
        "> It is 503 m long. Its arch\n> is made of steel [2]",
        '"How long is the bridge?"',
    ],
)
def test_a_quotation_is_verbatim_but_for_its_looks(said: str) -> None:
    found = tally(f"As it says:\n{said}\n", "quotes")
    assert (found.right, found.all) == (1, 1)


@pytest.mark.parametrize(
    "said",
    [
        '"nobody had expected so few people"',
        '"so many people … nobody had expected"',
        "> It is 504 m long. Its arch",
        "“the bridge was opened in June 1932”",
    ],
)
def test_a_quotation_in_other_words_is_found_out(said: str) -> None:
    found = tally(said, "quotes")
    assert (found.right, found.all) == (0, 1)
    assert found.wrong[0] == (0, len(said))


def test_a_quotation_has_to_stand_in_the_passage_that_is_cited_for_it() -> None:
    said = 'They say "nobody had expected so many people"'
    assert tally(f"{said} [1].", "quotes").right == 1
    assert tally(f"{said}. [1]", "quotes").right == 1
    assert tally(f"{said} [2].", "quotes").right == 0
    assert tally(f"{said} [9].", "quotes").right == 1  # `exists` tells of that


def test_short_quotations_are_no_quotations() -> None:
    assert tally('The "best bridge" there is.', "quotes").all == 0
    assert tally('The "best bridge" there is.', "quotes", quote_words=2).all == 1


@pytest.mark.parametrize(
    ("text", "right", "needing"),
    [
        ("It is 503 m long [2].", 1, 1),
        ("It is 503 m long. [2] It opened in 1932.", 1, 2),
        ("It is 503 m long.[2] It opened in 1932. [1]", 2, 2),
        ("[2] It is 503 m long.", 1, 1),
        ("Yes. Of course.", 0, 0),
        ("It was designed by John Bradfield.", 0, 1),
        ("It opened in May.", 0, 1),
        ("many small words without any fact but rather long", 0, 1),
        ("How long is it, 503 m?", 0, 0),
        ("# The bridge of 1932\n\nYes.", 0, 0),
        ("> It is 503 m long.", 0, 0),
        ("1. Yes\n2) No", 0, 0),
        ("[^1]: The first passage of 1932", 0, 0),
    ],
)
def test_sentences_that_state_facts_need_a_citation(text: str, right: int, needing: int) -> None:
    found = tally(text, "needed")
    assert (found.right, found.all) == (right, needing)


def test_one_citation_may_do_for_a_paragraph() -> None:
    text = "It is 503 m long. It opened in 1932 [1].\n\nIt is made of 39,000 tons of steel."
    assert tally(text, "needed").right == 1
    found = tally(text, "needed", per="paragraph")
    assert (found.right, found.all) == (2, 3)
    found = tally(text.replace("\n\n", "\n \t\r\n"), "needed", per="paragraph")
    assert (found.right, found.all) == (2, 3)
    found = tally("It is 503 m long.\n\nIt opened in 1932 [1].", "needed", per="paragraph")
    assert (found.right, found.all) == (1, 2)


def test_the_score_is_the_mean_of_what_counts_and_quotes_nothing() -> None:
    text = "It is 503 m long [2]. Zebras came in 1932. [7]"
    said = score(text)
    assert said.value == pytest.approx((1 / 2 + 2 / 2) / 2)
    assert said.passed is False
    assert "Zebra" not in said.reason
    assert "1 of 2 cited ids exist" in said.reason
    assert score(text, threshold=0.5).passed
    assert score("Yes.").passed


def test_it_is_made_by_its_name() -> None:
    assert judge({"citations": "exists"}) == Citations(checks=("exists",))
    assert judge({"citations": {"checks": ["quotes"], "per": "paragraph"}}, trusted=False)
    for wrong in ({"checks": []}, {"threshold": 0}, {"quote_words": 0}, {"checks": ["beauty"]}):
        with pytest.raises(ConfigError):
            judge({"citations": wrong})


def test_without_passages_and_with_too_many_quotations_there_is_an_error_row() -> None:
    assert score("Long [1].", Question("?")).error == "reference"
    assert score("Long [1].", Question("?", context=("", " "))).error == "reference"
    assert score('"a b c d" ' * (MAX_QUOTES + 1)).error == "too_long"


@given(ANY)
@settings(max_examples=200, deadline=None)
def test_any_text_is_judged_and_places_lie_in_it(text: str) -> None:
    for styled in (("brackets", "footnotes", "parentheses"), ("brackets",)):
        for found in Citations(styles=styled).look(ASKED, text).values():  # type: ignore[arg-type]
            assert 0 <= found.right <= found.all
            assert all(0 <= a < b <= len(text) for a, b in found.wrong)


@given(st.text("abc d", min_size=1, max_size=60).filter(str.strip))
def test_what_stands_in_a_passage_is_verbatim(said: str) -> None:
    question = Question("?", context=(f"before {said} after",))
    assert tally(f'"{said}"', "quotes", question, quote_words=1).wrong == ()


def test_plain_text_is_the_same_twice() -> None:
    assert plain(plain(FIRST)) == plain(FIRST)
    assert [said for _, said in quotations('He said "so it is [1]" twice.')] == ["so it is"]


@pytest.mark.parametrize(
    "piece", ["[1] ", "[", "[1,", '"', "> ", "“", "A1. ", "[1]. ", "`", "```", "\n\n1 ", "(1) ", "a. [1] "]
)
@pytest.mark.parametrize("per", ["sentence", "paragraph"])
def test_hostile_answers_cost_no_more_than_their_length(piece: str, per: Any) -> None:
    judged = Citations(styles=("brackets", "footnotes", "parentheses"), per=per, checks=("exists", "needed"))

    def cost(size: int) -> float:
        text = piece * (size // len(piece))
        begun = process_time()
        judged.look(ASKED, text)
        judged.look(ASKED, text + " [1]")
        list(quotations(text))
        return process_time() - begun

    assert cost(80_000) < 12 * cost(20_000) + 0.4


def test_many_quotations_beside_many_citations_are_looked_up_once() -> None:
    def cost(times: int) -> float:
        passages = Question("?", context=tuple(f"passage {n}" for n in range(100)))
        text = "x " + '"a b c d" ' * 150 + "[1-100]" * times
        begun = process_time()
        Citations(checks=("quotes",)).look(passages, text)
        return process_time() - begun

    assert cost(500) < 20 * cost(50) + 0.4  # 500 times as much looked up is no more than some of the text
