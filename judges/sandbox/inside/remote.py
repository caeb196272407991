"""The candidate as the tests see it: stubs that ask the candidate's process, and answer with plain values.

An object of the candidate's own making is a handle here, which equals nothing but itself, has no truth value,
no length and no attributes: a test that expects a plain value cannot be answered by an object that agrees
with everything. Only where the problem itself asks for a class (`classes`) do its instances answer for
themselves.
"""

from __future__ import annotations

import builtins
import collections
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from .line import Line
from .wire import Uncrossable, decode, encode

BROKEN = ("syntax", "exit", "memory", "exception")
"""How a program may say that it does not run."""
_SPECIAL = frozenset(
    f"__{name}__"
    for name in (
        *("len", "getitem", "setitem", "delitem", "contains", "iter", "next", "call", "enter", "exit"),
        *(
            "str",
            "repr",
            "format",
            "bool",
            "hash",
            "eq",
            "ne",
            "lt",
            "le",
            "gt",
            "ge",
            "int",
            "float",
            "index",
        ),
        *(
            "add",
            "sub",
            "mul",
            "truediv",
            "floordiv",
            "mod",
            "pow",
            "matmul",
            "and",
            "or",
            "xor",
            "neg",
            "pos",
        ),
        *("radd", "rsub", "rmul", "rtruediv", "iadd", "isub", "imul", "abs", "invert", "lshift", "rshift"),
        *("reversed", "round"),
    )
)


class Asker:
    """Asks the candidate. `calls` counts what the tests have asked of it."""

    def __init__(self, line: Line, classes: Iterable[str] = ()) -> None:
        self._line = line
        self._classes = frozenset(classes)
        self._kept: list[Callable[..., Any]] = []
        self._made: dict[str, type] = {}
        self.calls = 0

    def names(self, wanted: Sequence[str]) -> dict[str, Any] | tuple[str, str]:
        """Stubs for those of these names that the program defines; or why it does not run: kind, message."""
        self._line.send(["names", list(wanted)])
        message = self._line.receive()
        if message[0] == "broken" and len(message) == 3:
            if message[1] not in BROKEN:  # a word of its own choice might be `passed`
                raise self._line.lost("it did not keep to the protocol")
            return message[1], str(message[2])[:400]
        if message[0] != "names" or len(message) != 2 or not isinstance(message[1], dict):
            raise self._line.lost("it did not keep to the protocol")
        try:
            return {name: self._stub(name, message[1][name]) for name in wanted if name in message[1]}
        except (Uncrossable, LookupError, TypeError, ValueError):
            raise self._line.lost("it did not keep to the protocol") from None

    def _stub(self, name: str, described: list[Any]) -> Any:
        kind, content = described[0], described[1]
        if kind == "value":
            self.calls += 1
            return decode(content, self._find)
        if kind == "class" and described[2] in _EXCEPTIONS:
            made = self._made[name] = type(name, (_EXCEPTIONS[described[2]],), {})
            return made
        if kind == "class" and name in self._classes:
            made = self._made[name] = _class(self, name, int(content), described[3])
            return made
        if kind in ("class", "function"):
            stub = Function(self, int(content))
            stub.__name__ = stub.__qualname__ = name
            return stub
        return Handle(self, -1)

    def ask(self, how: str, number: int, *rest: Any) -> Any:
        """One question, one answer; the tests' own functions are called in between, if it asks for that."""
        self.calls += 1
        self._line.send(["call", how, number, *rest])
        while True:
            message = self._line.receive()
            try:
                if message[0] == "return":
                    _, value, changed = message
                    self._changed = [(int(index), decode(each, self._find)) for index, each in changed]
                    return decode(value, self._find)
                if message[0] == "call":
                    _, called, args, kwargs = message
                    self._call_back(called, args, kwargs)
                    continue
                _, names, args = message
                error = self._exception([str(each) for each in names], [decode(each) for each in args])
            except Uncrossable:
                raise
            except (LookupError, TypeError, ValueError, AttributeError):
                raise self._line.lost("it did not keep to the protocol") from None
            raise error

    def call(self, number: int, how: Sequence[Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """Call something of the candidate's; arguments that it changes in place are changed here too."""
        encoded = [encode(each, self._keep) for each in args]
        named = {name: encode(each, self._keep) for name, each in kwargs.items()}
        value = self.ask(how[0], number, *how[1:], encoded, named)
        for index, now in self._changed:
            _assign(args[index], now)
        return value

    def _call_back(self, number: int, args: list[Any], kwargs: dict[str, Any]) -> None:
        function = self._kept[number] if number >= 0 else None
        if function is None:
            raise LookupError
        given = [decode(each, self._find) for each in args]
        named = {str(name): decode(each, self._find) for name, each in kwargs.items()}
        try:
            said: list[Any] = ["return", encode(function(*given, **named), self._keep)]
        except Exception as error:
            names = [each.__name__ for each in type(error).__mro__ if issubclass(each, Exception)]
            said = ["raise", names, [str(error)[:300]]]
        self._line.send(said)

    def _keep(self, tag: str, value: Any) -> Any:
        if isinstance(value, Remote):
            return {"o": object.__getattribute__(value, "_number")}
        if isinstance(name := getattr(value, "__name__", None), str) and vars(builtins).get(name) is value:
            return {"k": name}
        if tag == "H":
            raise Uncrossable(
                f"the tests pass an object of the class {type(value).__name__}, which cannot cross"
            )
        self._kept.append(value.__next__ if tag == "y" else value)
        return {tag: len(self._kept) - 1}

    def _find(self, tag: str, content: Any) -> Any:
        if tag == "o":
            if not 0 <= content < len(self._kept):
                raise Uncrossable("it names what it was not given")
            return self._kept[content]
        number, name = content
        if not isinstance(number, int) or tag == "k":
            raise Uncrossable("it is no handle")
        if tag == "F":
            return Function(self, number)
        if tag == "y":
            return Iterating(self, number)
        made = self._made.get(name, Handle) if isinstance(name, str) else Handle
        return _instance(made, self, number) if issubclass(made, Remote) else Handle(self, number)

    def _exception(self, names: list[str], args: list[Any]) -> Exception:
        if names[:1] == ["Uncrossable"]:
            return Uncrossable(str(args[0]) if args else "a value cannot cross")
        for name in names:
            kind = self._made.get(name, _EXCEPTIONS.get(name))
            if kind is not None and issubclass(kind, Exception):
                try:
                    made: Exception = kind(*args)
                except TypeError:  # its constructor wants other arguments
                    continue
                return made
        return Exception(*args)


_EXCEPTIONS: dict[str, type[Exception]] = {
    name: kind
    for name, kind in vars(builtins).items()
    if isinstance(kind, type) and issubclass(kind, Exception)
}


def _assign(mine: Any, now: Any) -> None:
    """Give a container the content of another of its kind."""
    if isinstance(mine, (list, bytearray)) and type(now) is type(mine):
        mine[:] = now
    elif isinstance(mine, (dict, set, collections.deque)) and isinstance(now, (dict, set, collections.deque)):
        mine.clear()
        mine.extend(now) if isinstance(mine, collections.deque) else mine.update(now)


class Remote:
    """Something that lives in the candidate's process."""

    def __init__(self, asker: Asker, number: int) -> None:
        object.__setattr__(self, "_asker", asker)
        object.__setattr__(self, "_number", number)


class Function(Remote):
    """A function or a method: may be called, nothing else."""

    __name__ = __qualname__ = "function"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it where it lives."""
        return self._asker.call(self._number, ("call",), args, kwargs)  # type: ignore[attr-defined]


class Iterating(Remote):
    """An iterator or a generator, read one value at a time."""

    def __iter__(self) -> Iterating:
        return self

    def __next__(self) -> Any:
        return self._asker.ask("next", self._number)  # type: ignore[attr-defined]


class Handle(Remote):
    """Any other object: it can be handed back to the candidate, and equals nothing but itself."""

    def __bool__(self) -> bool:
        raise Uncrossable("an object of the candidate's own class has no truth value here")


class _Instance(Handle):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self._asker.ask("get", self._number, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            raise AttributeError(name)
        asker: Asker = object.__getattribute__(self, "_asker")
        asker.ask("set", object.__getattribute__(self, "_number"), name, encode(value, asker._keep))


def _instance(made: type, asker: Asker, number: int) -> Any:
    instance: Any = object.__new__(made)
    Remote.__init__(instance, asker, number)
    return instance


def _class(asker: Asker, name: str, number: int, special: list[Any]) -> type:
    """A class whose instances answer for themselves, with the special methods that theirs defines."""

    def new(cls: type, *args: Any, **kwargs: Any) -> Any:
        return asker.call(number, ("call",), args, kwargs)

    def forwarded(method: str) -> Callable[..., Any]:
        def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
            theirs: int = object.__getattribute__(self, "_number")
            return asker.call(theirs, ("special", method), args, kwargs)

        return forward

    methods = {method: forwarded(method) for method in special if method in _SPECIAL}
    if "__bool__" not in methods:
        methods["__bool__"] = (lambda self: len(self) != 0) if "__len__" in methods else (lambda self: True)
    if "__eq__" in methods and "__hash__" not in methods:
        methods["__hash__"] = None  # type: ignore[assignment]
    body = {"__new__": new, "__init__": lambda self, *args, **kwargs: None, **methods}
    return type(name, (_Instance,), body)
