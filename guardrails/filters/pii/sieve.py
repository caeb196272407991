"""Which patterns could match in a word with a number: one pass of an automaton for the patterns of all kinds.

RE2 has no look-around, so what stands there is left out: a pattern without its conditions matches wherever
the whole one does. A pattern that RE2 cannot take even so (a back-reference) is spoken for by its kind's
hint, and so are all patterns where RE2's ASCII digits and word boundaries are not Python's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

Match = tuple[int, int, float]
Find = Callable[[str, int, int], list[Match]]

_AROUND = re.compile(r"\(\?<?[!=](?:[^()\[\]\\]|\\.|\[[^\]]*\]|\([^()]*\))*\)")


@dataclass(frozen=True, slots=True)
class Kind:
    """What finds a kind: expressions (one may be left empty: the hint speaks for it), each with its search.

    `hint`: what every word with a match holds, in Python's words and in RE2's.
    """

    hint: str
    finds: Sequence[tuple[str, Find]]


class Sieve:
    """Ask it about a word: which searches of which kinds could find something. Safe in any thread."""

    def __init__(self, kinds: Mapping[str, Kind]) -> None:
        import re2

        options = re2.Options()
        options.log_errors = False
        options.case_sensitive = False
        options.dot_nl = True
        self._hints: list[tuple[str, re.Pattern[str], list[Find]]] = []
        self._set = re2.Set.SearchSet(options)
        self._of: list[tuple[str, Find]] = []  # by the pattern's number in the set
        for name, kind in kinds.items():
            self._hints.append((name, re.compile(kind.hint, re.IGNORECASE), [find for _, find in kind.finds]))
            for pattern, find in kind.finds:
                self._of.append((name, find))
                try:
                    self._set.Add(_AROUND.sub("", pattern) or kind.hint)
                except re2.error:
                    self._set.Add(kind.hint)
        self._set.Compile()

    def __call__(self, word: str) -> Iterable[tuple[str, Find]]:
        """The kinds and their searches that the word may be shown to."""
        if word.isascii():
            return [self._of[number] for number in self._set.Match(word) or ()]
        return [(name, find) for name, hint, finds in self._hints if hint.search(word) for find in finds]
