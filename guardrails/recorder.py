"""How does every call leave exactly one record?

`Record` is the outermost layer. It watches the call to its end, whatever that end is, folds the journal and
hands the record to each sink. A sink that fails is reported in the log, once a minute, with the number of
records lost; it never fails the call.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import threading
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from guardrails.call import Call, Delta, Event, Finish, Reset
from guardrails.errors import ConfigError, GuardrailsError, Rejected
from guardrails.handler import Handler, Stream, opening
from guardrails.record import CallRecord, Meter, Outcome, fold
from guardrails.telling import Tally, whence

if TYPE_CHECKING:
    from guardrails.prices import PriceBook

log = logging.getLogger("guardrails")
Sink = Callable[[CallRecord], None]


@cache
def default_meter(today: date) -> Meter:
    """Counts with `guardrails.tokens`, priced by the packaged snapshot; warns once if that is stale."""
    from guardrails.prices import PriceBook

    book = PriceBook.default()
    book.warn_if_stale(today)
    return meter(book)


def meter(book: PriceBook) -> Meter:
    """A meter over a price list."""
    from guardrails import tokens

    return Meter(
        count=tokens.count, count_prompt=tokens.count_messages, price=book.cost, price_version=book.version
    )


@dataclass(slots=True)
class _Watch:
    """What the recorder saw of a stream."""

    error: BaseException | None = None
    finished: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """Leave one `CallRecord` per call in `call.journal.record`, and give it to every sink."""

    sinks: tuple[Sink, ...] = ()
    meter: Meter | None = field(default=None, repr=False)
    _lost: dict[int, Tally] = field(default_factory=dict, init=False, repr=False, compare=False)

    @opening
    async def __call__(self, call: Call, inner: Handler, /) -> AsyncGenerator[Stream]:
        """Open the inner stream and watch it to its end."""
        watch = _Watch()
        entered = False
        try:
            async with inner(call) as stream:
                entered = True
                watched = _watched(stream, call, watch)
                try:
                    yield watched
                finally:
                    await watched.aclose()
        except BaseException as error:
            # An error of the consumer's own comes through here too: it says nothing about the call.
            if not entered or (isinstance(error, asyncio.CancelledError) and watch.error is None):
                watch.error = error
            raise
        finally:
            self._write(call, watch)

    def _write(self, call: Call, watch: _Watch) -> None:
        outcome, error = _outcome(watch)
        at = call.clock.wall()
        record = fold(
            call,
            self.meter or default_meter(at.date()),
            at=at,
            ended=call.clock.now(),
            outcome=outcome,
            error=error,
        )
        call.journal.record = record
        for sink in self.sinks:
            try:
                sink(record)
            except Exception as error:
                self._failed(sink, error, call.clock.now())

    def _failed(self, sink: Sink, error: Exception, now: float) -> None:
        lost = self._lost.setdefault(id(sink), Tally()).add(now)
        if lost:
            log.warning(
                "a record sink failed (%s: %s): %d record%s lost since this was last said; the calls "
                "themselves are not affected",
                _named(sink),
                _why(error),
                lost,
                " was" if lost == 1 else "s were",
            )


def _named(sink: Sink) -> str:
    """Where it writes to, or what it is called. Somebody else's attributes may do anything."""
    try:
        for each in (getattr(sink, "path", None), getattr(sink, "__name__", None)):
            if isinstance(each, str | PurePath) and str(each):
                return str(each)
    except Exception:
        return type(sink).__name__
    return type(sink).__name__


def _why(error: Exception) -> str:
    """Why it failed, in the system's words or by its place: a sink's own may quote the record."""
    number: object = error.errno if isinstance(error, OSError) else None
    return os.strerror(number) if isinstance(number, int) and number in errno.errorcode else whence(error)


async def _watched(stream: Stream, call: Call, watch: _Watch) -> AsyncGenerator[Event]:
    """Pass every event on; note the first output, the end and the error."""
    try:
        async for event in stream:
            if isinstance(event, Delta) and (event.text or event.tool):
                call.journal.note(call.clock.now(), "released")
                yield event
                break
            watch.finished = watch.finished or isinstance(event, Finish)
            yield event
        async for event in stream:
            if isinstance(event, Finish):
                watch.finished = True
            elif isinstance(event, Reset):
                watch.finished = False
            yield event
    except GeneratorExit:
        raise
    except BaseException as error:
        watch.error = error
        raise


def _outcome(watch: _Watch) -> tuple[Outcome, str | None]:
    error = watch.error
    if error is None:
        return ("complete", None) if watch.finished else ("abandoned", None)
    if isinstance(error, asyncio.CancelledError):
        return "cancelled", None
    if isinstance(error, Rejected):
        return "rejected", error.kind
    if isinstance(error, GuardrailsError):
        return "failed", error.kind
    return "failed", type(error).__name__


class JsonlSink:
    """Append each record as one line of JSON. Several threads may share it; lines never mix."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._lock = threading.Lock()

    def check(self) -> None:
        """Raises `ConfigError` where no record could be written now. Nothing is made and nothing written."""
        try:
            if self.path.is_fifo():
                return  # opening it waits for its reader, who may come later
            if self.path.exists():
                with self.path.open("ab", buffering=0) as file:
                    file.write(b"")  # a full device says so even then
                return
            folder = next(parent for parent in self.path.parents if parent.exists())
            if not folder.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            if not os.access(folder, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        except OSError as error:
            raise ConfigError(
                f"records cannot be written to {self.path}: {(error.strerror or 'no file').lower()}",
                hint="name a file (calls.jsonl) in a folder that this process may write to",
            ) from None

    def __call__(self, record: CallRecord) -> None:
        """Write one record."""
        line = record.as_json() + b"\n"
        with self._lock:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                file.write(line)
