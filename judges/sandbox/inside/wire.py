"""What crosses between the tests' process and the candidate's: values as tagged plain JSON.

A value is rebuilt on the other side as one of Python's own types, whatever it was: an object whose `__eq__`
always agrees, a list that lies about its length, a subclass with a method of its own all end here. Plain
values are themselves; everything else is an object with one tag:

====  =====================================  ====  ================================================
n     integer, hexadecimal                   f     nan, inf, -inf
t     tuple                                  d     dict, as pairs
s z   set, frozenset                         b B   bytes, bytearray (hexadecimal)
c     complex                                r     range
q     deque                                  D Q   Decimal, Fraction
T     date, time, datetime, timedelta        F     a function: it is called where it lives
y     an iterator: read where it lives       H     any other object: a handle that equals nothing
o     the receiver's own object, coming back   k     a built-in, by its name (to the candidate only)
====  =====================================  ====  ================================================
"""

from __future__ import annotations

import collections
import datetime
import decimal
import fractions
import math
from collections.abc import Callable
from typing import Any

DEPTH = 100
_SMALL = 1 << 128

Keep = Callable[[str, Any], Any]
"""Takes a tag (F, y or H) and an object that stays; returns its encoding."""
Find = Callable[[str, Any], Any]
"""Takes a tag (F, y, H, o or k) and what came with it; returns the object that stands for it."""


class Uncrossable(TypeError):
    """A value that cannot cross, or an encoding that is not one."""


def _no_keep(tag: str, value: Any) -> Any:
    raise Uncrossable(f"a {type(value).__name__} cannot cross")


def encode(value: Any, keep: Keep = _no_keep, depth: int = DEPTH) -> Any:
    """`value` as what `json.dumps` takes. Raises `Uncrossable` beyond 100 levels, or as `keep` does."""
    kind = type(value)
    if value is None or kind is bool or kind is str:
        return value
    if kind is int:
        return value if -_SMALL < value < _SMALL else {"n": hex(value)}
    if kind is float:
        return value if math.isfinite(value) else {"f": repr(value)}
    if depth == 0:
        raise Uncrossable(f"it is nested more than {DEPTH} levels deep, or holds itself")
    if kind is list:
        return [encode(each, keep, depth - 1) for each in value]
    if isinstance(value, dict):
        pairs = [[encode(x, keep, depth - 1), encode(y, keep, depth - 1)] for x, y in dict.items(value)]
        return {"d": pairs}
    for base, tag, parts in _CONTAINERS:
        if isinstance(value, base):
            inner = [encode(each, keep, depth - 1) for each in parts(value)]
            return inner if tag == "" else {tag: inner}
    return _encode_scalar(value, keep, depth)


# The base types' own methods: a subclass may lie about its content, to itself only.
_CONTAINERS: tuple[tuple[type, str, Callable[[Any], Any]], ...] = (
    (tuple, "t", tuple.__iter__),
    (set, "s", set.__iter__),
    (frozenset, "z", frozenset.__iter__),
    (list, "", list.__iter__),
    (collections.deque, "q", lambda value: [value.maxlen, *collections.deque.__iter__(value)]),
)


def _encode_scalar(value: Any, keep: Keep, depth: int) -> Any:
    for base, parts in _SCALARS:
        if isinstance(value, base):
            return parts(value)
    if type(value).__module__ == "numpy" and getattr(value, "shape", None) == ():
        return encode(value.item(), keep, depth - 1)
    if hasattr(type(value), "__next__"):
        return keep("y", value)
    return keep("F" if callable(value) else "H", value)


_SCALARS: tuple[tuple[Any, Callable[[Any], Any]], ...] = (
    (str, str.__str__),
    (int, lambda value: encode(int.__int__(value))),
    (float, lambda value: encode(float.__float__(value))),
    (bytes, lambda value: {"b": bytes.hex(value)}),
    (bytearray, lambda value: {"B": bytearray.hex(value)}),
    (complex, lambda value: {"c": [encode(value.real), encode(value.imag)]}),
    (range, lambda value: {"r": [encode(each) for each in (value.start, value.stop, value.step)]}),
    (decimal.Decimal, lambda value: {"D": decimal.Decimal.__str__(value)}),
    (fractions.Fraction, lambda value: {"Q": [encode(value.numerator), encode(value.denominator)]}),
    ((datetime.date, datetime.time, datetime.timedelta), lambda value: {"T": _encode_time(value)}),
)


def _encode_time(value: Any) -> list[Any]:
    if isinstance(value, datetime.timedelta):
        return ["timedelta", value.days, value.seconds, value.microseconds]
    kind = next(each for each in (datetime.datetime, datetime.date, datetime.time) if isinstance(value, each))
    return [kind.__name__, kind.isoformat(value)]


def decode(value: Any, find: Find | None = None, depth: int = DEPTH) -> Any:
    """The value that an encoding stands for, of Python's own types. Raises `Uncrossable` for what is none."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if depth == 0:
        raise Uncrossable(f"it is nested more than {DEPTH} levels deep")
    if isinstance(value, list):
        return [decode(each, find, depth - 1) for each in value]
    if not isinstance(value, dict) or len(value) != 1:
        raise Uncrossable("it is not an encoded value")
    ((tag, content),) = value.items()
    try:
        if tag in _DECODED:
            return _DECODED[tag](content)
        if tag in _FILLED:
            return _FILLED[tag](decode(content, find, depth))
        if tag == "d":
            return {decode(key, find, depth - 1): decode(each, find, depth - 1) for key, each in content}
    except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
        raise Uncrossable(f"the content of {tag!r} is not valid: {type(error).__name__}") from None
    if find is None or tag not in ("F", "y", "H", "o", "k"):
        raise Uncrossable("it has an unknown tag")
    return find(tag, content)


def _deque(content: list[Any]) -> collections.deque[Any]:
    return collections.deque(content[1:], content[0])


def _time(content: list[Any]) -> Any:
    if content[0] == "timedelta":
        return datetime.timedelta(*content[1:])
    kinds: dict[str, Any] = {
        kind.__name__: kind for kind in (datetime.date, datetime.time, datetime.datetime)
    }
    return kinds[content[0]].fromisoformat(content[1])


_DECODED: dict[str, Callable[[Any], Any]] = {
    "n": lambda content: int(content, 16),
    "f": float,
    "b": bytes.fromhex,
    "B": bytearray.fromhex,
    "c": lambda content: complex(decode(content[0]), decode(content[1])),
    "r": lambda content: range(*decode(content)),
    "D": decimal.Decimal,
    "Q": lambda content: fractions.Fraction(*decode(content)),
    "T": _time,
}
_FILLED: dict[str, Callable[[Any], Any]] = {"t": tuple, "s": set, "z": frozenset, "q": _deque}
