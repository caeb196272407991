"""When may text that is still arriving be let go?

Detection needs what comes next: `john@exam` is nothing yet. A `Window` holds text back until no finding can
reach into it any more, and decides only at points that are a function of the text, never of how it was cut
into chunks: the filtered answer is the same for every chunking.

The rules, with the numbers that are parameters:

- A *break* is the place after a whitespace character, or after a character of a script that is written
  without spaces (Thai to Khmer, Chinese, Japanese: such an answer would otherwise be held to its end).
- Detection runs at the first break that is at least `stride` characters after the last run, over the
  undecided text and at least `context` decided characters before it (for words like "ssn:" that lend a
  number its meaning).
- Everything up to the last break that is `reach` characters old, and that no finding crosses, is decided.
  While nothing is found, at most `reach + stride` characters and two words are held.
- More than `longest` characters without a place to cut cannot be scanned with bounded effort. They fail
  closed: one finding of kind `UNSCANNABLE` from the last cut to the next break.

Cost: every run covers `context + reach + stride` characters and a few words, so a character is scanned about
(context + reach + stride) / stride times (6 with the defaults and a reach of 64). Time is linear in the
length of the text. A text that is there as a whole takes longer strides: see `scan`.

What is not covered: a finding that breaks its detector's promise of `reach` is removed from its first
undecided character on; the part before that has left already.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable

from guardrails.filters.detector import Finding, resolve

UNSCANNABLE = "UNSCANNABLE"

Detect = Callable[[str], list[Finding]]

_BREAK = re.compile(r"[\s\u0e00-\u109f\u1780-\u17ff\u2e80-\uabff\uf900-\U0010ffff]")
_SLICE = 1024  # every run shortens the buffer at its front: in slices that stays linear for long texts


class Window:
    """Text goes in by `push`; `decided` says how many of its characters may leave, findings what may not.

    Positions count characters from the first push on. Findings come out once, disjoint and in order, from
    the push (or the `finish`) that decided them.
    """

    __slots__ = (
        "_base",
        "_context",
        "_cuts",
        "_detect",
        "_due",
        "_longest",
        "_reach",
        "_stride",
        "_swallowing",
        "_text",
        "decided",
    )

    def __init__(
        self, detect: Detect, reach: int, *, stride: int = 32, context: int = 96, longest: int = 4096
    ) -> None:
        self._detect = detect
        self._reach = reach
        self._stride = stride
        self._context = context
        self._longest = longest
        self.decided = 0
        self._text = ""  # from the context on
        self._base = 0  # the position of its first character
        self._cuts = deque([0])  # where decisions ended; the context starts at one of them
        self._due = stride
        self._swallowing = False

    def push(self, text: str) -> list[Finding]:
        """More text; returns what was decided by it."""
        out: list[Finding] = []
        for start in range(0, len(text), _SLICE):
            self._text += text[start : start + _SLICE]
            while (end := self._next()) is not None:
                out += self._run(end)
        return out

    def finish(self) -> list[Finding]:
        """No more text: decides the rest. More may be pushed afterwards, as after a cut."""
        end = self._base + len(self._text)
        if end == self.decided:
            return []
        if self._swallowing or end - self.decided > self._longest:
            return self._give_up(end)
        return self._close(end, self._look(end))

    def _next(self) -> int | None:
        """Where the next run ends, if that much text is here."""
        limit = self.decided + self._longest + 1
        due = min(self._due, limit)
        found = _BREAK.search(self._text, max(0, due - self._base - 1))
        if found is not None:
            return self._base + found.end()
        end = self._base + len(self._text)
        if end >= limit:  # what is swallowed need not be kept
            self._swallowing = True
            self._text, self._base = "", end
        return None

    def _run(self, end: int) -> list[Finding]:
        if end - self.decided > self._longest:
            # A space stays; a character of an unspaced script is text that nobody has looked at.
            return self._give_up(end - self._text[end - 1 - self._base].isspace())
        findings = self._look(end)
        self._due = end + self._stride
        cut = self._cut(end - self._reach, findings)
        return [] if cut is None else self._close(cut, findings)

    def _give_up(self, end: int) -> list[Finding]:
        self._swallowing = False
        self._cuts.clear()  # what was not looked at lends no context
        return self._close(end, [Finding(UNSCANNABLE, self.decided, end, 1.0, "window")])

    def _look(self, end: int) -> list[Finding]:
        base, size = self._base, end - self._base
        found = self._detect(self._text[:size])
        shifted = (
            Finding(f.kind, max(f.start + base, self.decided), min(f.end, size) + base, f.score, f.detector)
            for f in found
        )
        return resolve(shifted)

    def _cut(self, latest: int, findings: list[Finding]) -> int | None:
        """The last break at or before `latest` that lies in no finding."""
        at, rest = latest, findings.copy()
        while at > self.decided:
            while rest and rest[-1].start >= at:
                rest.pop()
            if rest and rest[-1].end > at:
                at = rest[-1].start
            elif _BREAK.match(self._text, at - 1 - self._base):
                return at
            else:
                at -= 1
        return None

    def _close(self, cut: int, findings: list[Finding]) -> list[Finding]:
        earlier = self._cut(cut - self._context, findings)  # else a long stride makes a long context
        self._cuts.extend([cut] if earlier is None else [earlier, cut])
        self.decided = cut
        self._due = max(self._due, cut + self._stride)
        while len(self._cuts) > 1 and self._cuts[1] <= cut - self._context:
            self._cuts.popleft()
        keep = max(self._cuts[0], self._base)
        self._text, self._base = self._text[keep - self._base :], keep
        return [f for f in findings if f.start < cut]


def scan(text: str, detect: Detect, reach: int) -> list[Finding]:
    """All findings of a text that is there as a whole, disjoint and in order, in linear time.

    Nobody waits for its parts, so the strides are long (2,048), and so may be what is held (65,536).
    """
    window = Window(detect, reach, stride=2048, longest=65_536)
    return window.push(text) + window.finish()
