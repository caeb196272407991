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
- Where `begins` can tell the words in which a finding could begin, the words before the first of them are
  decided at once, without detection. Only words of less than `stride` characters are: in a longer one,
  detection may be due before its end.
- More than `longest` characters without a place to cut cannot be scanned with bounded effort. They fail
  closed: one finding of kind `UNSCANNABLE` from the last cut to the next break.
- A finding that goes up to the end of what was looked at is *open* (a private key that has begun): it is held
  up to `OPEN` characters, with looks ever farther apart. What is open for longer takes the rest of the text
  along: nobody can tell any more where it ends.

Cost: every run covers `context + reach + stride` characters and a few words, so a character is scanned about
(context + reach + stride) / stride times (6 with the defaults and a reach of 64), unless `begins` spares it.
Time is linear in the length of the text. A text that is there as a whole takes longer strides: see `scan`.

What is not covered: a finding that breaks its detector's promise of `reach` is removed from its first
undecided character on; the part before that has left already.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Generator, Iterable
from typing import Any

from guardrails.filters.detector import UNSCANNABLE, Finding, resolve

OPEN = 65_536

Detect = Callable[[str], list[Finding]]
Begins = Callable[[str, int], int | None]
Hidden = Callable[[str], int]
Resolve = Callable[[Iterable[Finding]], list[Finding]]
Steps = Generator[str, list[Finding], list[Finding]]
"""Yields a text to look at, wants to be sent what was found in it, and returns what is decided now."""

# Nothing in it may depend on what comes after the match: that may not have arrived yet.
SENTENCE = re.compile(r"[.!?\u2026][)\]\"'\u2019\u201d\u00bb*_]*\s|\n|[\u3002\uff01\uff1f]")
# No character is a break that a reader does not see, or that reads as one of ASCII's (`ｊｏ＠`).
BREAK = re.compile(
    r"[\s\u0e00-\u109f\u1780-\u17b3\u17b6-\u17ff\u2e80-\u309a\u309d-\u3163\u3165-\u31ff\u3400-\ua6ff"
    r"\ua800-\uabff\uf900-\ufaff\uff61-\uff9f\U00010800-\U0001bc9f\U0001d800-\U0001f0ff\U0001f200-\U0001fbef"
    r"\U00020000-\U000dffff\U000e1000-\U0010ffff]"
)
_SLICE = 1024  # every run shortens the buffer at its front: in slices that stays linear for long texts


def first_sign(pattern: Any, text: str, start: int) -> int | None:
    """Where the first group of an RE2 pattern is, from `start` on: for detectors whose `begins` it can be."""
    data = text[start:].encode("utf-8", "replace")
    sign = pattern.search(data)
    return None if sign is None else start + len(data[: sign.start(1)].decode())


def earliest(signs: Iterable[Begins], text: str, start: int) -> int | None:
    """The first place that any of them names."""
    first: int | None = None
    for begins in signs:
        place = begins(text, start)
        if place is not None and (first is None or place < first):
            if place <= start:
                return place
            first = place
    return first


class Window:
    """Text goes in by `push`; `decided` says how many of its characters may leave, findings what may not.

    Positions count characters from the first push on. Findings come out once, disjoint and in order, from
    the push (or the `finish`) that decided them. `pushing` and `finishing` do the same in `Steps`, for those
    who look elsewhere. `pause`: where a run may end, when a plain break is not enough (`SENTENCE`, which is
    waited for up to half of `longest`). `begins` and `hidden`: see `detector.Detector`.
    """

    __slots__ = (
        "_base",
        "_begins",
        "_context",
        "_cuts",
        "_detect",
        "_due",
        "_found",
        "_held",
        "_hidden",
        "_left",
        "_longest",
        "_most",
        "_open",
        "_pause",
        "_reach",
        "_resolve",
        "_short",
        "_stride",
        "_swallowing",
        "_text",
        "decided",
    )

    def __init__(
        self,
        detect: Detect,
        reach: int,
        *,
        stride: int = 32,
        context: int = 96,
        longest: int = 4096,
        pause: re.Pattern[str] = BREAK,
        resolve: Resolve = resolve,
        begins: Begins | None = None,
        hidden: Hidden | None = None,
    ) -> None:
        self._detect = detect
        self._hidden = hidden
        self._begins = begins
        self._short = re.compile(rf"(?:\S{{0,{stride - 1}}}\s)+")
        self._reach = reach
        self._stride = stride
        self._context = context
        self._longest = longest
        self._pause = pause
        self._resolve = resolve
        self.decided = 0
        self._text = ""  # from the context on
        self._base = 0  # the position of its first character
        self._cuts = deque([0])  # where decisions ended; the context starts at one of them
        self._due = stride
        self._most = longest  # how far one may read without a decision
        self._open = False  # something has begun that has no end yet
        self._held = False  # the next word waits for detection
        self._left = False  # words have left since the context was last cut off
        self._found = 0  # where the last finding ends
        self._swallowing = ""  # "" | "word": to the next break | "rest": for good

    def push(self, text: str) -> list[Finding]:
        """More text; returns what was decided by it."""
        return walk(self.pushing(text), self._detect)

    def finish(self) -> list[Finding]:
        """No more text: decides the rest. More may be pushed afterwards, as after a cut."""
        return walk(self.finishing(), self._detect)

    def pushing(self, text: str) -> Steps:
        """`push`, in steps."""
        out: list[Finding] = []
        for start in range(0, len(text), _SLICE):
            self._text += text[start : start + _SLICE]
            self._flow()
            while (end := self._next()) is not None:
                out += yield from self._run(end)
                self._flow()
        return out

    def finishing(self) -> Steps:
        """`finish`, in steps."""
        end = self._base + len(self._text)
        if end == self.decided:
            return []
        if self._swallowing or end > self._most:
            return self._give_up(end)
        self._forget()
        found = self._place((yield self._text), end)
        self._open = False
        return self._close(end, found)

    def _flow(self) -> None:
        """Decide the whole words in which, and before which, nothing can begin.

        Each word is judged by itself, so it does not matter how many of them are here by now; and a word that
        is short enough ends before the next run, so neither can come before the other.
        """
        if self._begins is None or self._held or self._open or self._swallowing:
            return
        here = self._short.match(self._text, self.decided - self._base)
        if here is None:
            return
        start = max(0, here.start() - self._context)  # what was decided at other times lies before it
        text, start = self._text[start : here.end()], here.start() - start
        end, due = len(text), 0
        if (first := self._begins(text, start)) is not None:
            self._held = True
            end = next((at for at in range(first, start, -1) if text[at - 1].isspace()), start)
            behind = next(at for at in range(first, len(text)) if text[at].isspace()) + 1
            due = self.decided + behind - start + self._reach  # before that, the word could not be decided
        if end > start:
            self._leave(self.decided + end - start)
        self._due = max(self._due, due)

    def _leave(self, cut: int) -> None:
        """Decide up to `cut`, where there is no finding."""
        self.decided = cut
        self._most = cut + self._longest
        self._due = max(self._due, cut + self._stride)
        self._left = True
        if len(self._text) > _SLICE:
            self._forget()

    def _forget(self) -> None:
        """Start the context where it should after words have left; how many at a time does not matter."""
        if not self._left:
            return
        self._left = False
        first, start = max(self._base, self._found), self.decided - self._context
        behind = BREAK.search(self._text[first - self._base : max(first, start) - self._base][::-1])
        if behind is not None:  # else the context starts where it did
            start -= behind.start()
            self._cuts = deque([start])
            self._text, self._base = self._text[start - self._base :], start

    def _next(self) -> int | None:
        """Where the next run ends, if that much text is here."""
        end = self._base + len(self._text)
        limit = self._most + 1
        if end < min(self._due, limit):
            return None
        self._forget()
        if self._swallowing != "rest" and (found := self._pause_after(min(self._due, limit))) is not None:
            return found
        if end >= limit:  # what is swallowed need not be kept
            self._swallowing = self._swallowing or ("rest" if self._open else "word")
            self._text, self._base = "", end
        return None

    def _pause_after(self, due: int) -> int | None:
        found = self._pause.search(self._text, max(0, due - self._base - 1))
        if self._pause is not BREAK:
            late = max(due, self.decided + self._longest // 2)  # a sentence that never ends is not waited for
            if found is None or self._base + found.end() > late:
                found = BREAK.search(self._text, max(0, late - self._base - 1))
        return None if found is None else self._base + found.end()

    def _run(self, end: int) -> Steps:
        if end > self._most:
            if self._open:
                self._swallowing = "rest"
                return []
            # A space stays; a character of an unspaced script is text that nobody has looked at.
            return self._give_up(end - self._text[end - 1 - self._base].isspace())
        findings = self._place((yield self._text[: end - self._base]), end)
        self._due = end + self._stride
        latest = self._latest(end)
        cut = self._cut(latest, findings)
        if latest < end - self._reach and cut is None:  # more and more that nobody sees: as below
            self._due = end + max(self._stride, (end - self.decided) // 2)
        decided = [] if cut is None else self._close(cut, findings)
        last = findings[-1] if findings else None
        self._open = last is not None and last.end == end > self.decided
        if last is not None and last.end > self.decided:  # looked at again, but ever more seldom: linear
            self._due = end + max(self._stride, (end - last.start) // 2)
            most = self.decided + max(self._longest, OPEN)
            self._most = most if self._open else min(end + self._longest, most)
        return decided

    def _give_up(self, end: int) -> list[Finding]:
        if self._swallowing != "rest":
            self._swallowing = ""
        self._cuts.clear()  # what was not looked at lends no context
        return self._close(end, [Finding(UNSCANNABLE, self.decided, end, 1.0, "window")])

    def _place(self, found: list[Finding], end: int) -> list[Finding]:
        base, size = self._base, end - self._base
        shifted = (
            Finding(f.kind, max(f.start + base, self.decided), min(f.end, size) + base, f.score, f.detector)
            for f in found
        )
        return self._resolve(shifted)

    def _latest(self, end: int) -> int:
        """What is `reach` characters old, as a reader counts them."""
        latest = end - self._reach
        if self._hidden is None:
            return latest
        for _ in range(8):  # it grows with each look: then nearly all of it is hidden, and nothing may leave
            start = max(latest, self.decided)
            wanted = end - self._reach - self._hidden(self._text[start - self._base : end - self._base])
            if wanted >= latest or latest <= self.decided:
                return latest
            latest = wanted
        return self.decided

    def _cut(self, latest: int, findings: list[Finding]) -> int | None:
        """The last break at or before `latest` that lies in no finding."""
        at, rest = latest, findings.copy()
        while at > self.decided:
            while rest and rest[-1].start >= at:
                rest.pop()
            if rest and rest[-1].end > at:
                at = rest[-1].start
            elif BREAK.match(self._text, at - 1 - self._base):
                return at
            else:
                at -= 1
        return None

    def _close(self, cut: int, findings: list[Finding]) -> list[Finding]:
        earlier = self._cut(cut - self._context, findings)  # else a long stride makes a long context
        self._cuts.extend([cut] if earlier is None else [earlier, cut])
        self.decided = cut
        self._held = False
        self._most = cut + self._longest
        self._due = max(self._due, cut + self._stride)
        while len(self._cuts) > 1 and self._cuts[1] <= cut - self._context:
            self._cuts.popleft()
        keep = max(self._cuts[0], self._base)
        self._text, self._base = self._text[keep - self._base :], keep
        decided = [f for f in findings if f.start < cut]
        self._found = max(self._found, *(f.end for f in decided), 0)
        return decided


class Whole:
    """A `Window` that decides nothing before the end, for judges of whole answers."""

    __slots__ = ("_detect", "_held", "_longest", "_resolve", "_size", "decided")

    def __init__(self, detect: Detect, *, longest: int = 2**20, resolve: Resolve = resolve) -> None:
        self._detect = detect
        self._longest = longest
        self._resolve = resolve
        self._held: list[str] = []
        self._size = 0
        self.decided = 0

    def pushing(self, text: str) -> Steps:
        """More text."""
        self._size += len(text)
        if self._size - self.decided <= self._longest:
            self._held.append(text)
        else:
            self._held.clear()
        return []
        yield ""  # type: ignore[unreachable] # what makes these steps, though there is none to take

    def finishing(self) -> Steps:
        """No more text: the judgement. More may be pushed afterwards, and is judged by itself."""
        start, text = self.decided, "".join(self._held)
        if start == self._size:
            return []
        if len(text) < self._size - start:
            found = [Finding(UNSCANNABLE, 0, self._size - start, 1.0, "window")]
        else:
            found = yield text
        self._held.clear()
        self.decided = self._size
        return self._resolve(
            Finding(f.kind, f.start + start, f.end + start, f.score, f.detector) for f in found
        )


def walk(steps: Steps, detect: Detect) -> list[Finding]:
    """Take all steps, looking with `detect`."""
    try:
        text = next(steps)
        while True:
            text = steps.send(detect(text))
    except StopIteration as done:
        findings: list[Finding] = done.value
        return findings


def scan(text: str, detect: Detect, reach: int, hidden: Hidden | None = None) -> list[Finding]:
    """All findings of a text that is there as a whole, disjoint and in order, in linear time.

    Nobody waits for its parts, so the strides are long (2,048), and so may be what is held (65,536).
    """
    window = Window(detect, reach, stride=2048, longest=65_536, hidden=hidden)
    return window.push(text) + window.finish()
