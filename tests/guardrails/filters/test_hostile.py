"""Texts made to be slow: every detector, and the filters of a stream, in a number of steps linear in length.

Counted are the calls of functions, Python's and C's, and the characters that a stream hands to its detectors:
never time, which says nothing on a busy machine. What one call of a regular expression engine does inside is
not seen here: `tests/bench/filter_costs.py` prints the time of the same texts at 100,000 characters.
"""

from __future__ import annotations

import asyncio
import base64
import random
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import pytest

from guardrails.call import Call, Delta, Request
from guardrails.endpoints.function import FunctionEndpoint
from guardrails.filters import Detector, Finding, OutputFilters, Pii, scan
from guardrails.filters.allowed import Allowed, UrlAllow
from guardrails.filters.jailbreak import Jailbreak
from guardrails.filters.normal import Normalized
from guardrails.filters.policy import Rule
from guardrails.filters.secrets import Secrets
from guardrails.filters.simple import Denied, Function, Invisible, JsonSchema, MaxLength
from guardrails.filters.toxicity import Toxicity
from guardrails.handler import stack
from guardrails.schema import TooManySteps

SIZE = 10_000
BLOCK = 1_500  # of random text, over and over: twice the length is twice the same
CHUNK = 7


def repeated(unit: str, size: int) -> str:
    return (unit * (size // len(unit) + 1))[:size]


def nested_base64(size: int) -> str:
    """An address in base64 in base64, as deep as fits."""
    data = b"mail jo@example.com or call 212-555-0123, key AKIA2OGYBAH6QLVPX5MZ"
    while len(data) * 4 // 3 + 4 <= size:
        data = base64.b64encode(data)
    return data.decode()


def random_bytes(size: int) -> str:
    return repeated(random.Random(5).randbytes(BLOCK).decode("latin-1"), size)


def random_unicode(size: int) -> str:
    rng = random.Random(6)
    codes = [rng.choice((rng.randrange(0x20, 0x3000), rng.randrange(0x10000, 0xE0200))) for _ in range(BLOCK)]
    return repeated("".join(map(chr, codes)), size)


def long_key(size: int) -> str:
    body = base64.b64encode(random.Random(7).randbytes(size)).decode()
    return ("-----BEGIN RSA PRIVATE KEY-----\n" + "\n".join(body[i : i + 64] for i in range(0, size, 64)))[
        :size
    ]


def nested_json(size: int) -> str:
    depth = size // 8
    return '{"a":[' * depth + "1" + "]}" * depth


UNITS = (
    *(
        "a.",
        "www.",
        "@",
        "1-",
        "1 ",
        "{",
        "[",
        "\u200b",
        "a\u200b",
        "\U000e0041",
        "e\u0301",
        "%41",
        "%25",
        "&amp;",
        "&#",
    ),
    *(
        "a@",
        "a@a.",
        "http://a",
        "://a:b@",
        "1.",
        "::",
        "a:",
        "0-0 ",
        "12345678 ",
        "+1",
        "DE89 ",
        "sk-",
        "eyJ",
        "eyJ.",
    ),
    *(
        "password=",
        "-----BEGIN ",
        "-----BEGIN PRIVATE KEY-----",
        "ignore all previous ",
        "talimat-",
        "don't forget your old rules ",
        "you are ",
        '"',
        "\\",
        '"\\',
    ),
    *("\u0430b", "請", "\ufdfa", "\ud800", "\x00", "\n", " ", "(", "* ", "QUJD"),
)
TEXTS: dict[str, Callable[[int], str]] = {
    **{repr(unit): partial(repeated, unit) for unit in UNITS},
    **{f.__name__: f for f in (nested_base64, random_bytes, random_unicode, long_key, nested_json)},
}

DETECTORS: dict[str, Detector] = {
    "pii": Pii(),
    "pii, plain": Normalized(Pii(), spelled=True),
    "secrets": Secrets(),
    "secrets, plain": Normalized(Secrets()),
    "toxicity": Toxicity(),
    "jailbreak": Jailbreak(),
    "jailbreak, plain": Normalized(Jailbreak()),
    "invisible": Invisible(),
    "denied": Denied(("project alpha", "a.a.a.b", "11-22")),
    "max_length": MaxLength(tokens=900),
    "json_schema": JsonSchema({"type": "object", "additionalProperties": {"type": "array"}}),
    "allowed": Allowed(topics=("weather", "a+b"), scripts=("Latin",)),
    "url_allow": UrlAllow(("example.org", "*.example.com")),
    "function": Function(lambda text: "a" in text, "function"),
}
CALLS = 100  # of functions for one character of a text, at most


def steps(work: Callable[[], object]) -> int:
    """How many functions are called, Python's and C's."""
    count, before = 0, sys.getprofile()

    def note(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


def looked(detector: Detector, text: str) -> list[Finding]:
    """What it finds; a schema that takes too many steps says so, and a filter then fails closed."""
    try:
        return detector.detect(text)
    except TooManySteps:
        return []


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("name", DETECTORS)
def test_a_detectors_calls_are_linear_in_the_length(name: str, text: str) -> None:
    detector = DETECTORS[name]
    half, whole = TEXTS[text](SIZE // 2), TEXTS[text](SIZE)
    for text_seen in (half, whole):  # the first look also loads what is needed
        for finding in looked(detector, text_seen):
            assert 0 <= finding.start <= finding.end <= len(text_seen)
    few, many = (steps(partial(looked, detector, given)) for given in (half, whole))
    growth = max(2.0, len(whole) / len(half))
    assert many <= 1.15 * growth * few + 4_000
    assert many <= CALLS * len(whole) + 4_000


# --- streams -----------------------------------------------------------------------------------------------


@dataclass
class Counting:
    """A detector that notes how many characters it was handed."""

    detector: Detector
    handed: list[int] = field(default_factory=list)

    def __getattr__(self, name: str) -> object:
        return getattr(self.detector, name)

    @property
    def name(self) -> str:
        return self.detector.name

    @property
    def reach(self) -> int:
        return self.detector.reach

    def detect(self, text: str) -> list[Finding]:
        self.handed.append(len(text))
        return self.detector.detect(text)


def pieces(text: str, size: int) -> Iterator[str]:
    return (text[at : at + size] for at in range(0, len(text), size))


async def streamed(text: str, size: int, detectors: list[Detector]) -> str:
    """What the filters let through of a text that arrives in pieces."""

    async def answer(request: Request) -> AsyncIterator[str]:
        for piece in pieces(text, size):
            yield piece

    rules = [Rule(detector, "redact") for detector in detectors]
    async with stack(FunctionEndpoint(answer), OutputFilters(rules))(Call(Request.of("go"))) as events:
        return "".join([event.text async for event in events if isinstance(event, Delta)])


PLACES = ("pii, plain", "secrets", "invisible", "denied", "url_allow")
WINDOWS = ("toxicity", "jailbreak")
LOOKS = 16  # of each detector at each character of a stream, at most


async def handed(text: str, names: Sequence[str], looks: int) -> None:
    counting = [Counting(DETECTORS[name]) for name in names]
    released = await streamed(text, CHUNK, list(counting))
    for each in counting:
        assert sum(each.handed) <= looks * len(text) + 4_096
    assert await streamed(text, len(text), list(counting)) == released


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("names", [PLACES, WINDOWS], ids=["places", "windows"])
def test_a_stream_hands_its_detectors_a_few_times_its_characters(names: Sequence[str], text: str) -> None:
    asyncio.run(handed(TEXTS[text](3_000), names, LOOKS))


@pytest.mark.parametrize("unit", ["* ", "0-0 ", "you are "])
def test_also_where_findings_lie_end_to_end(unit: str) -> None:
    # Those of windows do, in a text that is bad throughout: between them there is no place to cut.
    asyncio.run(handed(repeated(unit, 6_000), (*PLACES, *WINDOWS), LOOKS))


@pytest.mark.parametrize("text", TEXTS)
def test_a_whole_text_is_handed_over_a_few_times_at_most(text: str) -> None:
    class Nothing:
        name, reach = "nothing", 64

        def detect(self, text: str) -> list[Finding]:
            return []

    counting = Counting(Nothing())
    given = TEXTS[text](100_000)
    scan(given, counting.detect, counting.reach)
    assert sum(counting.handed) <= 3 * len(given)
