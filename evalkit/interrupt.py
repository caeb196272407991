"""Ctrl-C or SIGTERM while calls are made: finish them, then drop them, then leave.

SIGTERM is how a CI job that took too long, a container and a pod are told to end.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evalkit.runner import Control

_SAID = {
    signal.SIGINT: "stopping: finishing what is in flight (Ctrl-C again to quit at once)",
    signal.SIGTERM: "stopping on SIGTERM: finishing what is in flight (another one quits at once)",
}


@contextmanager
def interruptible(control: Control, say: Callable[[str], None]) -> Iterator[None]:
    """The first signal finishes what is in flight, the second drops it; the next is a `KeyboardInterrupt`.

    Only the calls are ended by the second: what is finished is kept, and connections are closed. The third is
    for somebody who will not wait for that. Outside of this, Ctrl-C is Python's own, and SIGTERM does what it
    did before.
    """
    import asyncio

    def interrupt(number: signal.Signals) -> None:
        if control.dropping:
            raise KeyboardInterrupt
        if control.stopping:
            control.drop()
            return
        control.stop()
        say(_SAID[number])

    loop = asyncio.get_running_loop()
    with ExitStack() as afterwards:
        for number in _SAID:
            before = signal.getsignal(number)
            try:
                loop.add_signal_handler(number, interrupt, number)
            except NotImplementedError:  # Windows: Ctrl-C raises KeyboardInterrupt there; stored rows stay
                break
            if number == signal.SIGTERM:
                afterwards.callback(signal.signal, number, before)
            afterwards.callback(loop.remove_signal_handler, number)
        yield


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
