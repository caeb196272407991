"""Made-up attacks and made-up harmless texts that look like them, for training the jailbreak model.

Public sets of attacks are long role-plays for the most part. What they lack is written here as grammars, in
our own words: short overrides, attempts to get at the system prompt, wrappers, fake system messages, orders
hidden in documents. Each attack belongs to a *family*, and so does each harmless counterpart, so that recall
and false positives can be told family by family.

    examples = generate(seed=1, each=200)        # the same list on every machine

A grammar is a mapping of names to lists of templates; `{name}` in a template is replaced by a choice from
that list, `{?name}` only half of the time. Templates are picked evenly, so a text is as likely as its
grammar makes it; duplicates are dropped.
"""

from __future__ import annotations

import base64
import functools
import random
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

Grammar = Mapping[str, Sequence[str]]

_SLOT = re.compile(r"\{(\??)(\w+)\}")
_HERE = Path(__file__).parent
_ATTACKS = ("documents", "attacks", "direct", "short")
_HARMLESS = ("benign", "direct_benign", "work", "short_benign")
_DEPTH = 12  # grammars are finite trees; deeper than this is a mistake in one


@dataclass(frozen=True, slots=True)
class Example:
    """A text, whether it is an attack (1) or harmless (0), and the family that it was made by."""

    text: str
    label: int
    family: str


def expand(template: str, grammar: Grammar, rng: random.Random, depth: int = 0) -> str:
    """The template with every slot filled. Raises `KeyError` for a name that the grammar lacks."""
    if depth > _DEPTH:
        raise ValueError(f"the grammar nests deeper than {_DEPTH} at {template[:60]!r}")

    def fill(slot: re.Match[str]) -> str:
        if slot[1] and rng.random() < 0.5:
            return ""
        return expand(rng.choice(grammar[slot[2]]), grammar, rng, depth + 1)

    return _SLOT.sub(fill, template)


def generate(seed: int, each: int) -> list[Example]:
    """At most `each` different examples of every family, attacks first. The same for the same arguments."""
    examples = []
    for label in (1, 0):
        grammar, families = _read(label)
        for family, templates in families.items():
            rng = random.Random(f"{seed}/{label}/{family}")  # noqa: S311 - texts, nothing secret
            texts = dict.fromkeys(_one(templates, grammar, rng) for _ in range(each * 2))
            examples += [Example(text, label, family) for text in list(texts)[:each]]
    return examples


def families(label: int) -> list[str]:
    """The names of the families of attacks (1) or of harmless texts (0)."""
    return list(_read(label)[1])


@functools.cache
def _read(label: int) -> tuple[Grammar, Grammar]:
    """The grammar and the families. Harmless texts may use what stands inside of attacks, bare."""
    grammar: Grammar = {}
    families: Grammar = {}
    for name in _ATTACKS if label else (*_ATTACKS, *_HARMLESS):
        file = _file(name)
        grammar = {**grammar, **file["grammar"]}
        if label or name in _HARMLESS:
            families = {**families, **file.get("families", {})}
    return grammar, families


def _file(name: str) -> dict[str, Grammar]:
    return tomllib.loads((_HERE / f"jailbreak_{name}.toml").read_text(encoding="utf-8"))


def _one(templates: Sequence[str], grammar: Grammar, rng: random.Random) -> str:
    text = _tidy(expand(rng.choice(templates), grammar, rng))
    text = _CHANGE.sub(lambda found: _CHANGES[found[1]](found[2]), text)
    return _typed(text, rng)


def _tidy(text: str) -> str:
    text = re.sub(r"[ \t]+([,.;:!?])(?=\s|$)", r"\1", re.sub(r"[ \t]{2,}", " ", text))
    return text.strip(" \t,")


_ALPHABET = "abcdefghijklmnopqrstuvwxyz"
_ROT13 = str.maketrans(
    _ALPHABET + _ALPHABET.upper(),
    _ALPHABET[13:] + _ALPHABET[:13] + _ALPHABET[13:].upper() + _ALPHABET[:13].upper(),
)
_LEET = str.maketrans("aeiost", "431057")


def _typed(text: str, rng: random.Random) -> str:
    """As people type: now and then without capitals, in capitals, without a full stop, or with a slip."""
    chance = rng.random()
    if chance < 0.12:
        return text.lower()
    if chance < 0.15 and len(text) < 200:
        return text.upper()
    if chance < 0.25:
        return text.rstrip(".!")
    if chance < 0.32 and len(text) > 30:
        at = rng.randrange(5, len(text) - 2)
        return text[:at] + text[at + 1] + text[at] + text[at + 2 :]
    return text


_CHANGES: Mapping[str, Callable[[str], str]] = {
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "rot13": lambda text: text.translate(_ROT13),
    "reverse": lambda text: text[::-1],
    "leet": lambda text: text.lower().translate(_LEET),
    "spaced": " ".join,
    "upper": str.upper,
}
_CHANGE = re.compile(rf"«({'|'.join(_CHANGES)}):(.*?)»", re.DOTALL)
