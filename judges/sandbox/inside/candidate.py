"""The candidate's process: run the program, then do what the tests ask of it, until they hang up.

Nothing here is relied on: the program can rewrite all of it. What it cannot do is leave this process, and
what it says is only ever taken for plain values.
"""

from __future__ import annotations

import builtins
import os
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from .line import Line, Lost
from .wire import Uncrossable, decode, encode

MODULE = "solution"


def run(source: str, line: Line) -> None:
    """Run a program and answer for it. Returns when nobody asks any more."""
    broken: list[str] | None = None
    module = ModuleType(MODULE)
    sys.modules[MODULE] = module
    try:
        exec(compile(source, "<solution>", "exec", dont_inherit=True), module.__dict__)  # noqa: S102
    except SyntaxError as error:
        broken = ["syntax", f"{type(error).__name__}: {error.msg} (line {error.lineno})"]
    except SystemExit:
        broken = ["exit", "the program ended itself"]
    except MemoryError:
        broken = ["memory", "MemoryError"]
    except BaseException as error:
        broken = ["exception", _said(error)]
    try:
        _Served(line, module.__dict__).until_the_end(broken)
    except Lost:
        return


def _said(error: BaseException) -> str:
    try:
        text = str(error)[:300]
    except BaseException:
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


class _Served:
    def __init__(self, line: Line, names: dict[str, Any]) -> None:
        self._line = line
        self._names = names
        self._kept: list[Any] = []
        self._known: dict[int, int] = {}  # kept objects live as long as this, so their ids stay theirs

    def until_the_end(self, broken: list[str] | None) -> None:
        while True:
            message = self._line.receive()
            if message[0] == "names":
                self._line.send(["broken", *broken] if broken else ["names", self._described(message[1])])
            else:
                self._answer(message)

    def _described(self, names: list[str]) -> dict[str, Any]:
        return {name: self._describe(self._names[name]) for name in names if name in self._names}

    def _describe(self, value: Any) -> list[Any]:
        if isinstance(value, type):
            base = next(each.__name__ for each in value.__mro__ if vars(builtins).get(each.__name__) is each)
            special = sorted({name for each in value.__mro__[:-1] for name in vars(each) if name[:2] == "__"})
            return ["class", self._number(value), base, special]
        if callable(value):
            return ["function", self._number(value)]
        try:
            return ["value", encode(value, self._keep)]
        except Uncrossable as error:
            return ["uncrossable", str(error)]

    def _answer(self, message: list[Any]) -> None:
        _, how, number, *rest = message
        try:
            value, changed = self._done(how, self._kept[number], rest)
            said: list[Any] = ["return", encode(value, self._keep), changed]
        except Uncrossable as error:
            said = ["raise", ["Uncrossable"], [str(error)]]
        except SystemExit:
            os._exit(3)
        except Lost:
            raise
        except BaseException as error:
            said = ["raise", *self._raised(error)]
        self._line.send(said)

    def _done(self, how: str, target: Any, rest: list[Any]) -> tuple[Any, list[Any]]:
        if how == "get":
            return getattr(target, rest[0]), []
        if how == "set":
            setattr(target, rest[0], decode(rest[1], self._find))
            return None, []
        if how == "next":
            return next(target), []
        args = [decode(each, self._find) for each in rest[-2]]
        kwargs = {name: decode(each, self._find) for name, each in rest[-1].items()}
        if how == "special":
            return getattr(type(target), rest[0])(target, *args, **kwargs), []
        value = target(*args, **kwargs)
        return value, self._changed(args, rest[-2])

    def _changed(self, args: list[Any], sent: list[Any]) -> list[Any]:
        """The arguments that the call has changed in place, as [index, value]."""
        changed = []
        for index, (value, before) in enumerate(zip(args, sent, strict=True)):
            if isinstance(before, list) or (
                isinstance(before, dict) and before.keys() & {"d", "s", "B", "q"}
            ):
                now = encode(value, self._keep)
                if now != before:
                    changed.append([index, now])
        return changed

    def _raised(self, error: BaseException) -> list[Any]:
        names = [each.__name__ for each in type(error).__mro__ if issubclass(each, Exception)]
        try:
            args = [encode(each) for each in error.args]
        except Uncrossable:
            args = [_said(error)]
        return [names, args]

    def _number(self, value: Any) -> int:
        if id(value) not in self._known:
            self._known[id(value)] = len(self._kept)
            self._kept.append(value)
        return self._known[id(value)]

    def _keep(self, tag: str, value: Any) -> Any:
        if isinstance(value, _Callback):
            return {"o": value.number}
        return {tag: [self._number(value), type(value).__name__]}

    def _find(self, tag: str, content: Any) -> Any:
        if tag == "o":
            return self._kept[content]
        if tag == "k":
            return getattr(builtins, content)
        callback = _Callback(content, self._call_back)
        return callback.each() if tag == "y" else callback

    def _call_back(self, number: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a function of the tests, and serve what they ask in the meantime."""
        encoded = {name: encode(each, self._keep) for name, each in kwargs.items()}
        self._line.send(["call", number, [encode(each, self._keep) for each in args], encoded])
        while True:
            message = self._line.receive()
            if message[0] == "return":
                return decode(message[1], self._find)
            if message[0] == "raise":
                raise _exception(message)
            self._answer(message)


class _Callback:
    """A function of the tests."""

    def __init__(self, number: int, call: Callable[..., Any]) -> None:
        self.number = number
        self._call = call

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._call(self.number, args, kwargs)

    def each(self) -> Iterator[Any]:
        while True:
            try:
                yield self()
            except StopIteration:
                return


def _exception(message: list[Any]) -> Exception:
    for name in message[1]:
        kind = getattr(builtins, name, None)
        if isinstance(kind, type) and issubclass(kind, Exception):
            try:
                return kind(*(decode(each) for each in message[2]))
            except TypeError:
                continue
    return RuntimeError("the test's function failed")
