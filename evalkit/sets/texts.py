"""What one sample's texts give away: the answer in the prompt, and personal data.

What is covered: case, white space, composed and decomposed letters, full-width and half-width forms,
characters that show nothing. What is not: answers in other words or with other endings, look-alike letters,
and answers in passages of context, which are there to answer from.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

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


def _widths() -> Iterator[tuple[int, str]]:
    """Every full-width and half-width character, and the usual one for it."""
    for code in (0x3000, *range(0xFF00, 0xFFF0)):
        form, _, usual = unicodedata.decomposition(chr(code)).partition(" ")
        if form in ("<wide>", "<narrow>"):
            yield code, chr(int(usual, 16))


_WIDTHS = dict(_widths())


def flat(text: str) -> str:
    """A text for comparing: what a reader takes for the same is the same.

    Not NFKC: it makes 25 of 2⁵ and R of ℝ, which is another question.
    """
    if not text.isascii():
        text = unicodedata.normalize("NFC", _UNSEEN.sub("", text)).translate(_WIDTHS)
        # Marks of their own meet their letters now; folding can part them again: so once more.
        text = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())
    else:
        text = text.casefold()
    return " ".join(text.split())


def prompt_of(sample: Sample) -> str:
    """All that is asked, but for passages of context: the conversation, and how the user goes on.

    One message of the user is the same question as an input.
    """
    one = sample.messages[0] if len(sample.messages) == 1 else None
    asked = one.text if one is not None else sample.question().prompt
    goals = (str(value) for value in (sample.user or {}).values())
    return "\n".join((asked, *sample.turns, *goals))


# --- leaked answers ----------------------------------------------------------------------------------------

_NEAR = 100  # characters to either side of an answer that may belong to its sentence
_END = re.compile(r"[?!。]|\.(?=\s|$)")
_OFFER = re.compile(
    r"(?<!\byes )\bor\b(?! not?\b)|还是|還是|[和与與跟、].*哪|または|それとも|どちら|どっち", re.DOTALL
)
"""What a question offers choices with. "Yes or no" and "or not" say nothing of an answer beside them."""


def leaks(reference: str, prompt: str, metadata: Any) -> bool:
    """Whether the prompt gives the answer away: it holds the reference, word for word.

    Left out are answers that have to be there or may be there by chance: choices of a list or of a sentence,
    numbers, words of fewer than 4 letters (a Chinese character counts for two), patterns.
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
        whole = not _one_word(text[at - 1 : at], wanted[0]) and not _one_word(wanted[-1], text[end : end + 1])
        if whole and not _offered(text, at, end):
            return sum(1 for _ in _OPTION.finditer(prompt)) < 2
        at = text.find(wanted, at + 1)
    return False


def _offered(text: str, start: int, end: int) -> bool:
    """Whether the sentence around an answer offers it as one of several."""
    before = _END.split(text[max(0, start - _NEAR) : start])[-1]
    after = _END.split(text[end : end + _NEAR], maxsplit=1)[0]
    return _OFFER.search(f"{before}\0{after}") is not None


def _one_word(before: str, after: str) -> bool:
    """Whether a word goes on from one character to the next; either may be missing."""
    if not before.isalnum() or not after.isalnum():
        return False
    return not (_UNSPACED.match(before) or _UNSPACED.match(after))


# --- personal data -----------------------------------------------------------------------------------------


_PROVEN = frozenset({"EMAIL_ADDRESS", "CREDIT_CARD", "IBAN_CODE"})
"""Kinds that prove themselves: by their form, or by a checksum that few numbers pass by chance."""

_NUMBER = re.compile(r"(?<![A-Za-z0-9])(?:\d(?:-?\d){12}|[A-Za-z]{2}\d\d(?:-?[A-Za-z0-9]){8})")
"""What a card's number or an IBAN could be: most values of metadata need no closer look."""

_UNSURE = frozenset({"IP_ADDRESS", "PHONE_NUMBER"})
_SUPPORTED = 0.7  # the score of an unsure kind with a word beside it that speaks for it
_COUNTED = re.compile(r"[\d.]+")


def personal(sample: Sample, detect: Detect) -> Iterator[str]:
    """The kinds of personal data in a sample's texts, and in which; never the data.

    Metadata is looked at more strictly, and what the texts themselves hold is not told again for it.
    """
    told = set()
    for where, text in _texts(sample):
        kinds: Counter[str] = Counter()
        for kind, found, _ in _detected(text, detect):
            kinds[kind] += 1
            told.add((kind, flat(found)))
        yield from _said(kinds, where)
    for where, text in _inner(sample.metadata, "metadata"):
        one = len(text.split(None, 1)) < 2 and (text.isascii() or not _UNSPACED.search(text))
        if one and "@" not in text and not _NUMBER.search(text):
            continue
        yield from _said(
            Counter(
                kind
                for kind, found, score in _detected(text, detect)
                if (kind, flat(found)) not in told and _counts(kind, found, score, one=one)
            ),
            where,
        )


def _said(kinds: Counter[str], where: str) -> Iterator[str]:
    for kind, count in sorted(kinds.items()):
        yield f"{kind} in {where}" + (f", {count} times" if count > 1 else "")


def _detected(text: str, detect: Detect) -> Iterator[tuple[str, str, float]]:
    """Kind, text and score of each finding; a long text is looked at in parts that overlap."""
    for start in range(0, len(text), _SCANNED):
        begin = max(0, start - _AROUND)
        part = text[begin : start + _SCANNED]
        for finding in detect(part):
            # one that ends in what was scanned before has been told
            if begin + finding.end > start or start == 0:
                yield finding.kind, part[finding.start : finding.end], finding.score


def _counts(kind: str, found: str, score: float, *, one: bool) -> bool:
    """Whether a finding in metadata is worth telling: ids, versions and times of day look like many kinds.

    `one`: the value is a single word. In a longer text, a number without a word that speaks for it is none.
    """
    if one or kind in _PROVEN:
        return kind in _PROVEN
    if kind in _UNSURE and _COUNTED.fullmatch(found):
        return score >= _SUPPORTED
    return kind != "DATE_TIME"


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


def _inner(value: Any, place: str) -> Iterator[tuple[str, str]]:
    """The texts in a value, each with its place. A name that is no plain word may be personal itself."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, list | tuple):
        for number, each in enumerate(value):
            yield from _inner(each, f"{place}[{number}]")
    elif isinstance(value, dict):
        for number, (name, each) in enumerate(value.items()):
            plain = isinstance(name, str) and name.isidentifier()  # and then printable
            if not plain:
                yield f"a name in {place}", str(name)
            yield from _inner(each, f"{place}.{name[:40] if plain else f'({number + 1})'}")
