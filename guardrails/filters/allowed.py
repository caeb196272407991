"""What a text may be about, which scripts it may be in, and where its links may lead. No model needed."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any, ClassVar

from guardrails.errors import ConfigError
from guardrails.filters.detector import Finding
from guardrails.filters.window import first_sign
from guardrails.patterns import linear_pattern

# --- topics and scripts -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Allowed:
    """Finds texts that are about nothing allowed (OFF_TOPIC) or in other scripts than allowed (OTHER_SCRIPT).

    `topics` are RE2 patterns, in any case; a text in which none is found is off topic, all of it. `scripts`
    are Unicode's names (`Latin`, `Cyrillic`, `Han`, `Hiragana`): where less than `share` of the letters are
    in them, each stretch of other letters is a finding. That tells Russian from English and not French from
    English: languages in one script need a model. `stride` 0 judges a stream at its end, before which nobody
    knows its topic; scripts alone can be judged earlier.
    """

    scope: ClassVar[str] = "text"

    topics: tuple[str, ...] = ()
    scripts: tuple[str, ...] = ()
    share: float = 0.9
    stride: int = 0
    name: str = "allowed"
    reach: int = field(default=0, init=False)
    _topics: tuple[Any, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.topics and not self.scripts:
            raise ConfigError("allowed: neither topics nor scripts are given", hint="give one of them")
        wrong, topics = [], []
        if not 0 < self.share <= 1:
            wrong.append(f"allowed: share is {self.share}, but it lies above 0 and up to 1")
        for topic in self.topics:
            try:
                topics.append(linear_pattern(topic, casefold=True))
            except ConfigError as error:
                wrong.append(str(error))
        for script in self.scripts:
            try:
                _script(script)
            except ConfigError as error:
                wrong.append(str(error))
        if wrong:
            raise ConfigError("; ".join(wrong))
        object.__setattr__(self, "_topics", tuple(topics))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.topics, self.scripts, self.share, self.stride, self.name)

    def detect(self, text: str) -> list[Finding]:
        """One finding over the whole text that is off topic, and those of other scripts."""
        out = list(self._foreign(text)) if self.scripts else []
        data = text.encode("utf-8", "replace")
        if self._topics and text and not any(topic.search(data) for topic in self._topics):
            out.append(Finding("OFF_TOPIC", 0, len(text), 1.0, self.name))
        return out

    def _foreign(self, text: str) -> Iterator[Finding]:
        letters = Counter(character for character in text if character.isalpha())
        own = sum(count for letter, count in letters.items() if _is_in(self.scripts, letter))
        if own >= self.share * letters.total():
            return
        score = 1 - own / letters.total()
        stretch: list[int] = []  # its first and its last letter
        for place, character in enumerate(text):
            if not character.isalpha():
                continue
            if not _is_in(self.scripts, character):
                stretch = [*stretch[:1], place]
            elif stretch:
                yield Finding("OTHER_SCRIPT", stretch[0], stretch[-1] + 1, score, self.name)
                stretch = []
        if stretch:
            yield Finding("OTHER_SCRIPT", stretch[0], stretch[-1] + 1, score, self.name)


@lru_cache(maxsize=16_384)
def _is_in(scripts: tuple[str, ...], letter: str) -> bool:
    data = letter.encode("utf-8", "replace")
    return any(_script(script).fullmatch(data) for script in scripts)


@cache
def _script(name: str) -> Any:
    try:
        return linear_pattern(rf"\p{{{name}}}" if name.isidentifier() else "(")
    except ConfigError:
        raise ConfigError(
            f"allowed: {name!r} is no Unicode script",
            hint="use names like Latin, Cyrillic, Greek, Arabic, Hebrew, Devanagari, Han, Hiragana, Hangul",
        ) from None


# --- hosts --------------------------------------------------------------------------------------------------

_STOP = r"\s<>\"'`|"
_URL = (
    r"(?i)(?:([a-z][a-z0-9+.\-]{1,30}:[/\\]{2,}|(?:https?|wss?|ftp):[/\\]*)"
    rf"|(?:^|[{_STOP}()\[\]=,])([/\\]{{2}}|www\.)"
    r"|(\b(?:(?:javascript|vbscript):|data:[a-z]+/[a-z0-9.+\-]+[;,]|blob:)))"
    rf"([^{_STOP}]+)"
)
# What every URL has, and in its first word.
_URL_SIGN = r"(?i)((?:https?|wss?|ftp|javascript|vbscript|data|blob):|[/\\]{2}|www\.)"
_TRAILING = ".,;:!?)]}"


@cache
def _urls() -> Any:
    return linear_pattern(_URL)


@cache
def _url_sign() -> Any:
    return linear_pattern(_URL_SIGN)


@dataclass(frozen=True, slots=True)
class UrlAllow:
    """Finds URLs that lead elsewhere than to the allowed hosts (URL): links, and images that carry data away.

    `hosts`: `example.org` is that host alone, `*.example.org` all under it too. A host is read as a browser
    reads it: without user and port, with `\\` for `/`, in lower case, wide letters as plain ones, others as
    punycode. URLs without a host (`data:`, `javascript:`, `file:///`) are always found.

    What is not covered: bare domains without `//` and `www.` (`Pii` finds those), hosts without a dot after a
    bare `//`, and what an allowed host redirects to.
    """

    hosts: tuple[str, ...]
    name: str = "url_allow"
    reach: int = field(default=0, init=False)  # what begins like a URL to elsewhere is found from then on
    _exact: frozenset[str] = field(init=False, repr=False, compare=False)
    _under: tuple[str, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        bare = [host.removeprefix("*.") for host in self.hosts]
        wrong = [host for host in bare if not re.fullmatch(r"[\w.\-]+|\[[0-9a-fA-F:.]+\]", host)]
        if wrong:
            raise ConfigError(
                f"url_allow: {', '.join(map(repr, wrong))}: no host",
                hint="write it like example.org or *.example.org",
            )
        object.__setattr__(self, "_exact", frozenset(map(_plain, bare)))
        under = tuple("." + _plain(host[2:]) for host in self.hosts if host.startswith("*."))
        object.__setattr__(self, "_under", under)

    def begins(self, text: str, start: int) -> int | None:
        """In which word a URL could begin (see `Detector`)."""
        return first_sign(_url_sign(), text, start)

    def detect(self, text: str) -> list[Finding]:
        """A finding for each URL, from its scheme to its end."""
        data = text.encode("utf-8", "replace")
        out, byte, character = [], 0, 0
        for match in _urls().finditer(data):
            if self._is_allowed(match):
                continue
            start = match.start(2) if match.group(2) else match.start()
            character += len(data[byte:start].decode())
            byte = start
            size = len(data[start : match.end()].decode().rstrip(_TRAILING))
            out.append(Finding("URL", character, character + size, 1.0, self.name))
        return out

    def _is_allowed(self, match: Any) -> bool:
        _, bare, code, rest = (group.decode() if group else "" for group in match.groups())
        if code:
            return False
        host = _host("www." + rest if bare.lower() == "www." else rest)
        if bare and "." not in host:
            return True  # a comment in code
        return host in self._exact or host.endswith(self._under)


def _host(rest: str) -> str:
    """The host that a browser would go to, for what follows the slashes."""
    authority = re.split(r"[/\\?#]", rest, maxsplit=1)[0].rpartition("@")[2]
    host = re.sub(r":\d*$", "", authority.rstrip(".,;:!?)}"))
    return _plain(host if host.startswith("[") else host.rstrip("]"))


def _plain(host: str) -> str:
    host = unicodedata.normalize("NFKC", host[:300]).lower().replace("\u3002", ".").rstrip(".")
    labels = (
        label if label.isascii() else "xn--" + label.encode("punycode", "replace").decode()
        for label in host.split(".")
    )
    return ".".join(labels)
