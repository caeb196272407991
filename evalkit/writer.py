"""Rows on their way to the store: many at once, off the event loop.

Whoever brings a row waits until it is kept, together with all who brought one in the meantime: so a row costs
a share of a transaction, and a kill loses calls that were under way and nothing that was finished before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Self

from evalkit.stores import Store
from evalkit.trial import Trial


@dataclass(slots=True)
class Writer:
    """Hands rows to `store` in batches; each row goes to `seen` once it is kept.

    Use it as an async context manager: leaving it keeps what is waiting, unless the store failed. Raises what
    the store or `seen` raised, to the next one who adds a row or leaves; rows that come after `seen` raised
    are kept and not shown to it.
    """

    store: Store
    seen: Callable[[Trial], None] = lambda trial: None
    _rows: list[Trial] = field(default_factory=list)
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _kept: asyncio.Event = field(default_factory=asyncio.Event)
    _closing: bool = False
    _error: Exception | None = None
    _task: asyncio.Task[None] | None = None

    async def add(self, trial: Trial) -> None:
        """Keep a row. It is kept too if whoever waits here is cancelled."""
        if self._task is None or not self._task.done():  # kept even after `seen` raised: it was paid for
            self._rows.append(trial)
            self._news.set()
            await self._kept.wait()
        if self._error is not None:
            raise self._error

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._work())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None, "the writer was entered"
        self._closing = True
        self._news.set()
        # A second Ctrl-C cancels whoever waits here; what is finished is kept all the same.
        await asyncio.shield(self._task)
        if self._error is not None:
            raise self._error

    async def _work(self) -> None:
        kept = self._kept
        try:
            while not self._closing or self._rows:
                await self._news.wait()
                self._news.clear()
                batch, kept = self._rows, self._kept
                self._rows, self._kept = [], asyncio.Event()
                if batch:
                    await asyncio.to_thread(self.store.append, batch)
                    self._tell(batch)
                    kept.set()
                if self._closing:
                    self._news.set()
        except Exception as error:
            self._error = error
        finally:
            kept.set()
            self._kept.set()

    def _tell(self, batch: Sequence[Trial]) -> None:
        if self._error is not None:
            return
        try:
            for trial in batch:
                self.seen(trial)
        except Exception as error:
            self._error = error
