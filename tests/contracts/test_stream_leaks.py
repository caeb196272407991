"""Our output filters through every case of the suite, and the suite through filters that leak."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from guardrails.call import Call, Delta, Event, Finish, Request
from guardrails.errors import Blocked
from guardrails.filters import Detector, OutputFilters, Pii, redact
from guardrails.filters.normal import Normalized
from guardrails.filters.secrets import Secrets
from guardrails.handler import Stream


def _suite() -> ModuleType:
    if "stream_leaks" in sys.modules:  # the benchmark has loaded it
        return sys.modules["stream_leaks"]
    path = Path(__file__).with_name("stream_leaks.py")
    spec = importlib.util.spec_from_file_location("stream_leaks", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # dataclasses look there
    spec.loader.exec_module(module)
    return module


suite: Any = _suite()
DETECTORS = (Pii(), Secrets())


@dataclass
class Ours:
    """`OutputFilters` with the detectors for personal data and for secrets."""

    detectors: Sequence[Detector] = DETECTORS
    name: str = "evalkit-guardrails"
    kinds: Sequence[str] = tuple(suite.VALUES)
    modes: Sequence[str] = ("redact", "block")

    async def filter(self, source: AsyncIterator[Any], mode: Any) -> AsyncIterator[Any]:
        async def events() -> AsyncGenerator[Event]:
            choices = set()
            async for choice, text in source:
                choices.add(choice)
                yield Delta(text, choice=choice)
            for choice in choices:
                yield Finish("stop", choice=choice)

        @asynccontextmanager
        async def endpoint(call: Call) -> AsyncGenerator[Stream]:
            yield events()

        layer = OutputFilters(self.detectors, action=mode)
        try:
            async with layer(Call(Request.of("?")), endpoint) as stream:
                async for event in stream:
                    if isinstance(event, Delta):
                        yield event.choice, event.text
        except Blocked as error:
            raise suite.Stopped from error


@dataclass
class Leaky:
    """A filter as they are often written: by chunk, by sentence, or with one buffer for everybody."""

    how: str
    name: str = "leaky"
    kinds: Sequence[str] = ("email", "card")
    modes: Sequence[str] = ("redact", "block")
    buffer: str = ""

    async def filter(self, source: AsyncIterator[Any], mode: Any) -> AsyncIterator[Any]:
        async for choice, text in source:
            if choice and self.how == "first choice only":
                continue
            self.buffer += text
            if self.how == "sentence" and not text.endswith((".", "!", "?")):
                continue
            whole, self.buffer = self.buffer, ""
            found = [f for detector in DETECTORS for f in detector.detect(whole)]
            if mode == "block" and found:
                raise suite.Stopped
            yield choice, redact(whole, found)


@pytest.mark.asyncio
async def test_ours_passes_every_case() -> None:
    score = await suite.run(Ours())
    assert score.failures == ()
    assert score.unsupported == 0
    assert score.runs > 500
    assert score.held < 200


@pytest.mark.asyncio
async def test_the_suite_notices_a_filter_that_judges_each_chunk() -> None:
    row = (await suite.run(Leaky("chunk"))).row()
    assert row["runs that leak"] > 50
    assert row["blocks missed"] > 5
    assert row["held, median"] == 0


@pytest.mark.asyncio
async def test_the_suite_notices_a_filter_that_judges_sentences_of_everybody() -> None:
    failures = (await suite.run(Leaky("sentence"))).failures
    lost = {failure.case for failure in failures if failure.lost}
    assert "at the end, email" in lost  # without a full stop it never comes out
    mixed = {failure.case for failure in failures if failure.wrong}
    assert "two at once, words" in mixed


@pytest.mark.asyncio
async def test_the_suite_notices_a_lost_choice_an_error_and_what_is_not_supported() -> None:
    failures = (await suite.run(Leaky("first choice only"))).failures
    assert any(failure.case == "second choice, email" and failure.lost for failure in failures)

    class Broken(Leaky):
        async def filter(self, source: AsyncIterator[Any], mode: Any) -> AsyncIterator[Any]:
            if mode == "redact":
                raise suite.Unsupported
            raise ZeroDivisionError
            yield

    score = await suite.run(Broken(""))
    assert score.unsupported > 10
    block_only = await suite.run(Broken("", modes=("block",)))
    assert block_only.runs == score.runs + 1 + sum(case.cut for case in suite.cases(Broken("").kinds))
    assert len(score.failures) == score.runs
    assert score.failures[0].error == "error: ZeroDivisionError"


def test_scores_print_as_a_table() -> None:
    score = suite.Score("ours", 3, 0, (suite.Failure("x", leaked=4),), 12.0, 30, 9)
    assert "runs that leak     1" in suite.table([score.row()])
    assert suite.table([]) == ""


# --- values in disguise ------------------------------------------------------------------------------------

FILLERS = {
    "tag characters": "".join(chr(0xE0020 + number) for number in range(95)),
    "zero width": "\u200b" * 150,
    "variation selectors": "\ufe00\U000e0100" * 75,
    "fillers": "\u3164\uffa0\u17b4\u115f" * 40,
    "musical": "\U0001d173" * 150,
    "wide letters": "\uff4a\uff4f" * 60,
    "mathematical letters": "\U0001d423" * 120,
    "entities": "&#x200b;" * 40,
    "an entity after an entity": "&ZeroWidthSpace;&zwnj;" * 20,
}
HIDDEN = {
    "an address": ("jo", "@acme.com", "EMAIL_ADDRESS"),
    "a number's first group": ("+1 212 ", "555 0187", "PHONE_NUMBER"),
}


@pytest.mark.asyncio
@pytest.mark.parametrize("value", HIDDEN)
@pytest.mark.parametrize("filler", FILLERS)
@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_what_stretches_a_value_lets_no_part_of_it_out(filler: str, value: str, size: int) -> None:
    first, second, kind = HIDDEN[value]
    if kind == "PHONE_NUMBER" and "letters" in filler:
        pytest.skip("a number with letters in it is none")
    before, after = "Now please write to ", " before noon tomorrow, as was agreed by all of us last week."
    text = before + first + FILLERS[filler] + second + after
    pieces = ((0, text[at : at + size]) for at in range(0, len(text), size))

    async def source() -> AsyncIterator[Any]:
        for piece in pieces:
            yield piece

    released = "".join([text async for _, text in Ours([Normalized(Pii())]).filter(source(), "redact")])
    assert released == f"{before}<{kind}>{after}"
