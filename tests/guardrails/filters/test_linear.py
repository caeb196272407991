"""The linear model: the same numbers everywhere, windows that cover the text, effort linear in its length."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardrails.errors import ConfigError
from guardrails.filters import linear
from guardrails.filters.linear import BLOCK, LONGEST, SLACK, STRIDE, Features, LinearModel

PROSE = "The quick brown fox doesn't like lazy dogs; it jumped over 13 fences, and said: “Hello, wörld!”\n"

GOLDEN = [
    [229091, 99036, 29878, 5145, 78611, 139009, 27818],
    [125616, 28597, 207331, 72130, 5770, 69595],
    [14181, 259797, 128222, 57514, 249127],
    [136862, 205298, 132939, 17724],
    [25435, 65573],
    [17384],
]
GOLDEN_DIGEST = "afc3c62f7006477220ab3028ea5d3c37bc574ae2a9be565159528743c0a6829e"
GOLDEN_FOLDED = "acd84a6f47f378245805f5b35ccb211a7792a7ed7393dfa8b8cd2c4f4d903d11"
GOLDEN_LETTERS = "adfb3105d4c913ff25424059a1d5f220527ca465235e985ac3323ef9157af32d"


WINDOW = LONGEST * STRIDE


def model(seed: int = 7, strides: int = LONGEST) -> LinearModel:
    weights = np.random.default_rng(seed).integers(-40, 41, 1 << linear.BITS).astype(np.int8)
    return LinearModel("test", weights, scale=0.003, bias=-0.5, threshold=0.5, strides=strides)


def only(text: str) -> Features:
    (block,) = Features.of(text)
    return block


def grams(block: Features, window: int = 0) -> list[list[int]]:
    """The buckets of a window, by kind."""
    lows, highs, *_ = block.windows(LONGEST)
    bounds = zip(lows[:, window], highs[:, window], strict=True)
    return [block.buckets[low:high].tolist() for low, high in bounds]


def slow_bucket(values: list[int], multiplier: int, finish: bool = True) -> int:
    """The same hash, one number after the other, in Python's integers."""
    value = 0
    for item in values:
        value = (value * multiplier + item) % 2**32
    return slow_finish(value) if finish else value


def slow_finish(value: int) -> int:
    value ^= value >> 15
    return (value * linear._FINISH % 2**32) >> (32 - linear.BITS)


texts = st.one_of(
    st.text(max_size=300),
    st.text(alphabet="ab  \n'é", max_size=900),
    st.lists(st.text(max_size=12), max_size=200).map(" ".join),
    st.builds(
        lambda a, b, n: a + b * n, st.text(max_size=5), st.text(min_size=1, max_size=5), st.integers(0, 700)
    ),
)


# --- the hashes --------------------------------------------------------------------------------------------


def test_the_hashes_are_these_in_every_version_and_on_every_platform() -> None:
    digest = hashlib.sha256(only(PROSE * 9).buckets.astype("<u4").tobytes()).hexdigest()
    assert grams(only("Hi you")) == GOLDEN
    assert digest == GOLDEN_DIGEST


def test_the_folding_is_this_in_every_version() -> None:
    tables = linear._tables()
    assert hashlib.sha256(tables.folded.astype("<u4").tobytes()).hexdigest() == GOLDEN_FOLDED
    assert hashlib.sha256(tables.letters.tobytes()).hexdigest() == GOLDEN_LETTERS


def test_a_loop_over_n_grams_finds_the_same() -> None:
    spread = [ord(c) * linear._SPREAD % 2**32 for c in " hi you "]
    found = grams(only("hi you"))
    for kind, order in enumerate((2, 3, 4, 5)):
        parts = [spread[i : i + order] for i in range(len(spread) - order + 1)]
        assert found[kind] == [slow_bucket(part, linear._ROLL) for part in parts]
    # A word's first letter has the lowest power.
    hi, you = (slow_bucket(part[::-1], linear._WORD, finish=False) for part in (spread[1:3], spread[4:7]))
    assert found[4] == [slow_finish(hi), slow_finish(you)]
    assert found[5] == [slow_finish((hi * linear._PAIR + you) % 2**32)]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Hello World", "hello world"),
        ("crème brûlée", "creme brulee"),
        ("a  \n\t b", "a b"),
        ("  padded ", "padded"),
        ("sooooooo", "soo"),
        ("zero\u200bwidth", "zerowidth"),
        ("don’t", "don't"),
        ("no\u00a0break", "no break"),
    ],
)
def test_what_looks_alike_counts_alike(one: str, other: str) -> None:
    assert grams(only(one)) == grams(only(other))


@pytest.mark.parametrize(("one", "other"), [("ab", "ba"), ("a b", "ab"), ("cat", "cats"), ("🙂 a", "🙁 a")])
def test_what_differs_counts_differently(one: str, other: str) -> None:
    assert grams(only(one)) != grams(only(other))


def test_words_are_found_wherever_they_stand() -> None:
    alone = grams(only("fence"))[4]
    assert alone[0] in grams(only(PROSE.replace("fences", "fence")))[4]
    assert alone[0] not in grams(only(PROSE))[4]


# --- windows -----------------------------------------------------------------------------------------------


@given(texts, st.integers(1, LONGEST))
def test_windows_are_in_order_within_the_text_and_cover_what_is_visible(text: str, strides: int) -> None:
    windows = model(strides=strides).windows(text)
    covered = np.zeros(len(text), bool)
    for window in windows:
        assert 0 <= window.start < window.end <= len(text)
        assert 0 <= window.score <= 1
        covered[window.start : window.end] = True
    assert windows == sorted(windows, key=lambda window: window[:2])
    tables = linear._tables()
    for position in np.flatnonzero(~covered):
        code = ord(text[position])
        invisible = code < linear._TABLE and tables.folded[code] in (0, linear._SPACE)
        again = position > 1 and text[position - 1].lower() == text[position].lower()
        assert invisible or again or _folds_alike(text, int(position)), (position, text)


def _folds_alike(text: str, position: int) -> bool:
    """Whether the character was left out as the third of its run."""
    folded = [int(linear._tables().folded[ord(c)]) if ord(c) < linear._TABLE else ord(c) for c in text]
    before = [code for code in folded[:position] if code]
    return before[-2:] == [folded[position]] * 2


@given(texts)
def test_the_score_is_that_of_the_worst_window(text: str) -> None:
    windows = model().windows(text)
    assert model().score(text) == max((window.score for window in windows), default=0.0)


@given(
    st.lists(
        st.sampled_from(["fox", "dogs", "jumped", "over", "a", "fence", "lazily", "42"]),
        min_size=1,
        max_size=600,
    )
)
def test_a_window_scores_like_its_text_alone(words: list[str]) -> None:
    text = " ".join(words)
    whole = model(strides=99)
    for strides in range(1, LONGEST + 1):
        for start, end, score in model(strides=strides).windows(text):
            assert whole.windows(text[start:end]) == [(0, end - start, score)]


@given(st.integers(1, 30), st.integers(1, 30))
def test_benign_text_around_does_not_hide_a_window(before: int, after: int) -> None:
    # A text of a stride's length lies whole in some window, wherever it stands.
    weights = np.zeros(1 << linear.BITS, np.int8)
    weights[grams(only("attack"))[4]] = 127
    spotter = LinearModel("spotter", weights, scale=1.0, bias=-1.0, threshold=0.5)
    text = PROSE * before + " attack " + PROSE * after
    place = text.index("attack")
    hit = [window for window in spotter.windows(text) if window.score > spotter.score(PROSE)]
    assert hit
    assert all(window.start <= place and place + 6 <= window.end for window in hit)


@pytest.mark.parametrize("strides", range(1, LONGEST + 1))
def test_a_window_begins_about_every_stride_and_is_as_long_as_the_model_says(strides: int) -> None:
    judge = model(strides=strides)
    assert len(judge.windows("x" * 10)) == len(judge.windows("word " * 19)) == 1
    windows = judge.windows((PROSE * 50)[:3950])
    assert len(windows) == 40 - strides + 1
    for one, other in itertools.pairwise(windows):
        assert STRIDE - SLACK <= other.start - one.start <= STRIDE + SLACK
        assert abs(one.end - one.start - strides * STRIDE) <= SLACK + 2


# --- one extraction, many texts and models ------------------------------------------------------------------


@given(texts)
def test_models_that_share_an_extraction_score_as_alone(text: str) -> None:
    first, second = model(1), model(2)
    shared = [(first.spans(block), second.spans(block)) for block in Features.of(text)]
    assert [window for one, _ in shared for window in one] == first.windows(text)
    assert [window for _, other in shared for window in other] == second.windows(text)


def test_threads_agree() -> None:
    samples = [PROSE * n + "é" * n for n in range(1, 40)]
    alone = [model().score(text) for text in samples]
    with ThreadPoolExecutor(8) as pool:
        for together in pool.map(lambda _: [model().score(text) for text in samples], range(8)):
            assert together == alone


# --- any text, at linear effort -----------------------------------------------------------------------------

HOSTILE = [
    "a.",
    "www.",
    "@",
    "1-",
    "{",
    "\u200b",
    "é",
    " ",
    "\n",
    "a ",
    "\x00",
    "\ud800",
    "🙂",
    "汉",
    "aA",
    "ab",
    "'",
]


@pytest.mark.parametrize("unit", HOSTILE)
def test_effort_is_linear(unit: str) -> None:
    for length in (0, 1, 2, 3, 10, 1_000, 10_000, 200_000):
        text = (unit * (length // len(unit) + 1))[:length]
        windows = hashes = 0
        for block in Features.of(text):
            low, high, starts, ends = block.windows(strides=1)
            windows += starts.size
            hashes += block.buckets.size
            assert ((high - low).sum(0) > 0).all()
            assert (starts < ends).all()
        seen = length * (1 + 2 * WINDOW / BLOCK) + 8  # blocks overlap by a window
        assert windows <= seen / STRIDE + 2 + 2 * seen / BLOCK
        assert hashes <= 6 * seen
        assert 0 <= model().score(text) <= 1


def test_a_text_of_several_blocks_is_seen_whole_and_in_place() -> None:
    weights = np.zeros(1 << linear.BITS, np.int8)
    weights[grams(only("attack"))[4]] = 127
    spotter = LinearModel("spotter", weights, scale=1.0, bias=-1.0, threshold=0.5)
    base = spotter.score(PROSE)
    for place in (0, BLOCK - WINDOW - 3, BLOCK - WINDOW, BLOCK - 3, BLOCK, 2 * BLOCK - WINDOW, 150_000):
        filler = (PROSE * (200_000 // len(PROSE)))[:place]
        text = f"{filler} attack {PROSE * 3}"
        at = text.index(" attack ") + 1
        hit = [window for window in spotter.windows(text) if window.score > base]
        assert hit, place
        assert all(window.start <= at and at + 6 <= window.end for window in hit)


@pytest.mark.parametrize("text", ["", " ", "\n\t ", "\u200b", "\u200b \u200b", "\x00"])
def test_nothing_visible_scores_nothing(text: str) -> None:
    assert list(Features.of(text)) == []
    assert model().windows(text) == []
    assert model().score(text) == 0.0


# --- files -------------------------------------------------------------------------------------------------


def test_a_model_survives_its_file() -> None:
    one = model()
    other = LinearModel.decode("test", one.encode())
    assert (other.weights == one.weights).all()
    assert (other.scale, other.bias, other.threshold) == (one.scale, one.bias, one.threshold)
    assert other.encode() == one.encode()


@settings(max_examples=30)
@given(st.integers(0, 5000), st.binary(max_size=40))
def test_a_damaged_file_is_named_as_such(cut: int, rest: bytes) -> None:
    small = LinearModel("test", np.zeros(1 << linear.BITS, np.int8), 1.0, 0.0, 0.5).encode()
    whole = small[: min(cut, len(small) - 1)] + rest
    if whole[: len(small)] == small:
        return
    with contextlib.suppress(ConfigError):  # any other error fails the test
        assert (
            LinearModel.decode("test", whole).weights.size == 1 << linear.BITS
        )  # luck: a digit of the header


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"{}\n",
        b"[]\n",
        b"null\nabc",
        b'{"format": "hashed-ngrams/9"}\n',
        model().encode()[:-1],
        b"\xff\n",
    ],
)
def test_a_damaged_file_raises_a_clear_error(data: bytes) -> None:
    with pytest.raises(ConfigError):
        LinearModel.decode("test", data)


def test_a_bomb_is_not_unpacked() -> None:
    one = LinearModel("test", np.zeros(1 << 24, np.int8), 1.0, 0.0, 0.5)
    with pytest.raises(ConfigError):
        LinearModel.decode("test", one.encode())


def test_an_unknown_name_is_a_clear_error() -> None:
    with pytest.raises(ConfigError, match="nonsense"):
        LinearModel.load("nonsense")


def test_importing_it_does_not_import_numpy() -> None:
    code = (
        "import sys, guardrails.filters.linear, guardrails.filters.toxicity; sys.exit('numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
