from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from guardrails import tokens
from guardrails.call import Image, Message, OpaquePart, Reasoning, Request, Text, Tool, ToolResult, ToolUse
from guardrails.tokens import SLICE, Counted, count, count_messages, estimate, slices

ROOT = Path(__file__).parents[2]
SHARED = Path(os.environ.get("EVALKIT_SHARED") or ROOT.parent / "shared")
VOCABULARIES = SHARED / "tiktoken"

needs_vocabulary = pytest.mark.skipif(
    not VOCABULARIES.is_dir(), reason=f"no tiktoken vocabularies in {VOCABULARIES} (set EVALKIT_SHARED)"
)

WORDS = st.text(alphabet="ab cdEFG.,_(\n\t1234éß中国のひ안Жщ😀'[]", max_size=200)
ANY = st.one_of(WORDS, st.text(max_size=200))


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever opens a connection or looks up a name fails the test."""

    def refuse(*_: Any, **__: Any) -> NoReturn:
        pytest.fail("the network was asked for")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def nothing_on_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(VOCABULARIES))
    assert tokens.warm("gpt-4o")


# --- without a vocabulary ----------------------------------------------------------------------------------


def test_without_a_vocabulary_the_count_is_an_estimate(nothing_on_disk: Path) -> None:
    assert count("Hello, world!", "gpt-4o") == Counted(estimate("Hello, world!"), "estimate")
    assert not tokens.warm("gpt-4o")


def test_a_vocabulary_with_the_wrong_content_is_left_alone(nothing_on_disk: Path) -> None:
    file = tokens._file(nothing_on_disk, "o200k_base")
    file.write_bytes(b"half a download")
    assert count("Hello", "gpt-4o").source == "estimate"
    assert file.read_bytes() == b"half a download"


def test_an_empty_variable_switches_the_cache_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", "")
    monkeypatch.setenv("DATA_GYM_CACHE_DIR", str(VOCABULARIES))
    assert tokens.cache_directory() is None
    assert count("Hello", "gpt-4o").source == "estimate"


def test_the_cache_is_looked_for_where_tiktoken_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TIKTOKEN_CACHE_DIR", raising=False)
    monkeypatch.setenv("DATA_GYM_CACHE_DIR", "/somewhere")
    assert tokens.cache_directory() == Path("/somewhere")
    monkeypatch.delenv("DATA_GYM_CACHE_DIR")
    folder = tokens.cache_directory()
    assert folder is not None
    assert folder.name == "data-gym-cache"


def test_an_absent_vocabulary_costs_no_import(nothing_on_disk: Path) -> None:
    script = (
        "import sys; from guardrails.tokens import count; "
        "assert count('Hello', 'gpt-4o').source == 'estimate'; "
        "print(sorted({'tiktoken', 'requests', 'numpy', 'pydantic'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


# --- with one ----------------------------------------------------------------------------------------------


@needs_vocabulary
@pytest.mark.usefixtures("on_disk")
class TestWithVocabulary:
    @pytest.mark.parametrize(
        "model", ["gpt-4o", "openai/gpt-4o-mini", "gpt-5", "o3", "groq/openai/gpt-oss-20b"]
    )
    def test_models_of_one_vocabulary_are_counted_exactly(self, model: str) -> None:
        assert count("Hello, world! 1234567", model) == Counted(8, "tokenizer")

    @pytest.mark.parametrize("model", ["claude-opus-5", "meta-llama/Llama-3.3-70B-Instruct", "my-llama", ""])
    def test_other_models_get_an_estimate_although_a_vocabulary_is_there(self, model: str) -> None:
        assert count("Hello, world!", model) == Counted(estimate("Hello, world!"), "estimate")

    def test_what_looks_like_a_special_token_is_text(self) -> None:
        assert count("<|endoftext|>", "gpt-4o").n > 1
        assert count("<|start|>system<|message|>", "gpt-oss-20b").n > 2

    @given(st.text(st.characters(codec=None), max_size=50))
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_any_text_can_be_counted(self, text: str) -> None:
        assert count(text, "gpt-4o").n <= max(4 * len(text), 0)

    @given(ANY, st.integers(1, 40), st.sampled_from(["gpt-4o", "gpt-4"]))
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_a_safe_cut_changes_no_count(self, text: str, size: int, model: str) -> None:
        whole = count(text, model)
        assert whole.source == "tokenizer"
        pieces = list(slices(text, size))
        if all(safe for _, safe in pieces):
            assert sum(count(piece, model).n for piece, _ in pieces) == whole.n

    def test_a_megabyte_of_one_letter_is_counted_and_called_an_estimate(self) -> None:
        assert count("a" * 10**6, "gpt-4o") == Counted(125_000, "estimate")

    def test_a_long_text_with_words_stays_exact(self) -> None:
        sentence = "The quick brown fox, 42 years old, doesn't jump.\n"
        times = 4 * SLICE // len(sentence)
        exact = count(sentence + sentence, "gpt-4o").n - count(sentence, "gpt-4o").n
        whole = count(sentence * times, "gpt-4o")
        assert whole.source == "tokenizer"
        assert abs(whole.n - exact * times) <= 1

    def test_a_prompt_of_text_is_exact_but_for_its_template(self) -> None:
        request = Request((Message.of("system", "Be brief."), Message.of("user", "Hello, world!")))
        expected = count("Be brief.", "gpt-4o").n + count("Hello, world!", "gpt-4o").n + 2 * 4 + 3
        assert count_messages(request, "gpt-4o") == Counted(expected, "tokenizer")

    @pytest.mark.parametrize("part", [Image("https://example.org/cat.png"), OpaquePart({"type": "audio"})])
    def test_a_part_that_cannot_be_counted_makes_it_an_estimate(self, part: Image | OpaquePart) -> None:
        hello = Text("Hello")
        request = Request((Message("user", (hello, part)),))
        nested = Request((Message("tool", (ToolResult("1", (hello, part)),)),))
        plain = Request((Message("user", (hello,)),))
        assert count_messages(plain, "gpt-4o").source == "tokenizer"
        for asked in (request, nested):
            assert count_messages(asked, "gpt-4o") == Counted(count_messages(plain, "gpt-4o").n, "estimate")

    def test_a_tool_makes_it_an_estimate(self) -> None:
        request = Request(
            (Message.of("user", "Hello"),), tools=(Tool("search", "Find it", {"type": "object"}),)
        )
        assert count_messages(request, "gpt-4o").source == "estimate"


# --- a prompt ----------------------------------------------------------------------------------------------


def test_every_text_of_a_prompt_counts() -> None:
    parts = (
        Text("one two"),
        Reasoning("three"),
        ToolUse("id", "search", '{"query": "four"}'),
        ToolResult("id", (Text("five six"), Image("data:image/png;base64,AAAA"))),
    )
    request = Request((Message("user", parts),), tools=(Tool("look", None, {"a": "b"}),))
    texts = ("one two", "three", "search", '{"query": "four"}', "five six", 'look  {"a": "b"}')
    assert count_messages(request, "claude-opus-5") == Counted(sum(map(estimate, texts)) + 4 + 3, "estimate")


def test_an_empty_prompt_counts_only_the_template() -> None:
    assert count_messages(Request(()), "claude-opus-5") == Counted(3, "estimate")


def test_a_schema_that_is_not_json_is_still_counted() -> None:
    request = Request((), tools=(Tool("look", None, {"a": object}),))
    assert count_messages(request, "claude-opus-5").n > 3


# --- slices ------------------------------------------------------------------------------------------------


@given(ANY, st.integers(1, 40))
def test_slices_are_bounded_and_lose_nothing(text: str, size: int) -> None:
    pieces = [piece for piece, _ in slices(text, size)]
    assert "".join(pieces) == text
    assert all(0 < len(piece) <= size for piece in pieces)
    # two slices together are longer than one may be: the number of slices is bounded too
    assert len(pieces) <= 2 * (len(text) // size) + 2


@pytest.mark.parametrize("text", ["a" * 10**6, " " * 10**6, "中" * 10**6, "a  " * 300_000, ". " * 500_000])
def test_a_megabyte_without_a_safe_place_is_cut_into_bounded_slices(text: str) -> None:
    pieces = list(slices(text))
    assert max(len(piece) for piece, _ in pieces) <= SLICE
    assert not all(safe for _, safe in pieces)
    assert len(pieces) <= 2 * len(text) // SLICE + 2


# --- the estimate ------------------------------------------------------------------------------------------


def test_the_empty_text_has_no_tokens() -> None:
    assert estimate("") == 0
    assert count("", "claude-opus-5") == Counted(0, "estimate")


@given(ANY)
def test_an_estimate_lies_between_a_64th_of_the_characters_and_all_of_them(text: str) -> None:
    assert len(text) / 64 * 0.8 <= estimate(text) <= len(text)
    assert (estimate(text) == 0) == (not text)


@given(ANY, ANY)
def test_joined_texts_have_hardly_more_tokens_than_their_parts(a: str, b: str) -> None:
    assert estimate(a + b) <= estimate(a) + estimate(b) + 2


@given(ANY, ANY)
def test_more_text_never_has_notably_fewer_tokens(a: str, b: str) -> None:
    assert estimate(a + b) >= max(estimate(a), estimate(b)) - 2


@given(st.text(alphabet="ab cdEFG.,_(\n1é中のЖ", min_size=1, max_size=20), st.integers(2, 50))
def test_the_estimate_is_linear_in_repetitions(text: str, times: int) -> None:
    text += "\n."  # an end that no piece reaches across
    each = estimate(text * 2) - estimate(text)
    assert abs(estimate(text * times) - estimate(text) - (times - 1) * each) <= times + 1


@pytest.mark.parametrize("unit", ["a", " ", "\n", "_", "é", "中", "[\n", " \t", "\x00", "😀", "aA", "\ud800"])
def test_a_long_run_is_counted_in_blocks_as_a_short_one(unit: str) -> None:
    block = unit * 6720  # a multiple of every piece's length
    assert abs(estimate(block * 30) - 30 * estimate(block)) <= 60


@pytest.mark.parametrize(
    ("text", "n"),
    [
        ("hello world", 2),
        ("self.assertEqual(x)", 5),
        ("1234567", 3),
        ("Привет", 2),
        ("中文字符串", 4),
        ("\n\n\n", 1),
    ],
)
def test_the_rule_by_hand(text: str, n: int) -> None:
    assert estimate(text) == n


@needs_vocabulary
def test_the_estimate_is_as_close_as_its_docstring_says(on_disk: None) -> None:
    text = (ROOT / "guardrails" / "tokens.py").read_text()
    prose = (ROOT / "LICENSE").read_text()
    for sample in (text, prose):
        exact = count(sample, "gpt-4o")
        assert exact.source == "tokenizer"
        assert abs(estimate(sample) - exact.n) < 0.15 * exact.n


@given(
    st.text(st.sampled_from([chr(code) for code in range(128)]) | st.sampled_from(" aAbZ_.(9\n"), max_size=80)
)
def test_ascii_is_cut_as_any_other_text(text: str) -> None:
    assert tokens._ASCII_PIECE.findall(text) == tokens._PIECE.findall(text)
