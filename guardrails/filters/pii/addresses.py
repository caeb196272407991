"""E-mail addresses and URLs, in time linear in the text.

Each exists twice. `presidio_emails` and `presidio_urls` find what Presidio's patterns find, which take
seconds for a few thousand hostile characters (`"a." * 2000`). `own_emails` and `own_urls` find addresses
as they are meant: see the package's docstring for the differences.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

Match = tuple[int, int, float]
Find = Callable[[str], Iterator[Match]]

# Letters of scripts that put spaces between words: in the others an address would take its neighbours along.
_LETTER = r"\p{Latin}\p{Greek}\p{Cyrillic}\p{Armenian}\p{Hebrew}\p{Arabic}\p{Devanagari}\pM\p{Nd}"
_LABEL = rf"[{_LETTER}_]+(?:-+[{_LETTER}_]+)*"


@cache
def _suffixes() -> Callable[[str], Any]:
    import tldextract

    # The list that came with the package: no download, no cache on disk.
    split = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)
    split("a.com")  # reads the list now, so that no text has to wait for it
    return split


def own_emails() -> Find:
    """Finds addresses whose domain ends as registered domains do."""
    from guardrails.patterns import linear_pattern

    pattern = linear_pattern(rf"[{_LETTER}_][{_LETTER}_!#$%&'*+\-/=?^_`{{|}}~.]*@({_LABEL}(?:\.{_LABEL})+)")
    split = _suffixes()

    def find(text: str) -> Iterator[Match]:
        if "@" in text:
            for match in pattern.finditer(text):
                if split(match.group(1)).fqdn:
                    yield match.start(), match.end(), 1.0

    return find


def own_urls() -> Find:
    """Finds URLs and bare domains that end as registered domains do, with all that follows up to a space."""
    from guardrails.patterns import linear_pattern

    stop = r"\s()<>\"'"
    # Up to a character of a script without spaces: what follows there is more likely the next sentence.
    path = rf"[^{stop}\x{{e00}}-\x{{109f}}\x{{1780}}-\x{{17ff}}\x{{2e80}}-\x{{abff}}\x{{f900}}-\x{{10ffff}}]"
    pattern = linear_pattern(
        rf"(https?://(?:[^@/{stop}]+@)?)?((?:{_LABEL}\.)+[{_LETTER}\-]+)(?::\d+)?(?:[/?#]{path}*)?",
        casefold=True,
    )
    split = _suffixes()

    def find(text: str) -> Iterator[Match]:
        if _DOT.search(text):
            for match in pattern.finditer(text):
                if split(match.group(2)).fqdn:
                    yield match.start(), match.end(), 0.6 if match.group(1) else 0.5

    return find


_DOT = re.compile(r"\.[^\W\d_]")
_QUOTE = re.compile("[\"']")


_FAR = 253 + len("www123.") + 2  # from where a host starts to behind its last possible dot


# --- as Presidio -------------------------------------------------------------------------------------------


def presidio_emails() -> Find:
    """Finds what `EmailRecognizer` finds: from every `@`, the domain first, then the longest local part."""
    import regex  # type: ignore[import-untyped] # it has no types

    local = r"!#$%&'*+\-/=?^_`{|}~\w"
    domain = regex.compile(r"@\w+(?:-+\w+)*(?:\.\w+(?:-+\w+)*)+\b")
    rest = regex.compile(rf"[{local}.]*", regex.REVERSE)
    begin = regex.compile(rf"\b[{local}]")
    split = _suffixes()

    def find(text: str) -> Iterator[Match]:
        done, at = 0, text.find("@")
        while at >= 0:
            ends = domain.match(text, at)
            if ends and at > done and text[at - 1] != ".":
                run = rest.match(text, done, at).start()
                first = begin.search(text, run, at)
                if first:
                    done = ends.end()
                    if split(text[first.start() : done]).fqdn:
                        yield first.start(), done, 1.0
            at = text.find("@", max(at + 1, done))

    return find


def presidio_urls() -> Find:
    """Finds what `UrlRecognizer` finds, by its own list of endings."""
    return _PresidioUrls().find


class _PresidioUrls:
    """`UrlRecognizer`'s four patterns, read from the dots.

    The pattern of a host is a run of its characters, at most 253 (behind "www." if it starts so) up to the
    last dot that a listed ending follows, and perhaps a path. The dots with an ending are found first; where
    matches begin and end follows from them.
    """

    def __init__(self) -> None:
        import regex
        from presidio_analyzer.predefined_recognizers import UrlRecognizer

        base = UrlRecognizer.BASE_URL_REGEX
        head, middle, tail = r"((www\d{0,3}[.])?[a-z0-9.\-]{1,253}[.]", "(?:/", ")"
        if not base.startswith(head) or base.count(middle) != 1:
            raise RuntimeError("presidio-analyzer's URL pattern is not the one that is known here")
        ending, path = base[len(head) : -len(tail)].split(middle)

        def compiled(pattern: str, more: int = 0) -> Any:
            return regex.compile(pattern, regex.IGNORECASE | regex.MULTILINE | regex.DOTALL | more)

        self._ending = compiled(ending)
        self._path = compiled(middle + path)
        self._host = compiled(r"[a-z0-9.\-]+")
        self._back = compiled(r"[a-z0-9.\-]*", regex.REVERSE)
        self._www = compiled(r"www\d{0,3}[.]")
        self._scheme = compiled(r"https?://")
        rest = rf"([a-z0-9.\-]++){middle}{path}[\"']"
        self._quoted = ((compiled(rf"https?://{rest}"), 0.6), (compiled(rest), 0.5))

    def find(self, text: str) -> Iterator[Match]:
        """All matches; they overlap."""
        hits = ((dot.start(), self._ending.match(text, dot.end() - 1)) for dot in _DOT.finditer(text))
        ends = {dot: hit.end() for dot, hit in hits if hit}
        if ends:
            dots = list(ends)
            yield from self._with_scheme(text, dots, ends)
            yield from self._anywhere(text, dots, ends)
            yield from self._in_quotes(text)

    def _with_scheme(self, text: str, dots: list[int], ends: dict[int, int]) -> Iterator[Match]:
        at = 0
        for opening in self._scheme.finditer(text):
            dot = self._last_dot(text, opening.end(), dots) if opening.start() >= at else -1
            if dot >= 0:
                at = self._path.match(text, ends[dot]).end()
                yield opening.start(), at, 0.6

    def _anywhere(self, text: str, dots: list[int], ends: dict[int, int]) -> Iterator[Match]:
        at = 0
        for dot in dots:
            if dot <= at:
                continue
            run = self._back.match(text, at, dot).start()
            if run == dot:
                continue
            # From the first character that has a dot with an ending within its reach.
            near, far = max(run, dot - 253), max(run, dot - _FAR)
            start = next(
                (
                    s
                    for s in range(far, near)
                    if self._www.match(text, s) and self._last_dot(text, s, dots) >= 0
                ),
                near,
            )
            at = self._path.match(text, ends[self._last_dot(text, start, dots)]).end()
            yield start, at, 0.5

    def _in_quotes(self, text: str) -> Iterator[Match]:
        quotes = [quote.start() for quote in _QUOTE.finditer(text)]
        for pattern, score in self._quoted:
            at = 0
            for start in quotes:
                match = pattern.match(text, start + 1) if start >= at else None
                if match is None:
                    continue
                host = match.group(1)
                dot, www = host.rfind("."), self._www.match(host)
                size = dot - (www.end() if www and www.end() < dot else 0)
                if 0 < size <= 253 and self._ending.fullmatch(host, dot + 1):
                    at = match.end()
                    yield start, at, score

    def _last_dot(self, text: str, start: int, dots: list[int]) -> int:
        """The dot before the ending of the host that starts at `start`; -1 when that is none."""
        run = self._host.match(text, start, start + _FAR)
        www = self._www.match(text, start)
        for first in (*([www.end()] if www else []), start) if run else ():
            # With 1 to 253 characters before it.
            low, high = bisect_left(dots, first + 1), bisect_right(dots, min(first + 253, run.end() - 1))
            if low < high:
                return dots[high - 1]
        return -1
