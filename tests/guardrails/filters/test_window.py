from __future__ import annotations

import random
import re
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from guardrails.filters import Finding, Window, redact, resolve, scan
from guardrails.filters.detector import UNSCANNABLE
from guardrails.filters.window import OPEN, SENTENCE, Whole, walk

REACH = 20
_NUMBERS = re.compile(r"(?<!\S)\d{1,4}(?: \d{1,4}){1,3}(?!\S)")  # up to 19 characters, over spaces
_ADDRESS = re.compile(r"[a-z]+@[a-z]+")


def detect(text: str) -> list[Finding]:
    numbers = [Finding("NUMBERS", m.start(), m.end(), 0.5, "t") for m in _NUMBERS.finditer(text)]
    return numbers + [Finding("ADDRESS", m.start(), m.end(), 1.0, "t") for m in _ADDRESS.finditer(text)]


def whole(text: str, window: Window) -> list[Finding]:
    found = window.push(text) + window.finish()
    assert found == resolve(found), "each finding comes out once, disjoint and in order"
    return found


def cut(text: str, places: list[int]) -> list[str]:
    at = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[a:b] for a, b in pairwise(at)]


words = st.sampled_from(["word ", "x" * 30, "12 ", "4567 ", "jo@acme ", "@", " ", "\n", "漢字", "a", ", "])
texts = st.lists(words, max_size=60).map("".join)
shapes = st.fixed_dictionaries(
    {
        "stride": st.sampled_from([1, 7, 32]),
        "context": st.sampled_from([0, 16]),
        "longest": st.sampled_from([50, 4096]),
    }
)


@settings(max_examples=300)
@given(texts, st.lists(st.integers(0, 2000), max_size=30), shapes)
def test_findings_do_not_depend_on_the_chunking(text: str, places: list[int], shape: dict[str, int]) -> None:
    looks: list[str] = []

    def probe(text: str) -> list[Finding]:
        looks.append(text)
        return detect(text)

    window = Window(probe, REACH, **shape)
    found = []
    for piece in cut(text, places):
        found += window.push(piece)
    found += window.finish()
    looks, chunked = [], looks
    assert found == whole(text, Window(probe, REACH, **shape))
    assert chunked == looks  # the very same texts were looked at, so any detector finds the same
    assert window.decided == len(text)


def test_every_single_split_of_a_text_gives_the_same() -> None:
    text = (
        "Write to jo@acme or call 12 4567 89 today, 漢字 jo@acme 漢字 and " + "x" * 80 + " then 1 2 3 4 5 6."
    )
    for longest in (40, 4096):
        expected = whole(text, Window(detect, REACH, stride=8, context=16, longest=longest))
        for place in range(len(text) + 1):
            window = Window(detect, REACH, stride=8, context=16, longest=longest)
            found = window.push(text[:place]) + window.push(text[place:]) + window.finish()
            assert found == expected


@settings(max_examples=300)
@given(texts, st.lists(st.integers(0, 2000), max_size=30))
def test_what_is_released_is_a_prefix_of_the_redacted_text(text: str, places: list[int]) -> None:
    """`decided` never lies within a finding of the whole text, so no prefix holds a part of one."""
    expected = redact(text, whole(text, Window(detect, REACH)))
    window, found, sent = Window(detect, REACH), [], ""
    for piece in [*cut(text, places), ""]:
        sent += piece
        found += window.push(piece)
        released = redact(sent[: window.decided], found)
        assert expected.startswith(released)
        assert all(f.end <= window.decided for f in found)
    found += window.finish()
    assert redact(text, found) == expected


spaced = st.lists(
    st.sampled_from(["word ", "12 ", "4567 ", "jo@acme ", "one, ", "\n", "word jo@acme. "]), max_size=60
).map("".join)


@settings(max_examples=300)
@given(spaced)
def test_windows_find_what_plain_detection_finds(text: str) -> None:
    assert redact(text, whole(text, Window(detect, REACH, stride=8))) == redact(text, detect(text))
    assert redact(text, scan(text, detect, REACH)) == redact(text, detect(text))


def test_clean_prose_flows() -> None:
    rng = random.Random(7)
    lexicon = ["the", "quick", "brown", "foxes", "understand", "a", "conversation", "of", "lazy", "dogs"]
    text = " ".join(rng.choice(lexicon) for _ in range(4000))
    window, held = Window(detect, 64), []
    for at in range(0, len(text), 3):
        window.push(text[at : at + 3])
        held.append(min(at + 3, len(text)) - window.decided)
    longest_word = max(map(len, lexicon)) + 1
    assert max(held) <= 64 + 32 + 2 * longest_word + 3
    assert sum(held) / len(held) <= 64 + 32


def test_unspaced_scripts_flow() -> None:
    window = Window(detect, 64)
    window.push("今日は天気がいいですね、散歩に行きましょう。" * 50)
    assert len("今日は天気がいいですね、散歩に行きましょう。") * 50 - window.decided <= 64 + 32 + 1


def test_a_run_without_a_break_fails_closed() -> None:
    text = "fine words, then " + "x" * 5000 + " and fine words again, jo@acme."
    found = whole(text, Window(detect, REACH))
    assert [f.kind for f in found] == [UNSCANNABLE, "ADDRESS"]
    assert redact(text, found).endswith(f"<{UNSCANNABLE}> and fine words again, <ADDRESS>.")


def test_a_run_that_never_ends_is_not_kept_and_not_released() -> None:
    window = Window(detect, REACH)
    for _ in range(100):
        assert window.push("x" * 1000) == []
    assert window.decided == 0
    assert len(window._text) <= 4096 + 1024
    assert [(f.kind, f.start, f.end) for f in window.finish()] == [(UNSCANNABLE, 0, 100_000)]


def test_a_short_run_is_held_whole_and_scanned_whole() -> None:
    text = "see " + "x" * 3000 + "jo@acme" + " so"
    found = whole(text, Window(detect, REACH))
    assert redact(text, found) == "see <ADDRESS> so"


def test_detectors_see_bounded_texts_a_bounded_number_of_times() -> None:
    sizes: list[int] = []

    def probe(text: str) -> list[Finding]:
        sizes.append(len(text))
        return []

    for hostile in ("a." * 50_000, "a b" * 30_000, "1 " * 50_000, " " * 100_000, "漢" * 100_000):
        sizes.clear()
        whole(hostile, Window(probe, 64))
        assert max(sizes, default=0) <= 96 + 64 + 32 + 4096
        assert sum(sizes) <= 8 * len(hostile)
        sizes.clear()
        scan(hostile, probe, 64)
        assert max(sizes, default=0) <= 96 + 64 + 2048 + 65_536
        assert sum(sizes) <= 1.2 * len(hostile)


def test_findings_that_cross_every_break_fail_closed() -> None:
    def everything(text: str) -> list[Finding]:
        return [Finding("ALL", 0, len(text), 1.0, "t")]

    text = "word " * 2000
    assert not redact(text, whole(text, Window(everything, 0))).count("word")


def test_a_finding_beyond_its_promised_reach_is_removed_from_the_cut_on() -> None:
    chain = re.compile(r"\d(?: \d){30,}")

    def liar(text: str) -> list[Finding]:
        return [Finding("CHAIN", m.start(), m.end(), 1.0, "t") for m in chain.finditer(text)]

    text = "so " + "1 " * 40 + "end"
    window, found = Window(liar, 4, stride=8), []
    for character in text:
        decided = window.decided
        new = window.push(character)
        assert all(f.start >= decided for f in new)
        found += new
    assert 0 < window.decided < len("so " + "1 " * 31)
    decided = window.decided
    found += window.finish()
    assert [f.start for f in found] == [decided]
    assert redact(text, found).endswith("<CHAIN> end")


# --- what has begun and not ended --------------------------------------------------------------------------

_BLOCK = re.compile(r"BEGIN\n(?:.|\n)*?(?:END|\Z)")


def blocks(text: str) -> list[Finding]:
    return [Finding("BLOCK", m.start(), m.end(), 1.0, "t") for m in _BLOCK.finditer(text)]


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, 400),
    st.sampled_from(["END", ""]),
    st.integers(0, 3),
    st.lists(st.integers(0, 20_000), max_size=20),
)
def test_an_open_finding_is_held_from_its_start_to_its_end(
    lines: int, end: str, tail: int, places: list[int]
) -> None:
    text = "some words before BEGIN\n" + "line of it\n" * lines + end + "\nand words after it" * tail
    expected = redact(text, blocks(text))
    window, found, sent = Window(blocks, 8, longest=100), [], ""
    for piece in cut(text, places):
        sent += piece
        found += window.push(piece)
        assert expected.startswith(redact(sent[: window.decided], found))
    found += window.finish()
    assert redact(text, found) == expected
    assert len(found) == 1


def test_what_is_open_for_too_long_takes_the_rest_along_at_a_linear_cost() -> None:
    looked = 0

    def count(text: str) -> list[Finding]:
        nonlocal looked
        looked += len(text)
        return blocks(text)

    text = "words before BEGIN\n" + "line of it\n" * 20_000 + "END and more"
    for size in (7_919, len(text)):
        window, found, looked = Window(count, 8), [], 0
        for start in range(0, len(text), size):
            found += window.push(text[start : start + size])
        found += window.finish()
        assert redact(text, found) == f"words before <{UNSCANNABLE}>"
        assert looked < 4 * OPEN


# --- whole sentences, whole answers ------------------------------------------------------------------------

sentences = st.lists(
    st.sampled_from(["One. ", "Two!) ", "three ", "four.five ", "x" * 60 + " ", "\n", "五。", 'Six." ', "."])
).map("".join)


@settings(max_examples=200)
@given(sentences, st.lists(st.integers(0, 2000), max_size=30))
def test_sentences_are_looked_at_when_they_are_whole_however_they_come(text: str, places: list[int]) -> None:
    def run(pieces: list[str]) -> tuple[list[str], list[int]]:
        looks: list[str] = []
        decided = []

        def probe(text: str) -> list[Finding]:
            looks.append(text)
            return []

        window = Window(probe, 0, stride=1, context=0, longest=200, pause=SENTENCE)
        for piece in pieces:
            window.push(piece)
            decided.append(window.decided)
        window.finish()
        return looks, decided

    looks, decided = run(cut(text, places))
    assert looks == run([text])[0]
    for place in decided:
        assert place == 0 or text[place - 1] in " \n。"


def test_a_whole_answer_is_looked_at_once_and_one_that_is_too_long_not_at_all() -> None:
    looks: list[str] = []

    def probe(text: str) -> list[Finding]:
        looks.append(text)
        return [Finding("BAD", 0, 3, 1.0, "t")]

    pane = Whole(probe, longest=10)
    for text, kind, start, end in [
        ("abc", "BAD", 0, 3),
        ("defgh" * 3, UNSCANNABLE, 3, 18),
        ("i", "BAD", 18, 21),
    ]:
        for character in text:
            assert walk(pane.pushing(character), probe) == []
        assert [(f.kind, f.start, f.end) for f in walk(pane.finishing(), probe)] == [(kind, start, end)]
    assert walk(pane.finishing(), probe) == []
    assert looks == ["abc", "i"]


def test_findings_end_to_end_are_looked_at_ever_more_seldom() -> None:
    looked = 0

    def all_but_the_break(text: str) -> list[Finding]:
        nonlocal looked
        looked += len(text)
        return [Finding("ALL", 0, len(text.rstrip()), 1.0, "t")]

    text = "you are " * 12_000
    window, found = Window(all_but_the_break, 64), []
    for start in range(0, len(text), 100):
        found += window.push(text[start : start + 100])
    found += window.finish()
    assert redact(text, found).replace("<ALL>", "").replace(f"<{UNSCANNABLE}>", "").strip() == ""
    assert looked < 6 * len(text)
