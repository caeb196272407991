"""How does a judge tell the text that it judges from its own instructions?

Every foreign text stands between two marks that hold a word nobody can guess, drawn anew for each call:

    <answer-5f0c9d…>
    …
    </answer-5f0c9d…>

A text that knew the word could close the fence and go on as instructions; the word is drawn until no text has
it. What merely looks like such a mark, or like the control tokens of a chat template (`<|im_start|>`,
`[INST]`), is defused: its bracket becomes a look-alike, and the count is told. Nothing else is changed.

What this does not do: keep a model from obeying what it reads. `judges.llm.obeys` measures that.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import re2

WORD = 12  # hex digits: 48 bits
CASE = 6

_MARKS = re2.compile(
    r"(?i)(?:<(?P<tag>\s*/?\s*(?:question|answer|answer_a|answer_b|reference|context|passage|claim|claims|text"
    r"|criteria|case|verdict|system|assistant|user)\b[^<>\n]{0,80}>)"
    r"|<(?P<token>\|[^<>|\n]{1,40}\|>|/?s>|(?:start|end)_of_turn>|(?:begin|end)_of_text>)"
    r"|\[(?P<inst>/?(?:INST|SYS|SYSTEM_PROMPT)\])"
    r"|<(?P<llama><\s*/?SYS\s*>>))"
)


@dataclass(frozen=True, slots=True)
class Fence:
    """The marks of one call. `case` is the word that its verdict has to repeat."""

    word: str = field(repr=False)
    case: str = field(repr=False)

    @classmethod
    def drawn(cls, rng: Random, texts: Iterable[str]) -> Fence:
        """Words that stand in none of the texts."""
        known = [text.lower() for text in texts]
        drawn = []
        for length in (WORD, CASE):
            digits, word = length, ""
            while not word or any(word in text for text in known):
                word = f"{rng.getrandbits(4 * digits):0{digits}x}"
                digits += 1  # a text may hold every short word there is
            drawn.append(word)
        return cls(*drawn)

    def around(self, label: str, text: str) -> str:
        """The text between its marks."""
        return f"<{label}-{self.word}>\n{defused(text)[0]}\n</{label}-{self.word}>"


def defused(text: str) -> tuple[str, int]:
    """The text with everything defused that looks like a mark, and how often that was."""
    clean = text.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")
    count = 0

    def replaced(match: Any) -> str:
        nonlocal count
        count += 1
        found: str = match.group(0)
        return ("‹" if found[0] == "<" else "⟦") + found[1:]

    return _MARKS.sub(replaced, clean), count
