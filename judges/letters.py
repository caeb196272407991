"""Which letters an answer to a multiple-choice question names: `B`, `Answer: B`, `I pick (b)`.

A statement ("the answer is B") counts for more than a letter in passing ("option A is about plants"), and a
letter that is denied right before or after it ("not B", "option B is wrong") is not named; what follows a
stated answer denies nothing ("Answer: B is not only correct"). That goes by English words on the letter's own
line: what a paragraph as a whole says is not understood.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import re2

# Groups hold letters, nothing else.
_LETTER = r"[\[({*_`\"']*(?:([A-Z])\b|([a-z])(?:[)\].:}*_`\"']|\s*$))"
_ALSO = r"(?:[)\]}*_`\"'.:]*[ \t]*(?:,|/|&|\bor\b|\band\b)[ \t]*[\[({*_`\"']*([A-Z])\b)?"
_BE = r"(?:is|would[ \t]+be|should[ \t]+be|must[ \t]+be)\b"
_FILL = r"(?:[ \t]+(?:" + _BE + r"|option\b|choice\b|answer\b))*"
_NAMED = r"(?i:" + _FILL + r")[ \t:：=*_]*" + _LETTER + _ALSO
# Below its "Answer:" a letter stands alone, or the options are listed there once more.
_BELOW = r"[ \t:：=*_]*\n\s*[\[({*_`\"']*([A-Za-z])[)\]}*_`\"'.]*[ \t]*$"


@dataclass(frozen=True, slots=True)
class _Step:
    """One way to read letters, and whether words right before and right after one may deny it."""

    pattern: Any
    before: bool = True
    after: bool = True


# The first step that finds any decides. Two different letters in one step are ambiguous.
_STEPS = (
    _Step(re2.compile(r"^[^\pL\pN]*([A-Za-z])[^\pL\pN]*$"), before=False, after=False),
    # The answer is B; Answer: B; the correct option is B; \boxed{B}
    _Step(
        re2.compile(
            r"(?m:\\boxed\{\s*(?:\\text\{)?\(?([A-Za-z])\)?\}?\s*\}"
            r"|(?i:\banswer(?:[ \t]+(?:option|choice))*[*_]*(?:[ \t]*[:：=]|[ \t]+" + _BE + r")"
            r"|\b(?:option|choice)[ \t]+" + _BE + r")(?:" + _NAMED + "|" + _BELOW + r")"
            r"|(?i:\banswer[*_]*)" + _BELOW + ")"
        ),
        after=False,
    ),
    _Step(re2.compile(r"(?m:(?i:\b(?:choose|pick|select)\b)" + _NAMED + ")"), after=False),
    _Step(re2.compile(r"(?m:(?i:\b(?:answer|choice|option)\b)" + _NAMED + ")")),
    _Step(re2.compile(r"(?m:^[^\pL\pN\n]*([A-Za-z])[)\].:][)\].:*_]*(?:\s|$))"), before=False),
)
_LONE = _Step(re2.compile(r"\b([A-Z])\b"))

_NEAR = 60
"""Characters before and after a letter, among which a word that denies it is looked for."""

_NOT_BEFORE = re2.compile(
    r"(?i)(?:(?:\b(?:not|never|nor|neither|except|than|cannot|unlike|without|reject|exclude|eliminate"
    r"|rule[ \t]+out|instead[ \t]+of)|n['’]t)[*_]*[ \t]+"
    r"(?:(?:be|is|choose|pick|select|think|believe|say|that|it[ \t]+is|it['’]s|the)[ \t]+)*"
    r"(?:(?:(?:correct|right|best)[ \t]+)?(?:option|choice|answer)s?[ \t]+(?:is[ \t]+)?)?"
    r"(?:[(\[*_]*[A-Z][)\]*_]*[ \t]+(?:or|nor)[ \t]+(?:(?:option|choice|answer)[ \t]+)?)*)[(\[{*_`\"']*$"
)
# Of a letter in passing: the statement "the wrong answer is B" may be what is asked for.
_WRONG_BEFORE = re2.compile(r"(?i)\b(?:wrong|incorrect|false)[ \t]+[(\[{*_`\"']*$")
_IS_WRONG = (
    r"[ \t]+(?:(?:VERBS)(?:n['’]t\b|(?:[ \t]+(?:\w+ly|also|both|all|thus|so|just|be)){0,2}?[ \t]+[*_]*"
    r"(?:wrong|incorrect|false|invalid|impossible|not|out|excluded|eliminated|ruled[ \t]+out)\b)|cannot\b)"
)
# "B is wrong", or "A, B and C are wrong" from its A on.
_NOT_AFTER = re2.compile(
    r"(?i)^[)\]}*_`\"']*(?:"
    + _IS_WRONG.replace("VERBS", "is|was|seems|looks|does|ca|can|could|would|must")
    + r"|(?:(?:[ \t]*(?:,|&|\band\b|\bor\b|\bnor\b))+[ \t]*(?:(?:option|choice)[ \t]+)?"
    + r"[(\[*_]*[A-Z]\b[)\]*_]*)*"
    + _IS_WRONG.replace("VERBS", "are|were|do|ca|can|could")
    + ")"
)
_NEXT = re2.compile(r"^(?:(['’])|[ \t]+([a-z]+))")
_AFTER_A = frozenset({"and", "or", "nor", "but", "is", "was", "because", "since", "as", "then", "seems"})
_AFTER_I = frozenset({"and", "or", "because", "since", "is", "which"})


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
        if found := {
            letter for match in step.pattern.finditer(text) for letter in _named(text, match, step, denied)
        }:
            return found
    found = set()
    for match in _LONE.pattern.finditer(text):
        if match[1] not in found and match.start() not in denied and not _is_word(text, match):
            found.update(_named(text, match, _LONE, denied))
    return found


def _named(text: str, match: Any, step: _Step, denied: set[int]) -> Iterator[str]:
    """The letters in a match that the text does not deny; of the others, where they stand is noted."""
    before = text[max(0, match.start() - _NEAR) : match.start()]
    unless = step.before and _NOT_BEFORE.search(before) is not None
    unless = unless or (step.after and _WRONG_BEFORE.search(before) is not None)
    spans = [span for group in range(1, match.re.groups + 1) if (span := match.span(group))[0] >= 0]
    after = step.after or len(spans) > 1  # "Answer: A and B are both wrong"
    for at, end in spans:
        if unless or (after and _NOT_AFTER.match(text[end : end + _NEAR]) is not None):
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
