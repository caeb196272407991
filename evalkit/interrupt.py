"""Ctrl-C or SIGTERM while calls are made: finish them, then drop them, then leave.

SIGTERM is how a CI job that took too long, a container and a pod are told to end.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING

from evalkit.files import INTERRUPTED

if TYPE_CHECKING:
    import asyncio

    from evalkit.runner import Control

_SAID = {
    signal.SIGINT: "stopping: finishing what is in flight (Ctrl-C again to quit at once)",
    signal.SIGTERM: "stopping on SIGTERM: finishing what is in flight (another one quits at once)",
}

PATIENCE = 3
"""The signal that leaves, even where the event loop hears of none."""


@contextmanager
def interruptible(control: Control, say: Callable[[str], None]) -> Iterator[None]:
    """The first signal finishes what is in flight, the second drops it; the next is a `KeyboardInterrupt`.

    Only the calls are ended by the second: what is finished is kept, and connections are closed. The third is
    for somebody who will not wait for that. It leaves too where a scorer blocks the event loop, which hears
    of no signal then; where the scorer catches even that, one more ends the process. Outside of this, Ctrl-C
    is Python's own, and SIGTERM does what it did before.
    """
    if sys.platform == "win32":  # Ctrl-C raises KeyboardInterrupt there; stored rows stay
        yield
        return
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may say what signals do
        return
    import asyncio

    heard = _Heard(asyncio.get_running_loop(), control, say)
    with ExitStack() as afterwards:
        for number, later in (
            (signal.SIGINT, signal.default_int_handler),  # and not that of asyncio, which waits for the loop
            (signal.SIGTERM, signal.getsignal(signal.SIGTERM)),
        ):
            signal.signal(number, heard)
            afterwards.callback(signal.signal, number, later)
        yield


@dataclass(slots=True)
class _Heard:
    """Passes signals to the event loop, as its own handlers would, and sees whether they get there."""

    loop: asyncio.AbstractEventLoop
    control: Control
    say: Callable[[str], None]
    count: int = 0
    waiting: int = 0

    def __call__(self, number: int, _: FrameType | None) -> None:
        """Runs in the main thread, in between of whatever that does: so it hands over, if it can."""
        self.count += 1
        if self.count >= PATIENCE and self.waiting:  # something blocks the loop
            if self.count > PATIENCE:  # and has swallowed the interrupt
                os._exit(INTERRUPTED)
            raise KeyboardInterrupt
        self.waiting += 1
        self.loop.call_soon_threadsafe(self._act, number)

    def _act(self, number: int) -> None:
        self.waiting -= 1
        if self.control.dropping:
            raise KeyboardInterrupt
        if self.control.stopping:
            self.control.drop()
            return
        self.control.stop()
        self.say(_SAID[signal.Signals(number)])


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM do what Ctrl-C does. By itself it ends a process without a word, or is not heard at all:
    the first process of a container has no default for it."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may say what signals do
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
