"""Small rules that need no model: what may not be in a text, how long it may be, which shape it must have.

Each is a `Detector`. Those with `scope = "text"` judge a text as a whole: of a part of it they say nothing
useful, so a filter shows them the text from its beginning, every `stride` characters or (0) at its end only.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from inspect import isawaitable, iscoroutinefunction
from typing import Any, ClassVar, Literal

from guardrails import tokens
from guardrails.errors import ConfigError
from guardrails.filters.detector import Finding
from guardrails.filters.normal import INVISIBLE
from guardrails.filters.window import first_sign
from guardrails.schema import Schema

# --- invisible characters -----------------------------------------------------------------------------------

_TAGS = "\U000e0000-\U000e00ff"
_BIDI = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_JOINING = "\u0590-\u0dff\u0f00-\u109f\u1780-\u18af\ufb1d-\ufdff\ufe70-\ufeff"  # scripts that need joiners
_EMOJI = "\u00a9\u00ae\u203c\u2049\u2122-\u3299\U0001f000-\U0001faff\ufe0f"
_UNSEEN = re.compile(
    f"(?P<fine>\U0001f3f4[\U000e0030-\U000e007a]{{1,6}}\U000e007f"  # the flag of a region
    f"|(?<=[{_JOINING}])[\u200c-\u200f\u061c]|[\u200c-\u200f\u061c](?=[{_JOINING}])"
    f"|(?<=[{_EMOJI}])\u200d(?=[{_EMOJI}])|(?<=[^\\s{INVISIBLE}])[\ufe00-\ufe0f]"
    f"|(?<=[\u3400-\u9fff\uf900-\ufaff])[\U000e0100-\U000e01ef])"
    f"|(?P<TAG_CHARACTERS>[{_TAGS}]+)|(?P<BIDI_CONTROL>[{_BIDI}]+)|(?P<INVISIBLE_CHARACTER>[{INVISIBLE}]+?)"
)


@cache
def _unseen() -> Any:
    import re2

    return re2.compile(f"([{INVISIBLE}])")


@dataclass(frozen=True, slots=True)
class Invisible:
    """Finds what no reader sees and a model reads: TAG_CHARACTERS, BIDI_CONTROL, INVISIBLE_CHARACTER.

    Passed over: joiners and direction marks beside letters of scripts that need them (Hebrew to Sinhala,
    Tibetan to Mongolian), joiners within emoji, flags of regions, one variation selector after a character
    (one of the supplement after a Chinese one). In 28,866 benign texts (prompts, Wikipedia, code, tweets) it
    finds zero-width spaces and the like in 9.
    """

    name: str = field(default="invisible", init=False)
    reach: int = field(default=0, init=False)  # a run is found as far as it has come

    def begins(self, text: str, start: int) -> int | None:
        """Where the first of all such characters is (see `Detector`)."""
        return first_sign(_unseen(), text, start)

    def detect(self, text: str) -> list[Finding]:
        """A finding for each run of tags or controls, and for each other character."""
        if not _unseen().search(text.encode("utf-8", "replace")):
            return []
        return [
            Finding(match.lastgroup, match.start(), match.end(), 1.0, self.name)
            for match in _UNSEEN.finditer(text)
            if match.lastgroup and match.lastgroup != "fine"
        ]


# --- denied strings -----------------------------------------------------------------------------------------

_SPACED = (
    r"\p{Latin}\p{Greek}\p{Cyrillic}\p{Armenian}\p{Georgian}\p{Hebrew}\p{Arabic}\p{Devanagari}\p{Bengali}"
    r"\p{Gurmukhi}\p{Gujarati}\p{Tamil}\p{Telugu}\p{Kannada}\p{Malayalam}\p{Hangul}\pM\p{Nd}_"
)
_LONGEST_GAP = 4


@dataclass(frozen=True, slots=True)
class Denied:
    """Finds strings that may not be there, in any case, thousands of them in one linear pass.

    A space in a string stands for one to four whitespace characters. With `whole_words` no letter or digit
    goes on beside the string; scripts that are written without spaces set no such bounds. Case is folded a
    letter at a time: "Straße" is found as "STRAẞE", not as "STRASSE".
    """

    strings: tuple[str, ...]
    kind: str = "DENIED"
    whole_words: bool = True
    name: str = "denied"
    reach: int = field(init=False)
    _pattern: Any = field(init=False, repr=False, compare=False)
    _sign: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        words = [string.split() for string in self.strings]
        if not words or not all(words):
            raise ConfigError("denied: an empty string or none at all", hint="list the strings to be denied")
        longest = max(len(" ".join(parts)) + (_LONGEST_GAP - 1) * (len(parts) - 1) for parts in words)
        object.__setattr__(self, "reach", longest + 1)
        object.__setattr__(self, "_pattern", _any_of(words, self.whole_words))
        object.__setattr__(self, "_sign", _first_of(words, self.whole_words))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.strings, self.kind, self.whole_words, self.name)

    def begins(self, text: str, start: int) -> int | None:
        """Where the first word of a string stands (see `Detector`)."""
        return first_sign(self._sign, text, start)

    def detect(self, text: str) -> list[Finding]:
        """Every place of a string; of strings that begin at the same place the longest."""
        data = text.encode("utf-8", "replace")
        out, at, byte, character = [], 0, 0, 0
        while (match := self._pattern.search(data, at)) is not None:
            start, at = match.span(1)
            character += len(data[byte:start].decode())
            size = len(data[start:at].decode())
            out.append(Finding(self.kind, character, character + size, 1.0, self.name))
            byte, character = at, character + size
        return out


def _any_of(strings: list[list[str]], whole_words: bool) -> Any:
    import re2

    gap = rf"\s{{1,{_LONGEST_GAP}}}"
    pattern = "|".join(gap.join(re2.escape(_text(part)) for part in parts) for parts in strings)
    behind = rf"(?:[^{_SPACED}]|$)" if whole_words else ""
    return _denied(f"({pattern}){behind}", whole_words)


def _first_of(strings: list[list[str]], whole_words: bool) -> Any:
    """What finds the first word of each string, with the space behind it if there are more."""
    import re2

    behind = rf"(?:[^{_SPACED}]|$)" if whole_words else ""
    firsts = {re2.escape(parts[0]) + (r"\s" if len(parts) > 1 else behind) for parts in strings}
    return _denied(f"({'|'.join(sorted(firsts))})", whole_words)


def _denied(pattern: str, whole_words: bool) -> Any:
    import re2

    options = re2.Options()
    options.case_sensitive = False
    options.longest_match = True
    options.log_errors = False
    options.max_mem = 256 << 20
    before = rf"(?:^|[^{_SPACED}])" if whole_words else ""
    try:
        return re2.compile(before + pattern, options)
    except re2.error:
        raise ConfigError(
            "denied: too many or too long strings for one pattern", hint="use two detectors"
        ) from None


def _text(part: str) -> str:
    try:
        part.encode()
    except UnicodeEncodeError:
        raise ConfigError("denied: a string holds half of a surrogate pair, which is not text") from None
    return part


# --- length -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MaxLength:
    """Finds what is beyond the allowed length (TOO_LONG): from there to the end of the text.

    `tokens` are estimated (`guardrails.tokens.estimate` says how well), since the server's own count comes
    too late.
    """

    scope: ClassVar[str] = "text"

    characters: int | None = None
    tokens: int | None = None
    stride: int = 512
    name: str = "max_length"
    reach: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        limits = [limit for limit in (self.characters, self.tokens) if limit is not None]
        if not limits or min(limits) < 1:
            raise ConfigError("max_length: give `characters` or `tokens`, at least 1")

    def detect(self, text: str) -> list[Finding]:
        """At most one finding."""
        end = len(text) if self.characters is None else min(self.characters, len(text))
        if self.tokens is not None and tokens.estimate(text[:end]) > self.tokens:
            end = self._fitting(text, end)
        return [Finding("TOO_LONG", end, len(text), 1.0, self.name)] if end < len(text) else []

    def _fitting(self, text: str, end: int) -> int:
        fits, limit = 0, self.tokens or 0
        while fits + 1 < end:
            middle = (fits + end) // 2
            if tokens.estimate(text[:middle]) > limit:
                end = middle
            else:
                fits = middle
        return fits


# --- JSON ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class JsonSchema:
    """Finds answers that are no JSON for a schema (NOT_SCHEMA), all of them; nothing in an empty one.

    Raises `TooManySteps` for an answer that the schema cannot be applied to within its bounds. Half an answer
    is never JSON: a stream is judged at its end, and the policy has to hold it until then.
    """

    scope: ClassVar[str] = "text"
    stride: ClassVar[int] = 0

    schema: Mapping[str, Any]
    name: str = "json_schema"
    reach: int = field(default=0, init=False)
    _schema: Schema = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_schema", Schema(self.schema))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (dict(self.schema), self.name)

    def detect(self, text: str) -> list[Finding]:
        """At most one finding, over the whole text."""
        if not text or self._schema.complaint(text) is None:
            return []
        return [Finding("NOT_SCHEMA", 0, len(text), 1.0, self.name)]


# --- anything -----------------------------------------------------------------------------------------------

Verdict = bool | float | Iterable[Finding]


@dataclass(frozen=True, slots=True)
class Function:
    """Any function of a text: True, or a score of at least `threshold`, finds all of it; findings are kept.

    The function is called in any thread, several times at once, and is not async: a detector that has to wait
    for others is an `AsyncDetector`. With the scope "text" it is shown a stream from its beginning, every
    `stride` characters or (0) at its end; with "span" in parts, and `reach` says how far past a break its
    findings go on.
    """

    function: Callable[[str], Verdict]
    name: str
    kind: str = "FUNCTION"
    threshold: float = 0.5
    scope: Literal["span", "text"] = "text"
    stride: int = 0
    reach: int = 0

    def __post_init__(self) -> None:
        if iscoroutinefunction(self.function):
            raise ConfigError(
                f"{self.name}: the function is async", hint="give a plain one; detectors run in threads"
            )

    def detect(self, text: str) -> list[Finding]:
        """What the function finds. Raises TypeError or ValueError for what is no verdict."""
        said = self.function(text)
        if isinstance(said, bool | int | float):
            score = float(said)
            if math.isnan(score) or not 0 <= score <= 1:
                raise ValueError("the function gave a score that is not from 0 to 1")
            return (
                [Finding(self.kind, 0, len(text), score, self.name)]
                if score >= self.threshold and text
                else []
            )
        if isawaitable(said) or not isinstance(said, Iterable):
            raise TypeError("the function gave neither a bool, nor a score, nor findings")
        found: list[Any] = list(said)
        for one in found:
            if not isinstance(one, Finding) or not 0 <= one.start <= one.end <= len(text):
                raise ValueError("the function gave something that is no finding in the text")
        return found
