"""Ctrl-C while calls are made: finish them, then drop them, then leave."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from evalkit.runner import Control


@contextmanager
def interruptible(control: Control, say: Callable[[str], None]) -> Iterator[None]:
    """The first Ctrl-C finishes what is in flight, the second drops it; the next is a `KeyboardInterrupt`.

    Only the calls are ended by the second: what is finished is kept, and connections are closed. The third is
    for somebody who will not wait for that. Outside of this, Ctrl-C is Python's own.
    """

    def interrupt() -> None:
        if control.dropping:
            raise KeyboardInterrupt
        if control.stopping:
            control.drop()
            return
        control.stop()
        say("stopping: finishing what is in flight (Ctrl-C again to quit at once)")

    loop = asyncio.get_running_loop()
    try:
        loop.add_signal_handler(signal.SIGINT, interrupt)
    except NotImplementedError:  # Windows: Ctrl-C raises KeyboardInterrupt there; stored rows stay
        yield
        return
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)
