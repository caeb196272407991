"""Ctrl-C, SIGTERM or SIGHUP while calls are made: finish them, then drop them, then leave.

SIGTERM is how a CI job that took too long, a container and a pod are told to end, and SIGHUP how a terminal
that is closed says so to what runs in it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from evalkit.files import INTERRUPTED

if TYPE_CHECKING:
    import asyncio

    from evalkit.runner import Control

PATIENCE = 3
"""The signal that leaves, even where the event loop hears of none."""

GRACE = 2.0
"""Seconds in which what is finished is kept when somebody leaves. Longer, nobody waits for a store."""


@contextmanager
def interruptible(
    control: Control, say: Callable[[str], None], leaves: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """The first signal finishes what is in flight, the second drops it; the next is a `KeyboardInterrupt`.

    Only the calls are ended by the second: what is finished is kept, and connections are closed. The third is
    for somebody who will not wait for that: `leaves` is told first (see `leaving`). It leaves too where a
    scorer blocks the event loop, which hears of no signal then; one more ends the process, where the scorer
    catches even that. Outside of this, Ctrl-C is Python's own, and the others do what they did before.
    """
    if sys.platform == "win32":  # Ctrl-C raises KeyboardInterrupt there; stored rows stay
        yield
        return
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may say what signals do
        return
    import asyncio

    heard = _Heard(asyncio.get_running_loop(), control, say, leaves)
    with ExitStack() as afterwards:
        for number in (signal.SIGINT, *_ending()):
            later = signal.signal(number, heard)
            if number == signal.SIGINT:
                later = signal.default_int_handler  # and not that of asyncio, which waits for the loop
            afterwards.callback(signal.signal, number, later)
        yield


@contextmanager
def leaving(
    say: Callable[[], object], *, grace: float = GRACE, end: Callable[[int], object] = os._exit
) -> Iterator[Callable[[], None]]:
    """Gives what is to be called when somebody leaves this block. If it goes on for `grace` seconds after
    that, as where a database does not answer, `say` has the last word, and the process ends."""
    left = threading.Event()

    def watch() -> None:
        if not left.wait(grace):
            with suppress(Exception):
                say()
            end(INTERRUPTED)

    try:
        yield lambda: threading.Thread(target=watch, name="evalkit-leaving", daemon=True).start()
    finally:
        left.set()


@dataclass(slots=True)
class _Heard:
    """Passes signals to the event loop, as its own handlers would, and sees whether they get there."""

    loop: asyncio.AbstractEventLoop
    control: Control
    say: Callable[[str], None]
    leaves: Callable[[], None]
    count: int = 0
    waiting: int = 0

    def __call__(self, number: int, _: FrameType | None) -> None:
        """Runs in the main thread, in between of whatever that does: so it hands over, if it can."""
        self.count += 1
        if self.count > PATIENCE:
            os._exit(INTERRUPTED)
        if self.count == PATIENCE and self.waiting:  # something blocks the loop
            self._leave()
        self.waiting += 1
        self.loop.call_soon_threadsafe(self._act, number)

    def _act(self, number: int) -> None:
        self.waiting -= 1
        if self.control.dropping:
            self._leave()
        if self.control.stopping:
            self.control.drop()
            return
        self.control.stop()
        self.say(_said(signal.Signals(number)))

    def _leave(self) -> NoReturn:
        self.leaves()
        raise KeyboardInterrupt


def _said(number: signal.Signals) -> str:
    if number == signal.SIGINT:
        return "stopping: finishing what is in flight (Ctrl-C again to quit at once)"
    return f"stopping on {number.name}: finishing what is in flight (another one quits at once)"


def _ending() -> Iterator[signal.Signals]:
    """What tells a process to end. A hangup that is ignored stays so: that is what `nohup` is for."""
    yield signal.SIGTERM
    if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        yield signal.SIGHUP


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM and SIGHUP do what Ctrl-C does. By themselves they end a process without a word, or are not
    heard at all: the first process of a container has no default for them."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may say what signals do
        return
    with ExitStack() as afterwards:
        for number in _ending():
            afterwards.callback(signal.signal, number, signal.signal(number, signal.default_int_handler))
        yield
