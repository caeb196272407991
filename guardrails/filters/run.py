"""One direction of one call: asks the detectors of its rules, and writes down what came of it.

Detectors that only compute run one after another, the strictest rule's first: up to 500 characters right in
the event loop (a thread's round trip costs 0.05 ms, as much as looking for personal data where there is
none), longer texts and a layer's first one, for which detectors load what they need, in a thread. Those with
a time budget have a thread each, those that wait for somebody else a task each, all at once; a finding that
stops the call cancels what still runs. A thread cannot be cancelled: its answer is not waited for any more.

What was not looked at is never written down as if it had been. Errors, notes and logs name kinds, scores and
places in the code, never a piece of the text; an exception from a detector is not chained for that reason.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import Any, Literal, TypeVar

from guardrails import telling
from guardrails.call import Call
from guardrails.clock import Expired, Watchdog
from guardrails.errors import Blocked
from guardrails.filters.detector import AsyncDetector, Detector, Finding, Reading
from guardrails.filters.memory import Memory
from guardrails.filters.policy import Direction, Pseudonyms, Rule, Rules, Verdict
from guardrails.filters.window import scan

INLINE = 500  # characters to look at

T = TypeVar("T")
Look = Callable[[Detector, str, Reading], list[Finding]]
Reason = Literal["crash", "budget"]


def at_once(detector: Detector, text: str, reading: Reading) -> list[Finding]:
    """Look at a piece of a text."""
    return reading.detect(detector, text)


def part_by_part(detector: Detector, text: str, reading: Reading) -> list[Finding]:
    """Look for places in a text that is there as a whole."""
    hidden = getattr(detector, "hidden", None)
    return scan(text, partial(reading.detect, detector), detector.reach, hidden)


def examine(rule: Rule) -> Look:
    """How the detectors of a rule look at a text that is there as a whole."""
    return at_once if rule.judges else part_by_part


class Run:
    """Asks the rules of one direction during one call. `loaded` is shared by the calls of one layer."""

    def __init__(self, call: Call, direction: Direction, rules: Rules, loaded: threading.Event) -> None:
        self.rules = rules
        self.vault: Pseudonyms | None = None
        self._call = call
        self.direction = direction
        self._loaded = loaded
        self._stops: list[Finding] = []
        self._again: int | None = None
        self._unscanned: dict[str, bool] = {}  # what, and whether it means that the direction was not scanned

    # --- looking ---------------------------------------------------------------------------------------

    def look(self, rules: Iterable[Rule], text: str, how: Look | None = None) -> list[Finding]:
        """What the rules' detectors find, one after another, in this thread."""
        found: list[Finding] = []
        reading = Reading()
        for rule in rules:
            look = how or examine(rule)
            try:
                found += rule.select(look(rule.detector, text, reading))  # type: ignore[arg-type] # no waiting
                self._read(rule, reading)
                continue
            except Exception as error:
                name, place = type(error).__name__, telling.place(error)
            # Outside of the handler: the text may be in the exception that was handled.
            found += self._instead(rule, "crash", name, place, look, text)
        self._loaded.set()
        return found

    def literals(self, text: str) -> list[Finding]:
        """What in a prompt could be misread as one of the vault's tokens, for a rule that makes such."""
        rule = next((rule for rule in self.rules.acting if rule.action == "pseudonymize"), None)
        if self.vault is None or rule is None:
            return []
        return [Finding(f.kind, f.start, f.end, f.score, rule.name) for f in self.vault.literals(text)]

    def spared(self, text: str, found: list[Finding]) -> list[Finding]:
        """The findings but for those in tokens of the conversation's vault."""
        return found if self.vault is None or not found else self.vault.spare(text, found)

    async def ask(self, rules: Sequence[Rule], text: str, how: Look | None = None) -> list[Finding]:
        """What the rules' detectors find, all at once; those that only compute in one go."""
        here = [rule for rule in rules if not self.is_away(rule)]
        works = [self._away(rule, text, how) for rule in rules if self.is_away(rule)]
        if here:
            works.insert(0, self.somewhere(len(text), lambda: self.look(here, text, how)))
        return self.spared(text, [f for found in await together(works, self.stops) for f in found])

    async def whole(
        self, texts: Iterable[str], rules: Sequence[Rule], memory: Memory | None = None
    ) -> dict[str, list[Finding]]:
        """What is found in each of the texts. With a memory, only in those that are new."""
        about = "\0".join([self.direction, *(rule.name for rule in rules)])
        found: dict[str, list[Finding]] = {}
        new = []
        for text in dict.fromkeys(texts):
            known = None if memory is None else memory.get(text, about)
            found[text] = list(known or ())
            if known is None:
                new.append(text)
        here = [rule for rule in rules if not self.is_away(rule)]
        works = [self._one_by_one(rule, new) for rule in rules if self.is_away(rule)]
        if here and new:
            works.insert(0, self.somewhere(sum(map(len, new)), lambda: [self.look(here, t) for t in new]))
        failures = len(self._unscanned)
        results = await together(works if new else _closed(works), lambda rows: any(map(self.stops, rows)))
        for rows in results:
            for text, row in zip(new, rows, strict=True):
                found[text] += row
        if memory is not None and len(results) == len(works) and len(self._unscanned) == failures:
            for text in new:
                memory.put(text, about, found[text])
        return {text: self.spared(text, row) for text, row in found.items()}

    def is_away(self, rule: Rule) -> bool:
        """Whether the rule's detector is not asked in line with the others."""
        return rule.budget_ms is not None or rule.waits

    def stops(self, findings: Iterable[Finding]) -> bool:
        """Whether one of the findings ends the call."""
        return any(self.rules.rule(finding).stops for finding in findings)

    async def somewhere(self, size: int, work: Callable[[], T]) -> T:
        """Do the work here, or in a thread when it is long."""
        if size <= INLINE and (self._loaded.is_set() or not size):
            return work()
        return await asyncio.to_thread(work)

    async def _one_by_one(self, rule: Rule, texts: Sequence[str]) -> list[list[Finding]]:
        return [await self._away(rule, text) for text in texts]

    async def _away(self, rule: Rule, text: str, how: Look | None = None) -> list[Finding]:
        look = how or examine(rule)
        watchdog, reading = Watchdog(self._call.clock), Reading()
        reason: Reason = "crash"
        try:
            with watchdog.limit("budget", None if rule.budget_ms is None else rule.budget_ms / 1e3):
                found = rule.select(await _asked(rule.detector, look, text, reading))
                self._read(rule, reading)
                return found
        except Expired:
            reason, name, place = "budget", f"{rule.budget_ms:g} ms", ""
        except Exception as error:
            name, place = type(error).__name__, telling.place(error)
        finally:
            watchdog.close()
        size = 0 if isinstance(self._otherwise(rule, reason), str) else len(text)
        return await self.somewhere(size, lambda: self._instead(rule, reason, name, place, look, text))

    # --- when a detector fails -------------------------------------------------------------------------

    def _otherwise(self, rule: Rule, reason: Reason) -> str | Detector:
        return rule.on_exceeded if reason == "budget" else rule.on_crash

    def _instead(
        self, rule: Rule, reason: Reason, name: str, place: str, look: Look, text: str
    ) -> list[Finding]:
        """What the policy says for a detector that broke or took too long. Raises `Blocked` if it says so."""
        otherwise = self._otherwise(rule, reason)
        if isinstance(otherwise, str) or not rule.acts:
            if otherwise == "block" and rule.acts:
                raise self._failed(rule.name, reason, name, place)
            self.unscanned(f"{rule.name}:{reason}", matters=not rule.shadow)
            return []
        try:
            found = rule.select(look(otherwise, text, Reading()))
        except Exception as error:
            name, place = type(error).__name__, telling.place(error)
        else:
            self.unscanned(f"{rule.name}:{reason}:{otherwise.name} instead", matters=False)
            return found
        raise self._failed(otherwise.name, "crash", name, place)

    def _failed(self, detector: str, reason: Reason, name: str, place: str) -> Blocked:
        if reason == "budget":
            what, option = f"took longer than its budget of {name} on", "on_exceeded"
        else:
            what, option = "broke on", "on_crash"
            name = f" ({name} at {place})"
        return Blocked(
            f"the detector {detector!r} {what} the {_words(self.direction)}" + (name if place else ""),
            kind="filter_failed",
            hint=f'set {option} to "pass_and_flag" to let such calls pass unscanned, marked in their record',
            direction=self.direction,
        )

    # --- writing down ----------------------------------------------------------------------------------

    def take(self, verdict: Verdict) -> bool:
        """Write the verdict's findings down; True when they end the call."""
        for finding in (*verdict.stops, *verdict.changes, *verdict.watched):
            rule = self.rules.rule(finding)
            self.note("finding", (self.direction, finding.kind, finding.score, rule.action, rule.shadow))
        if verdict.stops:
            self._stops += verdict.stops
            self._again = verdict.again if self._again is None else min(self._again, verdict.again)
        return bool(self._stops)

    def raise_if_blocked(self) -> None:
        """Raise `Blocked` for what was found so far, or `Again`."""
        if not self._stops:
            return
        kinds = ", ".join(sorted({finding.kind for finding in self._stops}))
        is_input = self.direction in ("input", "tool_results")
        error = Blocked(
            f"the {_words(self.direction)} {'hold' if self.direction.endswith('s') else 'holds'} {kinds}",
            hint="take it out of the prompt" if is_input else "ask for an answer without it",
            direction=self.direction,
            findings=tuple((finding.kind, finding.score) for finding in self._stops),
        )
        raise Again(error, self._again) if self._again else error

    def unscanned(self, what: str, *, matters: bool = True) -> None:
        """Something was not looked at; it `matters` when the direction cannot be called scanned for it."""
        self._unscanned[what] = self._unscanned.get(what, False) or matters

    def _read(self, rule: Rule, reading: Reading) -> None:
        if reading.unread:
            self.unscanned(f"{rule.name}:encoded too deeply", matters=False)
            reading.unread = False

    def finish(self) -> None:
        """Write down that the direction was scanned, and what of it was not."""
        for what in sorted(self._unscanned):
            self.note("not_scanned", f"{self.direction}:{what}")
        if self.rules.rules and not any(self._unscanned.values()):
            self.note("scanned", self.direction)

    def note(self, what: str, detail: object) -> None:
        """A line in the call's journal."""
        self._call.journal.note(self._call.clock.now(), what, detail)


class Again(Exception):
    """This answer is `blocked`, but the model may be asked for another one, so many `times` in all."""

    def __init__(self, blocked: Blocked, times: int) -> None:
        super().__init__(blocked, times)
        self.blocked = blocked
        self.times = times


async def together(works: Sequence[Coroutine[Any, Any, T]], enough: Callable[[T], bool]) -> list[T]:
    """All results, in order; fewer when one of them is `enough`. What still runs then is cancelled."""
    if len(works) == 1:
        return [await works[0]]
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        pending = set(tasks)
        while pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            if any(enough(task.result()) for task in done):
                break
        return [task.result() for task in tasks if task.done()]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _closed(works: Sequence[Coroutine[Any, Any, T]]) -> list[Coroutine[Any, Any, T]]:
    for work in works:
        work.close()
    return []


def _asked(
    detector: Detector | AsyncDetector, look: Look, text: str, reading: Reading
) -> Coroutine[Any, Any, list[Finding]]:
    if inspect.iscoroutinefunction(detector.detect):
        return detector.detect(text)
    return asyncio.to_thread(look, detector, text, reading)  # type: ignore[arg-type] # it does not wait


def _words(direction: Direction) -> str:
    return direction.replace("_", " ")
