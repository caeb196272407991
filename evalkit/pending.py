"""Work of the pytest plugin that is to be awaited, and that says so where a test forgets it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Generic, NoReturn, TypeVar

T = TypeVar("T")


class Pending(Coroutine[Any, Any, T], Generic[T]):
    """What `ask` and `judge` give: to be awaited, and an error where it is taken for its own result.

    A bare coroutine is true, so that a test which forgets `await` would pass whatever was answered. Work
    begins with the first `await`.
    """

    def __init__(self, made: Callable[[], Coroutine[Any, Any, T]], call: str, now: str) -> None:
        self._made, self._call, self._now = made, call, now
        self._work: Coroutine[Any, Any, T] | None = None
        self._told = False

    def _begun(self) -> Coroutine[Any, Any, T]:
        if self._work is None:
            self._work = self._made()
        return self._work

    def __await__(self) -> Generator[Any, Any, T]:
        return self._begun().__await__()

    def send(self, value: Any, /) -> Any:
        """A coroutine's: what `asyncio.create_task` and the like ask for."""
        return self._begun().send(value)

    def throw(self, *error: Any) -> Any:
        """A coroutine's."""
        return self._begun().throw(*error)

    def close(self) -> None:
        """A coroutine's: nothing is told of one that was dropped on purpose."""
        self._told = True
        if self._work is not None:
            self._work.close()

    def _missing(self) -> str:
        self._told = True
        return (
            f"{self._call} was not awaited, and has no result: write `await {self._call}`, or "
            f"`{self._now}` in a test that is not async"
        )

    def _refuse(self, *_: object) -> NoReturn:
        __tracebackhide__ = True
        raise TypeError(self._missing())

    __bool__ = __eq__ = __contains__ = __len__ = __getitem__ = _refuse
    __hash__ = object.__hash__

    def __getattr__(self, name: str) -> NoReturn:
        __tracebackhide__ = True
        if name.startswith(("_", "cr_", "gi_")):  # asyncio looks for a coroutine's own
            raise AttributeError(name)
        raise AttributeError(f"no `{name}`: {self._missing()}")

    def __repr__(self) -> str:
        return f"<{self._call}, not awaited>"

    def __del__(self) -> None:
        if self._work is None and not self._told:
            warnings.warn(f"{self._call} was never awaited", RuntimeWarning, stacklevel=2)
