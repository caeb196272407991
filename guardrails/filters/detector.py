"""Where something was found in a text, and what to make of it. Pure values; nothing here knows of streams.

A `Detector` is the seam: personal data, secrets, toxicity or a judge's verdict all come in through it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

UNSCANNABLE = "UNSCANNABLE"
"""The kind of a finding that is no look at a text: nobody could look there."""


@dataclass(frozen=True, slots=True)
class Finding:
    """`text[start:end]` is a `kind` with this `score` (0 to 1), says `detector`. Never holds the text."""

    kind: str
    start: int
    end: int
    score: float
    detector: str


class Detector(Protocol):
    """Looks for something in a text.

    `detect` keeps nothing between calls and may run in any thread, several at once. `reach` is a promise: a
    finding that goes on past a break in the text (see `guardrails.filters.window`) ends at most that many
    characters after it. A detector of single words has a reach of 0. What has begun and not ended (a private
    key's block) is found up to the end of the text: a stream holds it back until its end is seen.

    More attributes are optional. `scope`: "span" (what is assumed) finds places; "text" judges a text as
    a whole. In a stream it is shown the text from its beginning, or the last `context` characters and what is
    new, every `stride` characters; a stride of 0 judges the whole answer only, which a stream then holds to
    its end. `channels`: the channels of an answer that it looks at (`text`, `reasoning`, `refusal`); if left
    out all, but for judges of whole answers, which look at the text. `begins(text, start) -> int | None`, of
    "span" detectors: the first place from `start` on where a finding could begin, however the text goes on;
    None: nowhere. From there on the text is whole words, each with the white space behind it (`\\S*\\s`); up
    to 96 characters before are what came before them. The answer about a word may not depend on later ones.
    What is cleared leaves a stream at once, without `detect`, so `begins` has to be cheap and linear, and to
    say rather too much than too little (`start`: it could begin anywhere).

    `about(request) -> Detector`: the detector for answers to one request, for those that compare the two. It
    is asked once for each answer; without it, and in other directions, `detect` is called as it is.

    `hidden(text) -> int`: how many characters of a piece of text do not count towards `reach`, as nobody sees
    them. And `read(text)`, a function that is the same object for all detectors that begin with the same
    work, with `detect_read(text, read)`, which finds what `detect` does from what `read` made: see `Reading`.
    """

    @property
    def name(self) -> str:
        """A short word for records."""

    @property
    def reach(self) -> int:
        """How many characters past a break a finding can extend."""

    def detect(self, text: str) -> list[Finding]:
        """All findings, in any order; they may overlap."""


class AsyncDetector(Protocol):
    """A `Detector` that waits for somebody else: a moderation endpoint, a judging model. Scope: text."""

    @property
    def name(self) -> str:
        """A short word for records."""

    @property
    def reach(self) -> int:
        """As a `Detector`'s."""

    async def detect(self, text: str) -> list[Finding]:
        """All findings. It is cancelled when its answer is not needed any more."""


class Reading:
    """What detectors made of a text before they looked, for those that come after and begin alike.

    Lives as long as one look at a text, in one thread. `unread`: something in it was too deeply encoded for a
    detector; who asks sets it back.
    """

    __slots__ = ("_made", "unread")

    def __init__(self) -> None:
        self._made: dict[tuple[Callable[[str], Any], str], Any] = {}
        self.unread = False

    def detect(self, detector: Detector, text: str) -> list[Finding]:
        """What the detector finds in the text, or in a part of it."""
        read = getattr(detector, "read", None)
        if read is None:
            return detector.detect(text)
        made = self._made.get((read, text))
        if made is None:
            made = self._made[read, text] = read(text)
        self.unread |= bool(getattr(made, "unread", ()))
        found: list[Finding] = detector.detect_read(text, made)  # type: ignore[attr-defined] # optional
        return found


Mark = Callable[[Finding], str]
Rank = Callable[[Finding], tuple[Any, ...]]


def named(finding: Finding) -> str:
    """The default mark: `<EMAIL_ADDRESS>`."""
    return f"<{finding.kind}>"


def by_score(finding: Finding) -> tuple[Any, ...]:
    """The order of overlapping findings: the highest score, then the longer, the earlier one, the name."""
    return -finding.score, finding.start - finding.end, finding.start, finding.kind, finding.detector


def resolve(findings: Iterable[Finding], rank: Rank = by_score) -> list[Finding]:
    """Disjoint findings in order of the text: the union of each overlapping group.

    The group's kind, score and detector are those of the one that `rank` puts first; ranks without ties see
    to it that the order in which detectors ran does not matter.
    """
    groups: list[tuple[int, Finding]] = []  # the end of the group, its best finding
    starts: list[int] = []
    for finding in sorted(findings, key=lambda f: (f.start, f.end)):
        if finding.end <= finding.start:
            continue
        if groups and finding.start < groups[-1][0]:
            end, best = groups[-1]
            groups[-1] = max(end, finding.end), min(best, finding, key=rank)
        else:
            starts.append(finding.start)
            groups.append((finding.end, finding))
    return [
        Finding(best.kind, start, end, best.score, best.detector)
        for start, (end, best) in zip(starts, groups, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class Edit:
    """`text[start:end]` becomes `text`."""

    start: int
    end: int
    text: str


def apply(text: str, edits: Sequence[Edit], offset: int = 0) -> str:
    """The text with the edits made; they are disjoint and in order.

    `text` may be a piece of a longer text, starting at `offset` of it: the part of an edit that lies in the
    piece is cut out, and its replacement appears in the piece where the edit starts. The pieces of a text,
    edited one by one, join to the edited text.
    """
    out: list[str] = []
    at, end = offset, offset + len(text)
    for edit in edits:
        if edit.end <= at:
            continue
        if edit.start >= end:
            break
        if edit.start >= at:
            out += text[at - offset : edit.start - offset], edit.text
        at = min(edit.end, end)
    out.append(text[at - offset :])
    return "".join(out)


def redact(text: str, findings: Iterable[Finding], mark: Mark = named) -> str:
    """The text with every finding replaced by its mark."""
    return apply(text, [Edit(f.start, f.end, mark(f)) for f in resolve(findings)])
