"""An answer on its way out: which of its events may leave, and with which changes.

- Events keep their order. Text waits until every rule that acts has decided on it (for places a word, and
  about 100 characters from where something could begin, see `guardrails.filters.window`; for judges as their
  rule says), and what came after it waits behind it. A delta without a finding passes as the object that it
  is; of one with a finding the log-probabilities and the vendor's chunk (think of its token ids) are dropped:
  they spell the text.
- A channel (text, reasoning, refusal) is at its end when its choice finishes or goes on in another channel.
  If it then goes on after all, a finding across that seam is removed from the seam on only. Judges of whole
  answers wait for the choice to finish.
- A tool call's arguments wait until they are whole, since only then can they be read as JSON; nobody can act
  on half of them. The head of the call waits for nothing but the text before it.
- Rules that only flag, or stand in the shadow, look at the whole text after all of it has left.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from guardrails.call import Delta, Event, Finish, Opaque, Reset
from guardrails.filters.detector import AsyncDetector, Detector, Edit, Finding, Mark, apply
from guardrails.filters.policy import Rule, decide, edits
from guardrails.filters.run import Run, at_once, examine, together
from guardrails.filters.surfaces import Arguments, is_json
from guardrails.filters.window import BREAK, SENTENCE, Begins, Hidden, Steps, Whole, Window, earliest

_LOOKS = 6  # how often a window looks at each character, about
_LONGEST = 16_384  # a judge's text without a break


class _Track:
    """The rules that look at a channel together, and how far they have come."""

    __slots__ = ("_away", "_how", "_rules", "_run", "pane", "whole")

    def __init__(self, run: Run, rules: Sequence[Rule]) -> None:
        self._run = run
        self._rules = rules
        self._away = any(run.is_away(rule) for rule in rules)
        self.whole = rules[0].whole
        self._how = examine(rules[0]) if self.whole else at_once
        resolve = run.rules.resolve
        self.pane: Window | Whole
        if self.whole:
            self.pane = Whole(self._look, resolve=resolve)
        elif rules[0].judges:
            by_sentence = rules[0].hold == "sentence"
            self.pane = Window(
                self._look,
                0,
                stride=1 if by_sentence else rules[0].steps,
                context=rules[0].looks_back,
                longest=_LONGEST,
                resolve=resolve,
                pause=SENTENCE if by_sentence else BREAK,
            )
        else:
            reach = max(rule.detector.reach for rule in rules)
            hidden = _hidden(rules)
            self.pane = Window(self._look, reach, resolve=resolve, begins=_begins(rules), hidden=hidden)

    def _look(self, text: str) -> list[Finding]:
        return self._run.spared(text, self._run.look(self._rules, text, self._how))

    async def go_on(self, steps: Steps, text: str, size: int) -> list[Finding]:
        """Take the steps, of which the first one was to look at `text`."""
        if not self._away:
            return await self._run.somewhere(max(len(text), size), lambda: self._walk(steps, text))
        while True:
            found = await self._run.ask(self._rules, text, self._how)
            try:
                text = steps.send(found)
            except StopIteration as done:
                findings: list[Finding] = done.value
                return findings

    def _walk(self, steps: Steps, text: str) -> list[Finding]:
        try:
            while True:
                text = steps.send(self._look(text))
        except StopIteration as done:
            findings: list[Finding] = done.value
            return findings


def _asked(rules: Sequence[Rule]) -> list[Detector | AsyncDetector]:
    """The detectors of the rules, and those that look when one of them fails."""
    instead = [other for rule in rules for other in (rule.on_exceeded, rule.on_crash)]
    return [rule.detector for rule in rules] + [other for other in instead if not isinstance(other, str)]


def _hidden(rules: Sequence[Rule]) -> Hidden | None:
    """How much of a text some detector takes for a disguise; None when none does."""
    each = list(dict.fromkeys(filter(None, (getattr(one, "hidden", None) for one in _asked(rules)))))
    return (lambda text: max(hidden(text) for hidden in each)) if each else None


def _begins(rules: Sequence[Rule]) -> Begins | None:
    """Where any of the detectors could find something; None when one of them cannot tell."""
    asked = _asked(rules)
    each: dict[Begins, None] = {}  # what several have in common is asked once
    for detector in asked:
        begins = getattr(detector, "begins", None)
        if begins is None:
            return None
        each |= dict.fromkeys(getattr(detector, "signs", None) or (begins,))

    def first(text: str, start: int) -> int | None:
        try:
            return earliest(each, text, start)
        except Exception:  # then `detect` is asked, for whose failures the rule says what to do
            return start

    return first


def _tracks(run: Run, channel: str) -> list[_Track]:
    acting = [rule for rule in run.rules.acting if rule.looks_at(channel)]
    places = [rule for rule in acting if not (rule.judges or rule.whole)]
    judges = [[rule] for rule in acting if rule.judges or rule.whole]
    return [_Track(run, rules) for rules in ([places] if places else []) + judges]


class _Channel:
    """The text of one channel of one choice: how much of it may leave, and with which edits."""

    __slots__ = ("_held", "_kept", "_mark", "_pending", "_tracks", "decided", "edits", "received", "run")

    def __init__(self, run: Run, name: str, mark: Mark) -> None:
        self.run = run
        self._mark = mark
        is_tool = name.startswith("tool:")
        watching = [rule for rule in run.rules.watching if rule.looks_at(name)]
        self._tracks = [] if is_tool else _tracks(run, name)
        self._held: list[str] | None = [] if is_tool else None  # a tool call's arguments
        self._kept: list[str] | None = [] if watching and not is_tool else None  # for those who only watch
        self._pending: list[Finding] = []
        self.received = 0
        self.decided = 0
        self.edits: deque[Edit] = deque()

    async def push(self, text: str) -> None:
        self.received += len(text)
        if self._kept is not None:
            self._kept.append(text)
        if self._held is not None:
            self._held.append(text)
        else:
            await self._advance(self._tracks, lambda track: track.pane.pushing(text), len(text) * _LOOKS)

    async def finish(self, whole: bool = True) -> None:
        """Decide the rest. Unless it is `whole`, some of it goes on waiting (see the module)."""
        if self._held is not None:
            await self._arguments(whole)
            return
        size = self.received - self.decided
        tracks = [track for track in self._tracks if whole or not track.whole]
        await self._advance(tracks, lambda track: track.pane.finishing(), size)

    async def watched(self) -> list[Finding]:
        """What those find who only watch."""
        if self._kept is None:
            return []
        text = "".join(self._kept)
        return (await self.run.whole([text], self.run.rules.watching))[text]

    async def _advance(self, tracks: list[_Track], begin: Callable[[_Track], Steps], size: int) -> None:
        works = []
        for track in tracks:
            steps = begin(track)
            try:
                text = next(steps)
            except StopIteration as done:
                self._pending += done.value
            else:
                works.append(track.go_on(steps, text, size))
        if works:
            for found in await together(works, self.run.stops):
                self._pending += found
        self._settle()

    def _settle(self) -> None:
        """Let go of what every rule has decided on, up to the first finding that stops the answer."""
        run, pending = self.run, self._pending
        end = min((track.pane.decided for track in self._tracks), default=self.received)
        if not pending:
            self.decided = end
            return
        stop = min((f for f in pending if run.rules.rule(f).stops), key=lambda f: f.start, default=None)
        end = end if stop is None else min(end, stop.start)
        for finding in sorted(pending, key=lambda f: -f.end):  # what overlaps is decided together
            if finding.start < end < finding.end:
                end = finding.start
        # What comes after a stop may or may not be known by now, so it is not spoken of.
        ready = [f for f in pending if (f.end <= end if stop is None else f.start < stop.end)]
        self._pending = [f for f in pending if stop is None and f.end > end]
        verdict = decide(ready, run.rules)
        run.take(verdict)
        self.edits.extend(edits(verdict.changes, "", run.rules, self._mark))
        self.decided = max(self.decided, end)

    async def _arguments(self, whole: bool) -> None:
        text = "".join(self._held or ())
        if not text or (not whole and not is_json(text)):
            return
        self._held = []
        run, start, arguments = self.run, self.decided, Arguments.of(text)
        found = await run.whole([arguments.looked], run.rules.rules)
        verdict = decide(arguments.found(found[arguments.looked]), run.rules)
        if not run.take(verdict):
            marks = edits(verdict.changes, arguments.looked, run.rules, self._mark)
            self.edits.extend(Edit(e.start + start, e.end + start, e.text) for e in arguments.edits(marks))
            self.decided = self.received


class Answer:
    """The events of an answer in their order, each waiting until its text is decided."""

    __slots__ = ("_arguments", "_channels", "_current", "_mark", "_queue", "_run")

    def __init__(self, run: Run, arguments: Run, mark: Mark) -> None:
        self._run = run
        self._arguments = arguments
        self._mark = mark
        self._channels: dict[tuple[int, str], _Channel] = {}
        self._current: dict[int, _Channel] = {}  # where each choice was last going on
        self._queue: deque[tuple[Event, _Channel | None, int]] = deque()

    async def take(self, event: Event) -> None:
        """One more event from the endpoint."""
        if isinstance(event, Delta):
            await self._text(event)
            return
        if isinstance(event, Reset):  # what is held is void with the rest: it never leaves
            await self.watched()
            for each in (self._queue, self._channels, self._current):
                each.clear()
        if isinstance(event, Opaque) and not event.structural:
            self._run.unscanned("opaque:unsupported", matters=False)
        if isinstance(event, Finish) and event.reason is not None:
            await self.finish(event.choice)
        self._queue.append((event, None, 0))

    async def _text(self, event: Delta) -> None:
        channel = self._channels.get((event.choice, event.channel))
        if channel is None:
            run = self._arguments if event.channel.startswith("tool:") else self._run
            channel = _Channel(run, event.channel, self._mark)
            self._channels[event.choice, event.channel] = channel
        if event.text or event.tool is not None:  # an empty text beside another channel's is no change
            before = self._current.get(event.choice, channel)
            self._current[event.choice] = channel
            if before is not channel:
                await before.finish(whole=False)
        self._queue.append((event, channel, channel.received))
        await channel.push(event.text)

    async def finish(self, choice: int | None = None) -> None:
        """The choice (None: every one) has come to its end."""
        for (number, _), channel in self._channels.items():
            if choice is None or number == choice:
                await channel.finish()

    async def watched(self) -> None:
        """Let those look who only watch: nothing waits for them any more."""
        for channel in self._channels.values():
            found = await channel.watched()
            channel.run.take(decide(found, channel.run.rules))

    def ready(self) -> Iterator[Event]:
        """The events that nothing holds back any more."""
        while self._queue:
            event, channel, start = self._queue[0]
            if isinstance(event, Delta) and channel is not None:
                if start + len(event.text) > channel.decided:
                    return
                self._queue.popleft()
                edited = self._edited(event, channel, start)
                if edited is not None:
                    yield edited
            else:
                self._queue.popleft()
                yield event

    def _edited(self, event: Delta, channel: _Channel, start: int) -> Delta | None:
        end, edits = start + len(event.text), channel.edits
        while edits and edits[0].end <= start:
            edits.popleft()
        if not edits or edits[0].start >= end:
            return event
        if event.logprobs is not None:
            channel.run.note("dropped", f"{channel.run.direction}:logprobs")
        text = apply(event.text, [edit for edit in edits if edit.start < end], start)
        if not text and event.tool is None:
            return None
        return replace(event, text=text, logprobs=None, origin=None)
