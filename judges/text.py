"""Judges that compare text: `exact`, `contains`, `regex`, `choice`.

What is covered: case, outer white space, runs of white space. What is not: Unicode normalisation (an "é" of
two code points is not an "é" of one), spelling, synonyms, negation ("not Canberra" contains Canberra).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from guardrails.errors import ConfigError
from guardrails.patterns import linear_pattern
from judges.judge import MAX_READ, Answer, Question, Score, aside, no_reference, unfit
from judges.letters import letters

# --- exact and contains ------------------------------------------------------------------------------------


def _tidy(text: str, *, strip: bool, casefold: bool, whitespace: bool) -> str:
    if whitespace:
        words = text.split()
        inner = " ".join(words)
        text = inner if strip or not words else _edge(text[0]) + inner + _edge(text[-1])
    elif strip:
        text = text.strip()
    return text.casefold() if casefold else text


def _edge(character: str) -> str:
    return " " if character.isspace() else ""


@dataclass(frozen=True, slots=True)
class Exact:
    """Passes when the answer is one of the references.

    `strip` drops white space at both ends, `casefold` ignores case, and `whitespace` makes every run of white
    space one space.
    """

    strip: bool = True
    casefold: bool = False
    whitespace: bool = False
    name: str = "exact"

    def check(self, question: Question, /) -> str | None:
        """Complains about a sample without references."""
        return no_reference(question)

    async def __call__(self, question: Question, answer: Answer, /) -> Score:
        """Compares the whole answer."""
        if (failed := unfit(self, question, answer, most=MAX_READ)) is not None:
            return failed
        tidied = await aside(len(answer.text), lambda: self._tidy(answer.text))
        for number, reference in enumerate(question.references, start=1):
            if self._tidy(reference) == tidied:
                return Score.verdict(True, f"is reference {number}")
        lengths = ", ".join(str(len(reference)) for reference in question.references[:5])
        return Score.verdict(False, f"is no reference ({len(answer.text)} characters; references: {lengths})")

    def _tidy(self, text: str) -> str:
        return _tidy(text, strip=self.strip, casefold=self.casefold, whitespace=self.whitespace)


@dataclass(frozen=True, slots=True)
class Contains:
    """Passes when the answer contains one of the references or, with `all`, each of them.

    `words` stand in for the references, the same ones for every sample. With `absent`, the answer must hold
    none of them. A plain substring search: `12` is found in `312`; where that matters, use `regex` with
    `\\b`, or `numeric`. The value is 1 or 0; with `all`, it is the share that was found.
    """

    all: bool = False
    absent: bool = False
    words: tuple[str, ...] = ()
    casefold: bool = True
    whitespace: bool = True
    name: str = "contains"
    shorthand: ClassVar[str] = "words"

    def __post_init__(self) -> None:
        if self.all and self.absent:
            raise ConfigError("all and absent contradict each other", hint="absent means none of them")
        if not all(map(self._tidy, self.words)):
            hint = "to look for white space itself, set `whitespace: false`"
            raise ConfigError("one of the words is blank, and every answer contains it", hint=hint)

    def check(self, question: Question, /) -> str | None:
        """Complains about a sample without references, or with an empty one, unless `words` are given."""
        return None if self.words else no_reference(question)

    async def __call__(self, question: Question, answer: Answer, /) -> Score:
        """Looks for each reference in the answer."""
        if (failed := unfit(self, question, answer, most=MAX_READ)) is not None:
            return failed
        found = await aside(len(answer.text), lambda: self._found(question, answer.text))
        reason = f"{sum(found)} of {len(found)} {'words' if self.words else 'references'} found"
        if self.absent:
            return Score.verdict(not any(found), reason)
        if not self.all:
            return Score.verdict(any(found), reason)
        return Score(sum(found) / len(found), sum(found) == len(found), reason)

    def _found(self, question: Question, answer: str) -> list[bool]:
        text = self._tidy(answer)
        return [self._tidy(word) in text for word in self.words or question.references]

    def _tidy(self, text: str) -> str:
        return _tidy(text, strip=False, casefold=self.casefold, whitespace=self.whitespace)


# --- regex -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Regex:
    r"""Passes when a pattern is found in the answer: `pattern`, or any of the references when it is None.

    Patterns are RE2's (Perl's syntax without look-around and back-references), so that no pattern and no
    answer takes more than linear time. `full` asks for the whole answer (outer white space aside) to match.

    `\w`, `\d`, `\s` and `\b` know ASCII only: to `\w+` a "Café" is a "Caf". Write `[\pL\pN_]` for a letter or
    digit of any script, `\pN` for a digit, and `(?:^|[^\pL\pN_])été(?:[^\pL\pN_]|$)` for a whole word.
    """

    pattern: str | None = None
    full: bool = False
    casefold: bool = False
    name: str = "regex"
    shorthand: ClassVar[str] = "pattern"
    _compiled: Any = field(init=False, repr=False, compare=False, default=None)

    def __post_init__(self) -> None:
        if self.pattern == "" and not self.full:
            raise ConfigError("the pattern is empty, and every answer matches it")
        if self.pattern is not None:
            object.__setattr__(self, "_compiled", linear_pattern(self.pattern, casefold=self.casefold))

    def check(self, question: Question, /) -> str | None:
        """Complains about references that are missing or do not compile, when they are the patterns."""
        if self._compiled is not None:
            return None
        if (complaint := no_reference(question)) is not None:
            return complaint
        for number, reference in enumerate(question.references, start=1):
            try:
                linear_pattern(reference, casefold=self.casefold)
            except ConfigError as error:
                return f"reference {number}: {error}"
        return None

    async def __call__(self, question: Question, answer: Answer, /) -> Score:
        """Searches the answer, or matches all of it."""
        if (failed := unfit(self, question, answer, most=MAX_READ)) is not None:
            return failed
        return await aside(len(answer.text), lambda: self._searched(question, answer))

    def _searched(self, question: Question, answer: Answer) -> Score:
        text = (answer.text.strip() if self.full else answer.text).encode("utf-8", "replace")
        for number, pattern in enumerate(self._patterns(question), start=1):
            if (pattern.fullmatch(text) if self.full else pattern.search(text)) is not None:
                return Score.verdict(True, f"pattern {number} matches")
        return Score.verdict(False, "no pattern matches")

    def _patterns(self, question: Question) -> Iterator[Any]:
        if self._compiled is not None:
            yield self._compiled
            return
        for reference in question.references:
            yield linear_pattern(reference, casefold=self.casefold)


# --- choice ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Choice:
    """Passes when the answer names the reference's letter, and no other.

    `judges.letters` says which letters an answer names. One that names several fails as ambiguous. `options`
    are the letters that count; any letter when it is empty. A reference is one letter, perhaps in brackets.
    """

    options: str = ""
    name: str = "choice"

    def check(self, question: Question, /) -> str | None:
        """Complains about references that are not one letter, or not among the options."""
        if (complaint := no_reference(question)) is not None:
            return complaint
        for number, reference in enumerate(question.references, start=1):
            letter = _bare(reference)
            if len(letter) != 1 or not letter.isascii() or not letter.isalpha():
                return f"reference {number} is not one letter, such as B"
            if self.options and letter not in self.options.upper():
                return f"reference {number} is none of the options {self.options.upper()}"
        return None

    async def __call__(self, question: Question, answer: Answer, /) -> Score:
        """Reads the letter that the answer names."""
        if (failed := unfit(self, question, answer, most=MAX_READ)) is not None:
            return failed
        named = await aside(len(answer.text), lambda: letters(answer.text))
        if self.options:
            named &= set(self.options.upper())
        if not named:
            return Score.verdict(False, "names no option")
        if len(named) > 1:
            return Score.verdict(False, f"ambiguous: names {len(named)} options")
        wanted = {_bare(reference) for reference in question.references}
        (letter,) = named
        return Score.verdict(
            letter in wanted, f"names {letter}, the reference is {' or '.join(sorted(wanted))}"
        )


def _bare(reference: str) -> str:
    return reference.strip(" \t\n()[].:*").upper()
