"""What a template's filters, tests and methods may cost: each says before it works how much that will be.

The unit is about a character that is copied. A list's items weigh more. A render has `MAX_WORK` of them in
all, and no value may be larger than `MAX_SIZE`. What is made lazily elsewhere is made at once here, so that
there is nothing whose size is not known.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Set, ValuesView
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from guardrails.errors import ConfigError

if TYPE_CHECKING:
    from jinja2.runtime import Context
    from jinja2.sandbox import SandboxedEnvironment

BUDGET = "_steps"
"""Under this name a render's budget stands among its values; no template may name it."""

MAX_SIZE = 2**24  # of one value: 16 Mi characters, or 262,144 items
MAX_WORK = 2**27  # of a whole render
MAX_STEPS = 1_000_000  # turns of all its loops together
ITEM = 64  # what an item of a list weighs, and a call
NODE = 16  # and a part of the template that is evaluated

_MAX_PRECISION = 30
_MAX_NAME = 200  # characters of an attribute's path, which is walked for each item
_ESCAPED = 10  # a character written out: `\U000e0001`


class TemplateError(ConfigError):
    """A template that cannot be used, or not with this row. The message quotes no value of the row."""

    default_kind = "template"


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# No `sum`: on lists it is quadratic.
FILTERS = _words(
    "abs capitalize count d default first float int items join last length list lower map max min reject "
    "rejectattr reverse round select selectattr sort string title tojson trim unique upper"
)
TESTS = _words(
    "boolean defined divisibleby eq equalto even false float ge greaterthan gt in integer iterable le "
    "lessthan lower lt mapping ne none number odd sameas sequence string true undefined upper == != < <= > >="
)
_GLANCES = _words("count d default first last length")  # look at no more than one item
_ITERATES = _words("join list map max min reject rejectattr select selectattr sort unique")
_NAMED_AT = {"rejectattr": 0, "selectattr": 0, "max": 1, "min": 1, "unique": 1, "sort": 2}
"""Which argument names an attribute, where it does not stand as `attribute=`."""
_BLANKS = (
    "\t\n\x0b\x0c\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008"
    "\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
)
"""Where `split` and `splitlines` part a text: all that is `str.isspace`."""

_MANY = (list, tuple, Set, Mapping, ValuesView)  # not Undefined, which pretends to be a collection


@dataclass(slots=True)
class Budget:
    """What is left of a render."""

    work: int
    steps: int

    def spend(self, work: int) -> None:
        """Do so much work. Raises `TemplateError` when it is too much."""
        self.work -= work
        if self.work < 0:
            raise TemplateError("asks for too much work", hint="shorten the fields that it goes through")

    def hold(self, value: Any, times: int = 1) -> int:
        """Have a value, or one that is so many times larger; gives its size. Raises `TemplateError`."""
        size = times * _size(value, min(MAX_SIZE, self.work) // times)
        if size > MAX_SIZE:
            raise TemplateError(f"makes or reads a value of more than {MAX_SIZE // 2**20} Mi characters")
        self.spend(size)
        return size

    def items(self, count: int) -> None:
        """Have so many items."""
        if count * ITEM > MAX_SIZE:
            raise TemplateError(f"makes a list of more than {MAX_SIZE // ITEM:,} items")
        self.spend(count * ITEM)

    def turn(self, work: int) -> None:
        """Go once more through a loop."""
        self.steps -= 1
        if self.steps < 0:
            raise TemplateError(f"loops more than {MAX_STEPS:,} times")
        self.spend(work)


def _size(value: Any, limit: int) -> int:
    """The size of a value with all that is in it, or something above the limit."""
    if isinstance(value, str):
        return len(value) + 1
    if not isinstance(value, _MANY):
        return 1
    size, waiting = 0, [value]
    while waiting and size <= limit:
        each = waiting.pop()
        size += ITEM
        if isinstance(each, str):
            size += len(each)
        elif isinstance(each, Mapping):
            size += ITEM * len(each)
            if size <= limit:
                waiting += [*each.keys(), *each.values()]
        elif isinstance(each, _MANY):
            size += ITEM * len(each)
            if size <= limit:
                waiting += each
    return size


def text(context: Context, value: Any) -> str:
    """A value as the template prints it."""
    budget: Budget = context[BUDGET]
    # What is in a list is written out with its quotes and escapes.
    budget.hold(value, _ESCAPED if isinstance(value, _MANY) else 1)
    return str(value)


def held(context: Context, value: Any) -> Any:
    """A value that something is done with that goes through all of it."""
    budget: Budget = context[BUDGET]
    budget.hold(value)
    return value


def counted(context: Context, values: Any, work: int) -> Iterator[Any]:
    """The values of a loop, each of whose turns is so much work."""
    budget: Budget = context[BUDGET]
    for value in values:
        budget.turn(work)
        yield value


def filters(stock: SandboxedEnvironment) -> dict[str, Callable[..., Any]]:
    """The filters that a template may use."""
    from jinja2 import pass_context

    own: dict[str, Any] = {"tojson": _json, "join": _join, "round": _round}
    made: dict[str, Callable[..., Any]] = {
        name: pass_context(_filter(name, own.get(name), stock)) for name in FILTERS
    }
    return made


def _filter(name: str, own: Callable[..., Any] | None, stock: SandboxedEnvironment) -> Callable[..., Any]:
    def run(context: Context, value: Any, *args: Any, **options: Any) -> Any:
        budget: Budget = context[BUDGET]
        budget.spend(ITEM)
        given = (*args, *options.values())
        if name == "map" and args and args[0] not in FILTERS:
            raise TemplateError("gives the filter map no filter's name")
        at = _NAMED_AT.get(name, len(args))
        path = options.get("attribute", args[at] if at < len(args) else "")
        if isinstance(path, str) and len(path) > _MAX_NAME:
            raise TemplateError(f"names an attribute in more than {_MAX_NAME} characters")
        for each in given:
            budget.hold(each)
        if name not in _GLANCES:
            _weigh(name, budget, value, given)
        if own is not None:
            made = own(budget, value, *args, **options)
        else:
            made = stock.call_filter(name, value, args, options, context, context.eval_ctx)
        made = list(_each(made, budget)) if isinstance(made, Iterator) else made
        if name not in _GLANCES:
            budget.hold(made)
        return made

    return run


def _each(values: Iterator[Any], budget: Budget) -> Iterator[Any]:
    for value in values:
        budget.spend(ITEM)
        yield value


def _weigh(name: str, budget: Budget, value: Any, given: Collection[Any]) -> None:
    """Spend what a filter costs."""
    # Escapes and quotes make a text longer each time that it is written out.
    size = budget.hold(value, _ESCAPED if name in ("tojson", "string") else 1)
    if name in _ITERATES and isinstance(value, str):
        budget.items(len(value))
    count = len(value) if isinstance(value, (*_MANY, str)) else 1
    if name == "sort":
        budget.spend(size * count.bit_length())
    elif name == "unique":  # numbers can be chosen to collide, so that each is compared with all
        budget.spend(count * count)
    elif name == "title":
        budget.spend(16 * size)
    elif name == "trim":
        _strip(budget, value, given)


def _strip(budget: Budget, value: Any, given: Collection[Any]) -> None:
    for each in given:  # every character of one is looked for in the other
        if isinstance(each, str):
            budget.spend(len(each) * (len(value) if isinstance(value, str) else 1))


def _json(budget: Budget, value: Any) -> str:
    import json

    return json.dumps(value, ensure_ascii=False)


def _join(budget: Budget, values: Any, between: str = "") -> str:
    texts = []
    for value in values:
        if not isinstance(value, str):
            budget.hold(value, _ESCAPED)
        texts.append(str(value))
    size = sum(map(len, texts)) + len(texts) * len(between)
    if size > MAX_SIZE:
        raise TemplateError(f"says more than {MAX_SIZE // 2**20} Mi characters")
    budget.spend(size)
    return between.join(texts)


def _round(budget: Budget, value: Any, precision: Any = 0, method: Any = "common") -> Any:
    from jinja2.filters import do_round

    if not isinstance(precision, int) or abs(precision) > _MAX_PRECISION:
        raise TemplateError(f"rounds to a precision that is not from -{_MAX_PRECISION} to {_MAX_PRECISION}")
    if method not in ("common", "ceil", "floor"):
        raise TemplateError("rounds by a method that is not common, ceil or floor")
    return do_round(value, precision, method)


def tests(stock: SandboxedEnvironment) -> dict[str, Callable[..., Any]]:
    """The tests that a template may use."""
    from jinja2 import pass_context

    return {name: pass_context(_test(name, stock)) for name in TESTS}


def _test(name: str, stock: SandboxedEnvironment) -> Callable[..., bool]:
    def run(context: Context, value: Any, *args: Any, **options: Any) -> bool:
        budget: Budget = context[BUDGET]
        budget.spend(ITEM)
        if args or options or name in ("lower", "upper"):
            for each in (value, *args, *options.values()):
                budget.hold(each)
        return bool(stock.call_test(name, value, args, options, context, context.eval_ctx))

    return run


def weigh_call(budget: Budget, method: Any, args: Collection[Any]) -> None:
    """Spend what a method of a text or a mapping costs."""
    owner, name = getattr(method, "__self__", None), getattr(method, "__name__", "")
    budget.spend(ITEM)
    for each in args:
        budget.hold(each)
    if not isinstance(owner, str):
        return
    size = budget.hold(owner)
    if name in ("strip", "lstrip", "rstrip"):
        _strip(budget, owner, args)
    elif name == "title":
        budget.spend(16 * size)
    elif name in ("split", "splitlines"):
        between = next((each for each in args if isinstance(each, str) and each), None)
        ends = sum(map(owner.count, _BLANKS)) if between is None else owner.count(between)
        budget.items(ends + 1)
