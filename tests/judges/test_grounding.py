"""The support score: what it sees, what it marks, and what hostile texts cost it."""

from __future__ import annotations

import random
import string
import unicodedata
from contextlib import suppress
from itertools import pairwise
from time import process_time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from judges.grounding import support
from judges.grounding.features import NAMES, Context, read
from judges.grounding.model import COLUMNS, FEATURES, FILE, LONGEST, SHORTEST, Model, columns, length
from judges.grounding.support import MAX_SENTENCES, TooLong, parts
from judges.grounding.words import OPPOSITES, number, sentences, stem, tokens

TOWER = "The Eiffel Tower in Paris was completed in 1889. It is made of iron and is 330 metres high."
ANY = st.text(st.characters(codec=None, categories=None), max_size=300)


def marked(answer: str, context: str = TOWER) -> list[str]:
    return [answer[span.start : span.end] for span in support(answer, context).spans]


def test_what_the_context_says_is_supported() -> None:
    assert support("The Eiffel Tower was completed in 1889.", TOWER).score > 0.8
    assert support(TOWER, TOWER).score > 0.85
    assert support(TOWER, TOWER).spans == ()


@pytest.mark.parametrize(
    ("answer", "new"),
    [
        ("The Eiffel Tower in Paris was completed in 1925.", "1925"),
        ("The Eiffel Tower in Paris is 450 metres high and made of iron.", "450"),
        ("The Eiffel Tower in Berlin was completed in 1889.", "Berlin"),
    ],
)
def test_a_number_or_a_name_that_is_not_there_costs_support_and_is_marked(answer: str, new: str) -> None:
    right = support("The Eiffel Tower in Paris was completed in 1889.", TOWER)
    wrong = support(answer, TOWER)
    assert wrong.score < right.score - 0.2
    assert new in marked(answer) or any(new in said for said in marked(answer))


def test_a_negation_and_an_opposite_cost_support() -> None:
    said = support("Sales increased in the first quarter.", "Sales increased in the first quarter.").score
    assert (
        support("Sales did not increase in the first quarter.", "Sales increased in the first quarter.").score
        < said
    )
    assert (
        support("Sales decreased in the first quarter.", "Sales increased in the first quarter.").score < said
    )


def test_sentences_are_judged_one_by_one() -> None:
    answer = "The tower is made of iron. Pigeons love Belgian chocolate."
    good, bad = support(answer, TOWER).sentences
    assert answer[bad.start : bad.end] == "Pigeons love Belgian chocolate."
    assert good.support > 0.5 > bad.support
    assert marked(answer) == ["Pigeons love Belgian chocolate."]
    assert support(answer, TOWER).unsupported == 1


def test_numbers_are_the_same_however_they_are_written() -> None:
    context = "The company earned $3,000,000 and hired twelve people in 2020."
    assert support("It earned 3 million dollars and hired 12 people.", context).spans == ()
    assert number("1,000") == 1000
    assert number("1,5") == 1.5
    assert number("1.000.000") == 1_000_000


def test_without_context_nothing_is_supported_and_without_a_claim_all_is() -> None:
    assert support("The tower is 330 metres high.", "").score < 0.2
    assert support("The tower is 330 metres high.", []).score < 0.2
    assert support("", TOWER).score == 1
    assert support(" … !", TOWER).sentences == ()


def test_support_may_come_from_any_passage() -> None:
    passages = ["Nothing of interest stands here.", TOWER]
    assert support("The tower is made of iron.", passages).score > 0.6
    assert support("x", ["word " * 10, TOWER]).score < 0.9


@given(ANY, ANY)
@settings(max_examples=150, deadline=None)
def test_any_text_has_a_score_and_spans_within_it(answer: str, context: str) -> None:
    found = support(answer, context)
    assert 0 <= found.score <= 1
    ends = [0]
    for span in found.spans:
        assert ends[-1] <= span.start < span.end <= len(answer)
        ends.append(span.end)
    assert all(0 <= each.support <= 1 for each in found.sentences)


@given(ANY)
@settings(max_examples=100, deadline=None)
def test_sentences_cover_all_but_white_space(text: str) -> None:
    spans = sentences(text)
    inside = "".join(text[start:end] for start, end in spans)
    assert "".join(inside.split()) == "".join(text.split())
    assert all(one[1] <= two[0] for one, two in pairwise(spans))


def test_sentences_do_not_end_at_initials_titles_and_numbers_of_lists() -> None:
    text = "Mr. J. Smith came. 1. He saw! Then e.g. nothing.\n2. An item"
    assert [text[a:b] for a, b in sentences(text)] == [
        "Mr. J. Smith came.", "1. He saw!", "Then e.g. nothing.", "2. An item",
    ]  # fmt: skip


def test_stems_join_the_forms_of_a_word() -> None:
    assert len({stem(word) for word in ("invest", "invested", "investing", "investments")}) == 1
    assert stem("went") == stem("goes")
    assert "fall" in OPPOSITES[stem("rise")]


def test_more_coverage_never_hurts() -> None:
    """The law of the model: what a feature says in favour can only raise the support."""
    model = Model.load()
    assert (model.weights >= 0).all()
    context = Context([TOWER])
    (sentence,) = [read(TOWER, a, b, context, model.vocabulary) for a, b in parts(TOWER)][:1]
    base = model.risk([sentence])
    for name in ("covered", "best_place", "covered_pairs"):
        worse = sentence.features.copy()
        worse[NAMES.index(name)] -= 0.5
        other = type(sentence)(sentence.start, sentence.end, worse)
        assert model.risk([other]) >= base


def test_the_weights_are_of_this_version_and_read_as_they_are_written() -> None:
    model = Model.load()
    assert model.weights.shape == (len(COLUMNS),)
    assert model.dumps() == FILE.read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="another version"):
        Model.parse('{"weights": {"magic:mean": 1}, "words": {}, "offset": 0, "rare": 1}')


def test_the_columns_of_one_sentence_are_its_features_twice() -> None:
    model = Model.load()
    context = Context([TOWER])
    sentence = read("Iron is high.", 0, 13, context, model.vocabulary)
    row = columns([sentence])
    assert len(row) == len(COLUMNS) == len(FEATURES) + 1
    assert np.array_equal(row[: len(FEATURES) // 2], row[len(FEATURES) // 2 : -1])
    assert row[-1] == -length(sentence.end)


def test_lengths_that_no_training_answer_had_count_as_the_nearest() -> None:
    assert length(1) == length(SHORTEST) < length(SHORTEST + 1)
    assert length(10_000_000) == length(LONGEST)


@pytest.mark.parametrize(
    ("answer", "added"),
    [
        ("Sales were not lower in May.", 1),
        ("Sales were lower in May.", 0),
        ("Costs did not rise.", 0),
        ("Nobody knew that costs rose.", 1),
        ("It is not known to us why sales were lower.", 0),
    ],
)
def test_a_negation_counts_at_words_that_the_context_says_plainly(answer: str, added: int) -> None:
    context = Context(["Sales were lower in May. Costs did not rise."])
    found = read(answer, 0, len(answer), context, Model.load().vocabulary)
    assert found.features[NAMES.index("negation_added")] == added


def _worst() -> dict[str, str]:
    letters = string.ascii_lowercase
    rng = random.Random(7)
    distinct = " ".join("".join(rng.choices(letters, k=6)) for _ in range(14_000))
    size = 100_000
    return {
        "letters": "a" * size,
        "words": "a " * (size // 2),
        "sentences": "A. " * (size // 3),
        "list": "1. " * (size // 3),
        "digits": "1," * (size // 2),
        "stops": "." * size,
        "quotes": '."' * (size // 2),
        "lines": "\n" * size,
        "names": "Ab Cd " * (size // 6),
        "numbers": "3 million " * (size // 10),
        "prefixes": "un" * (size // 2),
        "distinct": distinct,
        "apostrophes": "a'" * (size // 2),
        "repeated": "The tower of Paris is 330 m high in 1925. " * (size // 42),
    }


@pytest.mark.parametrize("name", sorted(_worst()))
def test_hostile_texts_cost_no_more_than_their_length(name: str) -> None:
    """Twice the text, about twice the time; the factor leaves room for a noisy machine, not for a square."""
    text = _worst()[name]

    def cost(of: str) -> float:
        spent = []
        for attempt in range(2):
            begun = process_time()
            with suppress(TooLong):  # the context has been read by then
                support(of, [of, str(attempt)])
            spent.append(process_time() - begun)
        return min(spent)

    assert cost(text) < 12 * cost(text[: len(text) // 4]) + 0.3


def test_an_answer_that_is_too_long_is_refused_and_a_long_one_judged_to_its_end() -> None:
    with pytest.raises(TooLong):
        support("Iron is old.\n" * (MAX_SENTENCES + 1), TOWER)
    with pytest.raises(TooLong) as caught:
        support("Pigeon" * 1_700_000, TOWER)
    assert "Pigeon" not in str(caught.value)
    long = "It is made of iron.\n" * (MAX_SENTENCES - 1) + "Pigeons love Belgian chocolate."
    found = support(long, TOWER)
    assert len(found.sentences) == MAX_SENTENCES
    assert long[found.spans[-1].start : found.spans[-1].end] == "Pigeons love Belgian chocolate."
    assert "9999" in marked("iron " * 110 + "9999")


def test_letters_are_the_same_however_they_are_encoded() -> None:
    whole, parted = "Café Zoë opened in Zürich.", unicodedata.normalize("NFD", "Café Zoë opened in Zürich.")
    assert whole != parted
    for answer, context in ((whole, parted), (parted, whole), ("A ﬁnance ﬁrm.", "A finance firm.")):
        assert support(answer, context).spans == ()
    (bad,) = marked(unicodedata.normalize("NFD", "The Eiffel Tower in Zürich was completed in 1889."))
    assert unicodedata.normalize("NFC", bad) == "Zürich"


def test_spans_are_places_in_the_answer_as_it_was_given() -> None:
    for before in ("😀 ", "İstanbul! ", "e\u0301\u0300 ", "\u200b", "ﬃ "):
        answer = f"{before}The Eiffel Tower in Paris was completed in 1925."
        assert "1925" in " ".join(marked(answer))
        assert all(token.word for token in tokens(answer))


def test_signs_of_scripts_without_spaces_are_words() -> None:
    assert (
        support("東京タワーは高い", "高い東京タワーは").score
        > support("東京タワーは高い", "エッフェル塔").score + 0.3
    )


def test_a_token_knows_where_it_stands() -> None:
    text = "Paid $4.50 in May"
    assert [text[t.start : t.end] for t in tokens(text)] == ["Paid", "$", "4.50", "in", "May"]
    assert [t.number for t in tokens(text)][2] == 4.5
