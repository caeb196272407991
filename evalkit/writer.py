"""Rows on their way to the store: many at once, off the event loop.

Whoever brings a row waits until it is kept, together with all who brought one in the meantime: so a row costs
a share of a transaction, and a kill loses calls that were under way and nothing that was finished before. The
store has a thread of its own here, which is handed the next rows as soon as it has kept the last. There a
store that is away, such as a server that begins anew, is waited for: what rows cost is paid already.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from time import sleep
from typing import Self

from evalkit.stores import Run, Store, Unreachable
from evalkit.trial import Trial
from guardrails.clock import Clock
from guardrails.errors import GuardrailsError
from guardrails.record import total

PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0)
"""Seconds after which a store that cannot be reached is tried again, half a minute in all."""


async def write_end(store: Store, run: Run, clock: Clock) -> None:
    """Write down how a run ended; as for rows, a store that is away is waited for."""
    for seconds in PAUSES:
        try:
            await asyncio.to_thread(store.update, run)
        except Unreachable:
            await clock.sleep(seconds)
        else:
            return
    await asyncio.to_thread(store.update, run)


@dataclass(slots=True)
class Writer:
    """Hands rows to `store` in batches; each row goes to `seen` once it is kept.

    Use it as an async context manager: leaving it keeps what is waiting, unless the store failed. Raises what
    the store or `seen` raised, to the next one who adds a row or leaves; rows that come after `seen` raised
    are kept and not shown to it.
    """

    store: Store
    seen: Callable[[Trial], None] = lambda trial: None
    pause: Callable[[float], object] = sleep
    _thread: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(1, "evalkit-writer"), repr=False
    )
    _rows: list[Trial] = field(default_factory=list)
    _kept: asyncio.Event = field(default_factory=asyncio.Event)
    _idle: asyncio.Event = field(default_factory=asyncio.Event)
    _refuses: bool = False
    _error: BaseException | None = None

    async def add(self, trial: Trial) -> None:
        """Keep a row. It is kept too if whoever waits here is cancelled."""
        if not self._refuses:  # kept even after `seen` raised: it was paid for
            self._rows.append(trial)
            kept = self._kept
            if self._idle.is_set():
                self._hand_over()
            await kept.wait()
        if self._error is not None:
            raise self._error

    async def __aenter__(self) -> Self:
        self._idle.set()
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await self._idle.wait()
        finally:
            # A second Ctrl-C cancels whoever waits here: what is finished is kept all the same, and before
            # anybody else may write the run.
            rows, self._rows = self._rows, []
            if rows and not self._refuses:
                self._thread.submit(self._append, rows)
            self._thread.shutdown(wait=True)
        if self._error is not None:
            raise self._error

    def _hand_over(self) -> None:
        batch, kept = self._rows, self._kept
        self._rows, self._kept = [], asyncio.Event()
        self._idle.clear()
        loop = asyncio.get_running_loop()

        def done(future: Future[None]) -> None:
            with suppress(RuntimeError):  # the loop was closed: nobody waits any more
                loop.call_soon_threadsafe(self._handed_over, batch, kept, future.exception())

        try:
            self._thread.submit(self._append, batch).add_done_callback(done)
        except RuntimeError as error:  # no thread can be started
            self._refuse(error, batch)
            kept.set()

    def _append(self, batch: list[Trial]) -> None:
        for seconds in PAUSES:
            try:
                self.store.append(batch)
            except Unreachable:
                self.pause(seconds)
            else:
                return
        self.store.append(batch)

    def _handed_over(self, batch: list[Trial], kept: asyncio.Event, error: BaseException | None) -> None:
        try:
            if error is not None:
                self._refuse(error, batch)
                return
            if self._rows:
                self._hand_over()  # first of all: the store works while these are shown
            else:
                self._idle.set()
            self._tell(batch)
        finally:
            kept.set()

    def _refuse(self, error: BaseException, batch: list[Trial]) -> None:
        if isinstance(error, GuardrailsError):
            error.add(_lost(batch + self._rows))
        self._error, self._refuses = error, True
        self._kept.set()
        self._idle.set()

    def _tell(self, batch: list[Trial]) -> None:
        if self._error is not None:
            return
        try:
            for trial in batch:
                self.seen(trial)
        except BaseException as error:  # such as that of a test that fails: it is raised where rows come from
            self._error = error


def _lost(rows: list[Trial]) -> str:
    """What it means that rows cannot be kept: a run that goes on does not know of them."""
    from evalkit import words

    paid = total(row.known_usd for row in rows)
    cost = f", for which {words.usd(float(paid))} was paid" if paid else ""
    return f"{words.count(len(rows), 'row')} could not be kept{cost}"
