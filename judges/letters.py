"""Which letters an answer to a multiple-choice question names: `B`, `Answer: B`, `I think it is (b)`.

A statement ("the answer is B") counts for more than a letter in passing ("option A is about plants"), and a
letter that is denied right before or after it ("not B", "B is wrong") is not named. That goes by English
words near the letter: what a paragraph as a whole says is not understood.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import re2

# Groups hold letters, nothing else.
_LETTER = r"[\[({*_`\"']*(?:([A-Z])\b|([a-z])(?:[)\].:}*_`\"']|\s*$))"
_ALSO = r"(?:[)\]}*_`\"'.:]*\s*(?:,|/|&|\bor\b|\band\b)\s*[\[({*_`\"']*([A-Z])\b)?"
_BE = r"(?:is|would\s+be|should\s+be|must\s+be)\b"
_FILL = r"(?:\s+(?:" + _BE + r"|option\b|choice\b|answer\b))*"
_NAMED = r"(?i:" + _FILL + r")[\s:：=*_]*" + _LETTER + _ALSO
_PASSED = r"(?i:" + _FILL + r")[ \t:：=*_]*" + _LETTER + _ALSO
# Each step reads letters in one way; the first step that finds any decides. Two different letters in one step
# are ambiguous.
_STEPS = tuple(
    re2.compile(step)
    for step in (
        r"^[^\pL\pN]*([A-Za-z])[^\pL\pN]*$",
        # The answer is B; Answer: B; the correct option is B; \boxed{B}
        r"(?m:\\boxed\{\s*(?:\\text\{)?\(?([A-Za-z])\)?\}?\s*\}"
        r"|(?i:\banswer(?:\s+(?:option|choice))*[*_]*(?:\s*[:：=\n]|\s+" + _BE + r")"
        r"|\b(?:option|choice)\s+" + _BE + r")" + _NAMED + ")",
        r"(?m:(?i:\b(?:choose|pick|select)\b)" + _NAMED + ")",
        r"(?m:(?i:\b(?:answer|choice|option)\b)" + _PASSED + ")",
        r"(?m:^[^\pL\pN\n]*([A-Za-z])[)\].:][)\].:*_]*(?:\s|$))",
    )
)
_LONE = re2.compile(r"\b([A-Z])\b")

_NEAR = 60
"""Characters before and after a letter, among which a word that denies it is looked for."""

_NOT_BEFORE = re2.compile(
    r"(?i)(?:(?:\b(?:not|never|nor|neither|except|than|cannot|unlike|without|reject|exclude|eliminate|rule\s+out"
    r"|instead\s+of)|n['’]t)[*_]*\s+"
    r"(?:(?:be|is|choose|pick|select|think|believe|say|that|it\s+is|it['’]s|the|correct|right|best)\s+)*"
    r"(?:(?:option|choice|answer)s?\s+)?(?:is\s+)?"
    r"(?:[(\[*_]*[A-Z][)\]*_]*\s+(?:or|nor)\s+(?:(?:option|choice|answer)\s+)?)*"
    r"|\b(?:wrong|incorrect|false)\s+)[(\[{*_`\"']*$"
)
_IS_WRONG = (
    r"\s+(?:(?:VERBS)(?:n['’]t\b|(?:\s+(?:\w+ly|also|both|all|thus|so|just|be)){0,2}?\s+[*_]*"
    r"(?:wrong|incorrect|false|invalid|impossible|not|out|excluded|eliminated|ruled\s+out)\b)|cannot\b)"
)
# "B is wrong", or "A, B and C are wrong" from its A on.
_NOT_AFTER = re2.compile(
    r"(?i)^[)\]}*_`\"']*(?:"
    + _IS_WRONG.replace("VERBS", "is|was|seems|looks|does|ca|can|could|would|must")
    + r"|(?:(?:\s*(?:,|&|\band\b|\bor\b|\bnor\b))+\s*(?:(?:option|choice)\s+)?[(\[*_]*[A-Z]\b[)\]*_]*)*"
    + _IS_WRONG.replace("VERBS", "are|were|do|ca|can|could")
    + ")"
)
_NEXT = re2.compile(r"^(?:(['’])|\s+([a-z]+))")
_AFTER_A = frozenset({"and", "or", "nor", "but", "is", "was", "because", "since", "as", "then", "seems"})
_AFTER_I = frozenset({"and", "or", "because", "since"})


def letters(answer: str) -> set[str]:
    """The letters that an answer to a multiple-choice question names, in upper case.

    Read in this order, until something is found: the whole answer is a letter (`B`, `(b)`, `**B**`); a stated
    answer (`Answer: B`, `the correct option is (b)`, `\\boxed{B}`); a choice (`I pick B`); an option in
    passing (`option B`); a labelled line (`**B)** Mercury`, `B.`); capitals on their own, but not the words
    "A" and "I".
    """
    text = answer.encode("utf-8", "replace").decode()
    denied: set[int] = set()
    for step in _STEPS:
        if found := {letter for match in step.finditer(text) for letter in _named(text, match, denied)}:
            return found
    found = set()
    for match in _LONE.finditer(text):
        if match[1] not in found and match.start() not in denied and not _is_word(text, match):
            found.update(_named(text, match, denied))
    return found


def _named(text: str, match: Any, denied: set[int]) -> Iterator[str]:
    """The letters in a match that the text does not deny; of the others, where they stand is noted."""
    start = match.start()
    unless = _NOT_BEFORE.search(text[max(0, start - _NEAR) : start]) is not None
    for at, end in (match.span(group) for group in range(1, match.re.groups + 1)):
        if at < 0:
            continue
        if unless or _NOT_AFTER.match(text[end : end + _NEAR]) is not None:
            denied.add(at)
        elif text[at] != "I" or _next(text, end) in (None, *_AFTER_I):  # "The answer is I cannot tell"
            yield text[at].upper()


def _next(text: str, end: int) -> str | None:
    """The word after a letter, or an apostrophe; None where the sentence does not go on in small letters."""
    match = _NEXT.match(text[end : end + _NEAR])
    return None if match is None else match[1] or match[2]


def _is_word(text: str, match: Any) -> bool:
    """Whether a capital on its own is the English word "A" or "I", going by the word after it."""
    if match[1] != "A":
        return bool(match[1] == "I")
    after = _next(text, match.end())
    return after is not None and after.isalpha() and after not in _AFTER_A
