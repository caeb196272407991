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


def digest(value: Any) -> str:
    """sha256 of the canonical JSON, in hex."""
    return sha(json.dumps(value, sort_keys=True, ensure_ascii=False, default=str))


def sha(text: str) -> str:
    """sha256 in hex; halves of surrogate pairs are allowed."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def content(plain: Mapping[str, Any]) -> str:
    """What identifies a sample's plain values (`Sample.plain`): 64 hex digits of all, 32 of what is asked."""
    return digest(plain) + question(plain)[:_QUESTION]


def question(plain: Mapping[str, Any], *, tags: bool = False) -> str:
    """sha256 of what is asked: all but references and weight, and without the tags if no prompt sees them."""
    left_out = _JUDGED_BY - {"tags"} if tags else _JUDGED_BY
    return digest({name: value for name, value in plain.items() if name not in left_out})


def whole(kept: str) -> str:
    """The part of a row's content that is of all that the sample holds; rows of before have no other."""
    return kept[:_WHOLE]


def asks_the_same(kept: str, plain: Mapping[str, Any], *, tags: bool = False) -> bool:
    """Whether what a row answered is what the sample asks now. With `tags`, a prompt may have seen these."""
    if tags or len(kept) == _WHOLE:
        return whole(kept) == digest(plain)
    return kept[_WHOLE:] == question(plain)[:_QUESTION]
