"""What one sample's texts give away: the answer in the prompt, and personal data.

What is covered: case, white space, composed and decomposed letters, full-width forms, characters that show
nothing. What is not: answers in other words or with other endings, look-alike letters, and answers in
passages of context, which are there to answer from.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from evalkit.rows import shown
from evalkit.sample import Sample

Detect = Callable[[str], Sequence[Any]]

_SCANNED = 20_000  # characters at a time
_AROUND = 200
_TRIES = 1_000
_OPTION = re.compile(r"(?:^|[\s(\[])(?:[A-Ha-h]|[1-9])[).:\]](?=\s)")
_UNSEEN = re.compile(
    "[\u00ad\u034f\u061c\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff]"
)
_HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WHOLE_WORDS = re.compile(f"[々{_HAN}]")
_UNSPACED = re.compile(f"[々ー\u3041-\u30ff\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff{_HAN}]")
"""Letters of texts that have no spaces between words: Chinese, Japanese, Thai, Lao, Burmese, Khmer."""


def flat(text: str) -> str:
    """A text for comparing: what a reader takes for the same is the same."""
    if not text.isascii():
        # Folding can leave letters and marks in an order that is not the usual one: so once more.
        text = unicodedata.normalize("NFKC", _UNSEEN.sub("", text)).casefold()
        text = unicodedata.normalize("NFKC", text)
    return " ".join(text.casefold().split())


def prompt_of(sample: Sample) -> str:
    """All that is asked, but for passages of context: the conversation, and how the user goes on.

    One message of the user is the same question as an input.
    """
    one = sample.messages[0] if len(sample.messages) == 1 else None
    asked = one.text if one is not None else sample.question().prompt
    goals = (str(value) for value in (sample.user or {}).values())
    return "\n".join((asked, *sample.turns, *goals))


# --- leaked answers ----------------------------------------------------------------------------------------


def leaks(reference: str, prompt: str, metadata: Any) -> bool:
    """Whether the prompt gives the answer away: it holds the reference, word for word.

    Left out are answers that have to be there or may be there by chance: choices of a list, numbers, words
    of fewer than 4 letters (a Chinese character counts for two), patterns.
    """
    wanted = flat(reference)
    if len(wanted) + len(_WHOLE_WORDS.findall(wanted)) < 4 or not any(map(str.isalpha, wanted)):
        return False
    if "choices" in metadata or metadata.get("scorer") in ("choice", "regex"):
        return False
    text = flat(prompt)
    at = text.find(wanted)
    for _ in range(_TRIES):
        if at < 0:
            return False
        end = at + len(wanted)
        if not _one_word(text[at - 1 : at], wanted[0]) and not _one_word(wanted[-1], text[end : end + 1]):
            return sum(1 for _ in _OPTION.finditer(prompt)) < 2
        at = text.find(wanted, at + 1)
    return False


def _one_word(before: str, after: str) -> bool:
    """Whether a word goes on from one character to the next; either may be missing."""
    if not before.isalnum() or not after.isalnum():
        return False
    return not (_UNSPACED.match(before) or _UNSPACED.match(after))


# --- personal data -----------------------------------------------------------------------------------------


def personal(sample: Sample, detect: Detect) -> Iterator[str]:
    """The kinds of personal data in a sample's texts, and in which; never the data."""
    for where, text in _texts(sample):
        kinds: Counter[str] = Counter()
        for start in range(0, len(text), _SCANNED):
            begin = max(0, start - _AROUND)
            for finding in detect(text[begin : start + _SCANNED]):
                # one that ends in what was scanned before has been counted
                kinds[finding.kind] += begin + finding.end > start or start == 0
        for kind, count in sorted(kinds.items()):
            if count:
                yield f"{kind} in {where}" + (f", {count} times" if count > 1 else "")


def _texts(sample: Sample) -> Iterator[tuple[str, str]]:
    if sample.input is not None:
        yield "input", sample.input
    for name, texts in (
        ("messages", [turn.text for turn in sample.messages]),
        ("references", sample.references),
        ("context", sample.context),
        ("turns", sample.turns),
    ):
        for number, text in enumerate(texts):
            yield f"{name}[{number}]", text
    if sample.metadata:
        yield from _inner(sample.metadata, "metadata")


def _inner(value: Any, place: str) -> Iterator[tuple[str, str]]:
    """The texts in a value, each with its place. A name that is no plain word may be personal itself."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, list | tuple):
        for number, each in enumerate(value):
            yield from _inner(each, f"{place}[{number}]")
    elif isinstance(value, dict):
        for number, (name, each) in enumerate(value.items()):
            plain = isinstance(name, str) and name.isidentifier()
            if not plain:
                yield f"a name in {place}", str(name)
            yield from _inner(each, f"{place}.{shown(name) if plain else f'({number + 1})'}")
