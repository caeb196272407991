"""What a sample holds, as hashes: all of it, and what is asked of it.

A corrected reference, another weight or tag make another row, for it is judged otherwise; what was answered
is the answer still. So an answer is known by what was asked, and a row by all of its sample.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

_WHOLE = 64
_QUESTION = 32
_JUDGED_BY = frozenset({"references", "weight", "tags"})
_ALWAYS = _JUDGED_BY - {"tags"}
_written = json.JSONEncoder(sort_keys=True, ensure_ascii=False, default=str).encode  # made once


def digest(value: Any) -> str:
    """sha256 of the canonical JSON, in hex."""
    return sha(_written(value))


def sha(text: str) -> str:
    """sha256 in hex; halves of surrogate pairs are allowed."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def content(plain: Mapping[str, Any], asked: str | None = None) -> str:
    """What identifies a sample's plain values (`Sample.plain`): 64 hex digits of all, 32 of what is asked.

    `asked` is their `question`, where it is known.
    """
    return digest(plain) + (question(plain) if asked is None else asked)[:_QUESTION]


def question(plain: Mapping[str, Any], *, tags: bool = False) -> str:
    """sha256 of what is asked: all but references and weight, and without the tags if no prompt sees them."""
    left_out = _ALWAYS if tags else _JUDGED_BY
    return digest({name: value for name, value in plain.items() if name not in left_out})


def whole(kept: str) -> str:
    """The part of a row's content that is of all that the sample holds; rows of before have no other."""
    return kept[:_WHOLE]


def asks_the_same(kept: str, plain: Mapping[str, Any], *, tags: bool = False) -> bool:
    """Whether what a row answered is what the sample asks now. With `tags`, a prompt may have seen these."""
    if tags or len(kept) == _WHOLE:
        return whole(kept) == digest(plain)
    return kept[_WHOLE:] == question(plain)[:_QUESTION]
