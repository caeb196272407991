"""The two layers that filter: what is asked on its way in, what is answered on its way out.

Both fail closed: a detector that breaks blocks the call, unless `on_error="pass_and_flag"` says that it may
pass with a `not_scanned` in its record. Errors, notes and logs name kinds, scores and places in the code,
never a piece of the text; an exception from a detector is not chained for the same reason.

Short texts are scanned right in the event loop: up to 500 characters a thread's round trip (0.05 ms) costs
as much as looking for personal data where there is none (0.08 ms; 1.4 ms with some, 20 ms if there is
nothing else). Longer ones, and a layer's first one, for which detectors load what they need, go to a thread.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Literal, TypeVar

from guardrails.call import Call, Delta, Event, Finish, Opaque, Request
from guardrails.errors import Blocked, ConfigError
from guardrails.filters.detector import Detector, Edit, Finding, Mark, apply, named
from guardrails.filters.surfaces import is_json, json_edits, rewrite, unscanned
from guardrails.filters.window import Window, scan
from guardrails.handler import Handler, Stream

Direction = Literal["input", "output"]
Action = Literal["redact", "block"]
OnError = Literal["block", "pass_and_flag"]

_INLINE = 500  # characters to look at
_LOOKS = 6  # how often a window looks at each, about

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Settings:
    """What both layers are told.

    `action`: put `mark(finding)` in a finding's place, or raise `Blocked`. `on_error`: what to do when a
    detector raises.
    """

    detectors: Sequence[Detector]
    action: Action = "redact"
    on_error: OnError = "block"
    mark: Mark = named
    _loaded: threading.Event = field(default_factory=threading.Event, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.detectors:
            raise ConfigError("filters: no detectors", hint="give at least one, such as Pii(), or no filter")


@dataclass(frozen=True, slots=True)
class InputFilters(_Settings):
    """Scans what is asked, before anything is sent.

    Every text of the request is looked at (`guardrails.filters.surfaces` lists them), each by itself: what is
    spread over two parts of a message is not found. Images, schemas of tools and a vendor's own parts and
    fields are not looked at; they pass with a `not_scanned` note.
    """

    @asynccontextmanager
    async def __call__(self, call: Call, inner: Handler, /) -> AsyncGenerator[Stream]:
        """Open `inner` with the filtered request. Raises `Blocked` before anything is sent."""
        run = _Run(self, call, "input")
        request = await self._filtered(run, call.request)
        run.scanned(unscanned(request))
        run.raise_if_blocked()
        async with inner(call if request is call.request else call.with_request(request)) as stream:
            yield stream

    async def _filtered(self, run: _Run, request: Request) -> Request:
        sizes: list[int] = []

        def measure(text: str) -> str:
            sizes.append(len(text))
            return text

        rewrite(request, measure, measure)
        found: list[Finding] = []

        def text(old: str) -> str:
            findings = run.scan(old)
            found.extend(findings)
            return apply(old, [Edit(f.start, f.end, self.mark(f)) for f in findings])

        def arguments(old: str) -> str:
            edits, findings = json_edits(old, run.scan, self.mark)
            found.extend(findings)
            return apply(old, edits)

        new = await run.somewhere(sum(sizes), lambda: rewrite(request, text, arguments))
        run.found(found)
        return new


@dataclass(frozen=True, slots=True)
class OutputFilters(_Settings):
    """Scans the answer while it streams: nothing leaves before it is certain that no finding reaches into it.

    - Events keep their order. Text waits in its `Window` (about 100 characters), and what came after it
      waits behind it. A delta without a finding passes as the object that it is; of one with a finding the
      log-probabilities and the vendor's chunk (think of its token ids) are dropped: they spell the text.
    - A channel (text, reasoning, refusal) is at its end when its choice finishes or goes on in another
      channel. If it then goes on after all, a finding across that seam is removed from the seam on only.
    - A tool call's arguments wait until they are whole, since only then can they be read as JSON; nobody can
      act on half of them. The head of the call waits for nothing but the text before it.
    - A stream that breaks, is left or is blocked releases nothing more.
    """

    @asynccontextmanager
    async def __call__(self, call: Call, inner: Handler, /) -> AsyncGenerator[Stream]:
        """Open `inner` and yield its filtered stream, which may raise `Blocked` at any event."""
        async with inner(call) as stream, aclosing(self._filtered(call, stream)) as filtered:
            yield filtered

    async def _filtered(self, call: Call, stream: Stream) -> AsyncGenerator[Event]:
        run = _Run(self, call, "output")
        answer = _Answer(run)
        async for event in stream:
            await answer.take(event)
            for ready in answer.ready():
                yield ready
            run.raise_if_blocked()
        await answer.finish()
        for ready in answer.ready():
            yield ready
        run.raise_if_blocked()
        run.scanned(answer.unscanned)


class _Run:
    """One direction of one call: runs the detectors, and writes down what came of it."""

    __slots__ = ("_broken", "_call", "_direction", "_findings", "reach", "settings")

    def __init__(self, settings: _Settings, call: Call, direction: Direction) -> None:
        self.settings = settings
        self.reach = max(detector.reach for detector in settings.detectors)
        self._call = call
        self._direction = direction
        self._broken: set[str] = set()
        self._findings: list[Finding] = []

    def detect(self, text: str) -> list[Finding]:
        """What all detectors find. Raises `Blocked` when one breaks and may not."""
        out: list[Finding] = []
        for detector in self.settings.detectors:
            try:
                out += detector.detect(text)
                continue
            except Exception as error:
                failure = self._failure(detector, error)
            if self.settings.on_error == "block":
                raise failure  # outside of the handler: the text may be in the exception that was handled
            self._broken.add(detector.name)
        self.settings._loaded.set()
        return out

    def scan(self, text: str) -> list[Finding]:
        """The findings of a whole text."""
        return scan(text, self.detect, self.reach)

    async def somewhere(self, size: int, work: Callable[[], T]) -> T:
        """Do the work here, or in a thread when it is long."""
        if size <= _INLINE and (self.settings._loaded.is_set() or not size):
            return work()
        return await asyncio.to_thread(work)

    def found(self, findings: list[Finding]) -> bool:
        """Write the findings down; True when they block the call."""
        action = self.settings.action
        for finding in findings:
            self._note("finding", (self._direction, finding.kind, finding.score, action))
        if action == "block":
            self._findings += findings
        return bool(self._findings)

    def raise_if_blocked(self) -> None:
        """Raise `Blocked` for what was found so far."""
        if self._findings:
            kinds = ", ".join(sorted({finding.kind for finding in self._findings}))
            raise Blocked(
                f"the {self._direction} holds {kinds}",
                hint="take it out of the prompt"
                if self._direction == "input"
                else "ask for an answer without it",
                direction=self._direction,
                findings=tuple((finding.kind, finding.score) for finding in self._findings),
            )

    def scanned(self, but_for: list[str]) -> None:
        """Write down that the direction was scanned, and what of it was not."""
        for name in (*but_for, *sorted(self._broken)):
            self._note("not_scanned", f"{self._direction}:{name}")
        if not self._broken:
            self._note("scanned", self._direction)

    def note_dropped(self, what: str) -> None:
        """Write down that something had to go together with a finding."""
        self._note("dropped", f"{self._direction}:{what}")

    def _note(self, what: str, detail: object) -> None:
        self._call.journal.note(self._call.clock.now(), what, detail)

    def _failure(self, detector: Detector, error: Exception) -> Blocked:
        frame = error.__traceback__
        while frame is not None and frame.tb_next is not None:
            frame = frame.tb_next
        place = f"{PurePath(frame.tb_frame.f_code.co_filename).name}:{frame.tb_lineno}" if frame else "?"
        return Blocked(
            f"the detector {detector.name!r} broke on the {self._direction} "
            f"({type(error).__name__} at {place})",
            kind="filter_failed",
            hint='set on_error to "pass_and_flag" to let such calls pass unscanned, marked in their record',
            direction=self._direction,
        )


class _Channel:
    """The text of one channel of one choice: how much of it may leave, and with which edits."""

    __slots__ = ("_held", "_run", "_window", "decided", "edits", "received")

    def __init__(self, run: _Run, is_tool: bool) -> None:
        self._run = run
        self._window = None if is_tool else Window(run.detect, run.reach)
        self._held: list[str] = []  # a tool call's arguments
        self.received = 0
        self.decided = 0
        self.edits: deque[Edit] = deque()

    async def push(self, text: str) -> None:
        self.received += len(text)
        window = self._window
        if window is None:
            self._held.append(text)
        else:
            findings = await self._run.somewhere(len(text) * _LOOKS, lambda: window.push(text))
            self._decide(findings, window.decided)

    async def finish(self, whole: bool = True) -> None:
        """Decide the rest. Unless it is `whole`, arguments that are not yet JSON go on waiting."""
        size, window = self.received - self.decided, self._window
        if not size:
            return
        if window is not None:
            self._decide(await self._run.somewhere(size, window.finish), window.decided)
            return
        text = "".join(self._held)
        if not whole and not is_json(text):
            return
        self._held.clear()
        run, start = self._run, self.decided
        edits, findings = await run.somewhere(size, lambda: json_edits(text, run.scan, run.settings.mark))
        if not run.found(findings):
            self.edits.extend(Edit(e.start + start, e.end + start, e.text) for e in edits)
            self.decided = self.received

    def _decide(self, findings: list[Finding], decided: int) -> None:
        if self._run.found(findings):
            # Blocked: what was before the first of them may still leave.
            self.decided = max(self.decided, findings[0].start if findings else 0)
            return
        mark = self._run.settings.mark
        self.edits.extend(Edit(f.start, f.end, mark(f)) for f in findings)
        self.decided = decided


class _Answer:
    """The events of an answer in their order, each waiting until its text is decided."""

    __slots__ = ("_channels", "_current", "_queue", "_run", "unscanned")

    def __init__(self, run: _Run) -> None:
        self._run = run
        self._channels: dict[tuple[int, str], _Channel] = {}
        self._current: dict[int, _Channel] = {}  # where each choice was last going on
        self._queue: deque[tuple[Event, _Channel | None, int]] = deque()
        self.unscanned: list[str] = []

    async def take(self, event: Event) -> None:
        """One more event from the endpoint."""
        if isinstance(event, Delta):
            await self._text(event)
            return
        if isinstance(event, Opaque) and not event.structural and "opaque" not in self.unscanned:
            self.unscanned.append("opaque")
        if isinstance(event, Finish) and event.reason is not None:
            await self.finish(event.choice)
        self._queue.append((event, None, 0))

    async def _text(self, event: Delta) -> None:
        is_tool = event.channel.startswith("tool:")
        channel = self._channels.get((event.choice, event.channel))
        if channel is None:
            channel = self._channels[event.choice, event.channel] = _Channel(self._run, is_tool)
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

    def ready(self) -> Iterator[Event]:
        """The events that nothing holds back any more."""
        while self._queue:
            event, channel, start = self._queue[0]
            if isinstance(event, Delta) and channel is not None:
                if start + len(event.text) > channel.decided:
                    return
                self._queue.popleft()
                edited = self._edited(event, channel.edits, start)
                if edited is not None:
                    yield edited
            else:
                self._queue.popleft()
                yield event

    def _edited(self, event: Delta, edits: deque[Edit], start: int) -> Delta | None:
        end = start + len(event.text)
        while edits and edits[0].end <= start:
            edits.popleft()
        if not edits or edits[0].start >= end:
            return event
        if event.logprobs is not None:
            self._run.note_dropped("logprobs")
        text = apply(event.text, [edit for edit in edits if edit.start < end], start)
        if not text and event.tool is None:
            return None
        return replace(event, text=text, logprobs=None, origin=None)
