"""Pseudonyms: a value becomes a token, and the same value the same token, throughout one conversation.

    vaults = Vaults()
    hide = InputFilters([Rule(Pii(), action="pseudonymize")], vaults=vaults.of)
    stack(endpoint, Restore(vaults), hide)

A `Vault` belongs to one conversation of one tenant, or to one call when it has no conversation id; nothing
is ever looked up in another one. `guardrails.filters.vaults` keeps them, bounded and expiring. What leaves
the process is encrypted (`Vaults.seal`) or does not leave it: a vault refuses to be pickled.

**Collisions.** A token carries digits of a keyed hash (HMAC-SHA256) of kind and value, so that nobody can
guess the token of a value or make a text that will be restored to somebody's data. Two values never share
one. Text in a prompt that can be read as a token that is in use gets a pseudonym of its own (`literals`), so
it comes back as it was. What remains is chance: a text that was sent *before*, and by accident holds what
later becomes a token: 1 in 16 million for each pair of both, with six digits.

**Natural surrogates** read better and restore worse: a model that says "Ms. Weidner" for "Ada Weidner" has
made a name that nobody knows. And other filters take them for what they look like: see `spare`.

**What comes back** is the first spelling of a value in the conversation. Spellings count as the same when
they differ in case (e-mail addresses, names), or in anything but digits (phone numbers), or but letters and
digits (IBAN, cards); of all other kinds none do.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, NoReturn

from guardrails.errors import Blocked, ConfigError
from guardrails.filters.detector import Edit, Finding, apply, resolve
from guardrails.filters.pseudonyms import Entry, Lexicon, restore
from guardrails.filters.surrogates import surrogate

Style = Literal["token", "natural"]

TOKEN_LIKE = "TOKEN_LIKE"  # noqa: S105 - a kind of finding
"""The kind of text that was written by somebody and could be read as one of the vault's tokens."""

_GONE = "\0"  # is part of no token
_NO_WORD = re.compile(r"[^A-Z0-9]+")
_NO_DIGIT = re.compile(r"\D+")


@dataclass(frozen=True, slots=True)
class Shape:
    """How tokens look: `natural` where there is a surrogate for the kind; digits of their hash at least."""

    style: Style = "token"
    digits: int = 6

    def __post_init__(self) -> None:
        if self.style not in ("token", "natural"):
            raise ConfigError(f"vault: unknown style {self.style!r}", hint='use "token" or "natural"')
        if not 2 <= self.digits <= 32:
            raise ConfigError(f"vault: {self.digits} digits", hint="give 2 to 32; 6 is the default")


class Vault:
    """The values of one conversation and their tokens. Any number of threads and tasks may share it.

    `key` is secret and of this conversation only. Holds at most `most` values; raises `Blocked` beyond that.
    """

    __slots__ = ("_key", "_lock", "_most", "_shape", "_tokens", "lexicon")

    def __init__(self, key: bytes, *, shape: Shape | None = None, most: int = 10_000) -> None:
        self._key = key
        self._shape = shape or Shape()
        self._most = most
        self._tokens: dict[tuple[str, str, Style], tuple[str, str]] = {}  # to the token and the value
        self._lock = threading.Lock()
        self.lexicon = Lexicon()
        """What `guardrails.filters.pseudonyms` restores by."""

    def token(self, kind: str, value: str, *, plain: bool = False) -> str:
        """The token of a value; `plain`: no surrogate. Raises `Blocked` when the vault is full."""
        return self._token(kind, value, "token" if plain else self._shape.style)

    def comes_back(self, text: str, edits: Sequence[Edit]) -> bool:
        """Whether each token that the edits put into the text can be told from what is around it."""
        if all(edit.text.startswith("<") for edit in edits):
            return True
        back = [Edit(edit.start, edit.end, self.restore(edit.text)) for edit in edits]
        return self.restore(apply(text, edits)) == apply(text, back)

    def literals(self, text: str, findings: Iterable[Finding] = ()) -> list[Finding]:
        """What somebody wrote in this text that would be restored as one of the vault's tokens.

        Findings of kind `TOKEN_LIKE` beside `findings`, which are taken as replaced already: give them a
        token too, and they come back as they were written.
        """
        for finding in findings:
            text = f"{text[: finding.start]}{_GONE * (finding.end - finding.start)}{text[finding.end :]}"
        return [Finding(TOKEN_LIKE, a, b, 0.0, "vault") for a, b in self.lexicon.spans(text)]

    def spare(self, text: str, findings: Iterable[Finding]) -> list[Finding]:
        """The findings but for those in tokens: a surrogate address in an answer is nobody's.

        Up to three letters or digits of such a finding may lie outside, as the "+1" before a number.
        """
        spans = self.lexicon.spans(text)
        return [finding for finding in findings if not _is_token(text, finding, spans)]

    def restore(self, text: str, *, arguments: bool = False) -> str:
        """The whole text with its values put back; `arguments` of a tool call are JSON."""
        return restore(text, self.lexicon, arguments=arguments)

    def __len__(self) -> int:
        return len(self._tokens)

    def __bool__(self) -> bool:
        return True  # an empty vault is a vault

    def __repr__(self) -> str:
        return f"Vault(values={len(self)})"

    def __reduce__(self) -> NoReturn:
        raise ConfigError(
            "a vault holds personal data in the clear and is not pickled", hint="use Vaults.seal"
        )

    def entries(self) -> list[tuple[str, str, Style, str]]:
        """Kind, first spelling, style and token of every value: in the clear, for `seal` only."""
        with self._lock:
            return [(kind, value, style, token) for (kind, _, style), (token, value) in self._tokens.items()]

    def take(self, entries: Iterable[Sequence[str]]) -> None:
        """Add what `entries` gave; what is here stays. Raises `ConfigError` when both do not fit together."""
        with self._lock:
            for kind, value, style, token in entries:
                which: Style = "natural" if style == "natural" else "token"
                place = kind, same(kind, value), which
                if self._tokens.get(place, ("", ""))[0] == token:
                    continue
                if not self.lexicon.add(token, Entry(value, token.startswith("<"))):
                    raise ConfigError("two vaults of one conversation contradict each other", kind="vault")
                self._tokens.setdefault(place, (token, value))

    def _token(self, kind: str, value: str, style: Style) -> str:
        normal = same(kind, value)
        with self._lock:
            known = self._tokens.get((kind, normal, style))
            if known is not None:
                return known[0]
            if len(self._tokens) >= self._most:
                raise Blocked(
                    f"the vault holds {self._most} values and takes no more",
                    kind="vault_full",
                    hint="start a new conversation, or give Vaults a larger `values`",
                )
            token = self._new(kind, normal, value, style)
            self._tokens[kind, normal, style] = token, value
            return token

    def _new(self, kind: str, normal: str, value: str, style: Style) -> str:
        attempt = 0
        while True:
            seed = f"{kind}\0{normal}\0{attempt}".encode("utf-8", "surrogatepass")
            digest = hmac.digest(self._key, seed, hashlib.sha256)
            attempt += 1
            # After some collisions there are too few: names run out, and short hashes do.
            natural = (
                surrogate(kind, int.from_bytes(digest)) if style == "natural" and attempt <= 32 else None
            )
            code = digest.hex()[: self._shape.digits + attempt // 64]
            if natural is None and (code.isalpha() or code.isdecimal()):
                continue  # "email address facade", "phone number 482913": that is what people write
            token = natural or f"<{_word(kind)}_{code}>"
            if self.lexicon.add(token, Entry(value, natural is None)):
                return token


def _is_token(text: str, finding: Finding, spans: Sequence[tuple[int, int]]) -> bool:
    touched = [Edit(a, b, "") for a, b in spans if a < finding.end and finding.start < b]
    outside = apply(text[finding.start : finding.end], touched, finding.start)
    return bool(touched) and sum(map(str.isalnum, outside)) <= 3


def _word(kind: str) -> str:
    return _NO_WORD.sub("_", kind.upper())[:48].strip("_") or "VALUE"


def same(kind: str, value: str) -> str:
    """What all spellings of one value have in common."""
    match kind:
        case "EMAIL_ADDRESS":
            return value.casefold()
        case "PHONE_NUMBER":
            return _NO_DIGIT.sub("", value) or value
        case "IBAN_CODE" | "CREDIT_CARD":
            return _NO_WORD.sub("", value.upper()) or value
        case "PERSON":
            return " ".join(value.casefold().split())
        case _:
            return value


def pseudonymize(text: str, findings: Iterable[Finding], vault: Vault) -> str:
    """The text with every finding replaced by its token. Law: `vault.restore` gives the text again, with the
    first spelling of each value.

    Text that could be misread as a token is replaced as well. Where a surrogate could not be told from the
    text around it, the whole text gets tokens instead.
    """
    found = list(findings)
    edits = _edits(text, found, vault, vault.token)
    if vault.comes_back(text, edits):
        return apply(text, edits)
    return apply(text, _edits(text, found, vault, partial(vault.token, plain=True)))


def _edits(text: str, findings: list[Finding], vault: Vault, token: Callable[[str, str], str]) -> list[Edit]:
    found = resolve([*findings, *_literals(text, findings, vault, token)])
    return [Edit(f.start, f.end, token(f.kind, text[f.start : f.end])) for f in found]


def _literals(
    text: str, findings: list[Finding], vault: Vault, token: Callable[[str, str], str]
) -> list[Finding]:
    """What reads as a token, those of the findings and of these literals themselves included."""
    resolved = resolve(findings)
    while True:  # a new token may be one that the text already holds, once in many millions
        size = len(vault)
        literals = vault.literals(text, resolved)
        for finding in (*resolved, *literals):
            token(finding.kind, text[finding.start : finding.end])
        if len(vault) == size:
            return literals
