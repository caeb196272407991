"""Calling a function that somebody else wrote: with a limit of time, and whatever it raises.

A plain function gets a thread of its own that no process waits for at its end: one that never returns cannot
be stopped, only left behind. An async one runs on the event loop, in a task of its own. Where it blocks the
loop, nothing else runs, the limit included: what may block belongs into a plain function.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from typing import Any

from guardrails.clock import SYSTEM, Clock, Expired, Watchdog
from guardrails.telling import whence

Function = Callable[..., Any]

TIMEOUT = 120.0
"""Seconds that a function has for one answer, as long as one call of a judge that asks a model."""

AT_ONCE = min(32, (os.cpu_count() or 1) + 4)
"""So many plain functions run at once, those left behind not counted: as many as `asyncio.to_thread` has."""

LEFT_BEHIND = 32
"""So many functions may run on after their time before no other is called: threads that never end add up."""


class Overdue(Exception):
    """A function did not return in its time. The message quotes nothing."""


class Raised(Exception):
    """What a function raised that is no `Exception`: a `KeyboardInterrupt` in a thread, a `CancelledError`.

    As it is it would end the run, or the row without a word, though nobody interrupted or cancelled anything.
    """

    def __init__(self, error: BaseException) -> None:
        super().__init__(type(error).__name__)
        self.error = error


def cause(error: BaseException) -> BaseException:
    """What the function itself raised, for what `called` raised."""
    return error.error if isinstance(error, Raised) else error


def blamed(error: BaseException) -> str:
    """The type and the place of what a function raised; never its message, which may quote the answer."""
    return whence(cause(error))


def ending() -> bool:
    """Whether the running task is being cancelled. If not, a `CancelledError` in it is somebody's mistake."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def called(function: Function, *arguments: Any, within: float = TIMEOUT, clock: Clock = SYSTEM) -> Any:
    """What the function gives: awaited when it is async, from a thread when it is not.

    Raises what the function raises, as `Raised` where that is no `Exception`, and `Overdue` when it takes
    longer than `within` seconds.
    """
    is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - an object's async `__call__` is what is asked for
    )
    if is_async:
        return _unpacked(await _limited(_awaited(function, arguments), within, clock))
    async with _turn():
        result = _unpacked(await _limited(_threaded(function, arguments), within, clock))
    if inspect.isawaitable(result):
        return _unpacked(await _limited(_awaited(lambda: result, ()), within, clock))
    return result


Outcome = tuple[Any, BaseException | None]


def _unpacked(outcome: Outcome) -> Any:
    result, error = outcome
    if error is None:
        return result
    raise error if isinstance(error, Exception) else Raised(error)


async def _limited(work: Coroutine[Any, Any, Outcome], within: float, clock: Clock) -> Outcome:
    # A task of its own, because code that catches every exception would swallow the cancellation of this one.
    task = asyncio.ensure_future(work)
    watchdog = Watchdog(clock)
    try:
        with watchdog.limit("timeout", within):
            await asyncio.wait({task})
    except Expired:
        # One that swallows its cancellation would be waited for at the end of `asyncio.run`, for ever.
        asyncio.tasks._unregister_task(task)
        raise Overdue(f"the function did not return in {within:g} s") from None
    finally:
        watchdog.close()
        if not task.done():
            task.cancel()
    return task.result()


async def _awaited(function: Function, arguments: tuple[Any, ...]) -> Outcome:
    # As values: a task that ends by a SystemExit ends the event loop. A KeyboardInterrupt may be the user's.
    try:
        return await function(*arguments), None
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # such as pytest's Failed
        return None, error


# --- threads -----------------------------------------------------------------------------------------------

_turns: dict[asyncio.AbstractEventLoop, asyncio.Semaphore] = {}
_behind: set[object] = set()


def _turn() -> asyncio.Semaphore:
    loop = asyncio.get_running_loop()
    if loop not in _turns:  # a semaphore is of one loop, and keeps it: those that are over are let go
        for over in [each for each in list(_turns) if each.is_closed()]:
            _turns.pop(over, None)
        _turns[loop] = asyncio.Semaphore(AT_ONCE)
    return _turns[loop]


async def _threaded(function: Function, arguments: tuple[Any, ...]) -> Outcome:
    if len(_behind) >= LEFT_BEHIND:
        raise Overdue(f"{LEFT_BEHIND} earlier calls of functions have not returned yet")
    loop, context = asyncio.get_running_loop(), copy_context()
    outcome: asyncio.Future[Outcome] = loop.create_future()
    returned = threading.Event()

    def settle(found: Outcome) -> None:
        if not outcome.done():
            outcome.set_result(found)

    def work() -> None:
        found = context.run(_caught, function, arguments)
        returned.set()
        _behind.discard(returned)
        with suppress(RuntimeError):  # the loop was closed: nobody waits any more
            loop.call_soon_threadsafe(partial(settle, found))

    # Not `to_thread`: the process waits for such threads at its end, and one that hangs would keep it alive.
    threading.Thread(target=work, name="judge-function", daemon=True).start()
    try:
        return await outcome
    except asyncio.CancelledError:
        _behind.add(returned)
        if returned.is_set():  # at this very moment
            _behind.discard(returned)
        raise


def _caught(function: Function, arguments: tuple[Any, ...]) -> Outcome:
    # As a value: a StopIteration cannot cross from a thread, and whoever awaits it would wait for ever.
    # Ctrl-C is the main thread's alone, so a KeyboardInterrupt here is the function's own.
    try:
        return function(*arguments), None
    except BaseException as error:
        return None, error
