"""What a template's filters, tests and methods may cost: each says before it works how much that will be.

The unit is about a character that is handled (at most 20 ns). A list's items weigh more. A render has
`MAX_WORK` of them in all, no value may be larger than `MAX_SIZE`, and no integer has more than `MAX_BITS`:
all work with integers is then as good as free. What is made lazily elsewhere is made at once here, so that
there is nothing whose size is not known.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Set, ValuesView
from dataclasses import dataclass
from functools import cache, partial
from numbers import Number
from typing import TYPE_CHECKING, Any

from guardrails.errors import ConfigError

if TYPE_CHECKING:
    from jinja2.runtime import Context
    from jinja2.sandbox import SandboxedEnvironment

BUDGET = "_steps"
"""Under this name a render's budget stands among its values; no template may name it."""

MAX_SIZE = 2**24  # of one value: 16 Mi characters, or 262,144 items that are made
MAX_BITS = 1_024  # of an integer, as much as a float can hold
MAX_WORK = 2**27  # of a whole render
MAX_STEPS = 1_000_000  # turns of all its loops together
ITEM = 64  # what an item weighs that is made, and a list or mapping
CALL = 128  # what the call of a filter, test or method weighs
SLOT = 8  # and a place in a list
NODE = 16  # and a part of the template that is evaluated

_MAX_PRECISION = 30
_MAX_NAME = 200  # characters of an attribute's path, which is walked for each item
_ESCAPED = 10  # a character written out: `\U000e0001`
_MAX_DIGITS = 1_100  # of a text that is read as a number: `MAX_BITS` of them, and a sign
_MAX_DEPTH = 32  # of what is indented: every line costs as much as it is deep


class TemplateError(ConfigError):
    """A template that cannot be used, or not with this row. The message quotes no value of the row."""

    default_kind = "template"


def words(text: str) -> frozenset[str]:
    """The words of a list."""
    return frozenset(text.split())


# No `sum`: on lists it is quadratic.
FILTERS = words(
    "abs capitalize count d default first float int items join last length list lower map max min reject "
    "rejectattr reverse round select selectattr sort string title tojson trim unique upper"
)
TESTS = words(
    "boolean defined divisibleby eq equalto even false float ge greaterthan gt in integer iterable le "
    "lessthan lower lt mapping ne none number odd sameas sequence string true undefined upper == != < <= > >="
)
_GLANCES = words("count d default first last length")  # look at no more than one item
_ITERATES = words("join list map max min reject rejectattr select selectattr sort unique")
_NAMED_AT = {"rejectattr": 0, "selectattr": 0, "join": 1, "max": 1, "min": 1, "unique": 1, "sort": 2}
"""Which argument names an attribute, where it does not stand as `attribute=`."""
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
        """Have a value, at so many times the work; gives its size. Raises `TemplateError`."""
        size = _size(value, min(MAX_SIZE, self.work // times))
        if size > MAX_SIZE:
            raise TemplateError(f"makes or reads a value of more than {MAX_SIZE // 2**20} Mi characters")
        self.spend(size * times)
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


def _bits(value: int) -> int:
    """How long an integer is. Raises `TemplateError` for one that is too long to work with."""
    bits = value.bit_length()
    if bits > MAX_BITS:
        raise TemplateError(f"works with an integer of more than {MAX_BITS:,} bits")
    return bits


def _size(value: Any, limit: int) -> int:
    """The size of a value with all that is in it, or something above the limit."""
    if isinstance(value, str):
        return len(value) + 1
    if isinstance(value, int):
        return 1 + _bits(value) // 4
    if not isinstance(value, _MANY):
        return 1
    size = 0
    waiting: list[Any] = [value]
    while waiting and size <= limit:
        each = waiting.pop()
        if isinstance(each, str):
            size += len(each)
        elif each is None or isinstance(each, float):  # the last question below is slow to answer
            continue
        elif isinstance(each, int):
            size += _bits(each) // 4
        elif isinstance(each, _MANY):
            size += ITEM + len(each) * (2 * SLOT if isinstance(each, Mapping) else SLOT)
            if size <= limit:  # else the places alone are too many to put on the pile
                waiting += _inside(each)
    return size


def _inside(many: Any) -> Any:
    return [*many.keys(), *many.values()] if isinstance(many, Mapping) else many


def text(context: Context, value: Any) -> str:
    """A value as the template prints it."""
    budget: Budget = context[BUDGET]
    if type(value) is str:
        budget.spend(len(value) + 1)
        return value
    # What is in a list is written out with its quotes and escapes.
    many = isinstance(value, _MANY)
    budget.hold(value, _ESCAPED if many else 1)
    return str(held(context, str(value))) if many else str(value)


def held(context: Context, value: Any) -> Any:
    """A value that something is done with that goes through all of it."""
    budget: Budget = context[BUDGET]
    budget.hold(value)
    return value


def compared(context: Context, value: Any) -> Any:
    """A value that is compared with another: texts are compared many characters at a time."""
    if not isinstance(value, str):
        return held(context, value)
    context[BUDGET].spend(1 + len(value) // 16)
    return value


def operated(context: Context, work: Callable[..., Any], *values: Any) -> Any:
    """What an operator makes of its operands."""
    for value in values:
        held(context, value)
    made = work(*values)  # a list is as long as those that it was made of
    return held(context, made) if isinstance(made, int | str) else made


def item(context: Context, owner: Any, key: Any) -> Any:
    """An item by a key that the template works out."""
    if type(key) is int and type(owner) in (list, str) and 0 <= key < len(owner):
        return owner[key]  # costs next to nothing, and so does not look for the budget
    weigh_key(context[BUDGET], owner, key)
    return context.environment.getitem(owner, key)


def weigh_key(budget: Budget, owner: Any, key: Any) -> None:
    """Spend what it costs to look a key up. Numbers can be chosen to collide, texts cannot."""
    budget.hold(key)
    collides = isinstance(owner, Set | Mapping) and not isinstance(key, str)
    budget.spend(ITEM + (len(owner) if collides else 0))


def within(context: Context, value: Any, many: Any) -> bool:
    """Whether a value is in a text, a list or a mapping."""
    weigh_within(context[BUDGET], value, many)
    return value in many


def weigh_within(budget: Budget, value: Any, many: Any) -> None:
    """Spend what it costs to look for a value in a text, a list or a mapping."""
    size = budget.hold(value)
    if isinstance(many, str):
        budget.spend(_search(many, size))
    elif isinstance(value, _MANY) and not isinstance(many, Mapping):
        budget.hold(many)  # lists are compared with all that is in them
    elif isinstance(many, Set | Mapping):
        weigh_key(budget, many, value)
    elif isinstance(many, _MANY):  # texts that begin alike are compared at memory's speed
        budget.spend(len(many) * (SLOT + size // 64))
    else:
        budget.hold(many)


def _search(text: str, size: int) -> int:
    """What it costs to find a text of this size in another."""
    count = len(text)
    hard = count < 30_000 and (count < 2_500 or size <= 100)
    # In small texts Python tries each place, and each to its end.
    return 1 + count // 6 + (count * size // 128 if hard else 0)


def counted(context: Context, values: Any, work: int) -> Iterator[Any]:
    """The values of a loop, each of whose turns is so much work."""
    budget: Budget = context[BUDGET]
    for value in values:
        budget.turn(work)
        yield value


def filters(stock: SandboxedEnvironment) -> dict[str, Callable[..., Any]]:
    """The filters that a template may use."""
    from jinja2 import pass_context

    own: dict[str, Any] = {"tojson": _json, "join": partial(_join, stock), "round": _round}
    own.update({name: partial(_number, stock.filters[name]) for name in ("int", "float")})
    return {name: pass_context(_filter(name, own.get(name), stock)) for name in FILTERS}


def _filter(name: str, own: Callable[..., Any] | None, stock: SandboxedEnvironment) -> Callable[..., Any]:
    def run(context: Context, value: Any, *args: Any, **options: Any) -> Any:
        budget: Budget = context[BUDGET]
        budget.spend(CALL)
        given = (*args, *options.values())
        if name == "map" and args and args[0] not in FILTERS:
            raise TemplateError("gives the filter map no filter's name")
        at = _NAMED_AT.get(name, len(args))
        path = options.get("attribute", args[at] if at < len(args) else "")
        if isinstance(path, str) and len(path) > _MAX_NAME:
            raise TemplateError(f"names an attribute in more than {_MAX_NAME} characters")
        for each in given:
            budget.hold(each)
        if path and isinstance(path, str) and isinstance(value, _MANY):
            budget.spend(len(value) * (1 + path.count(".")) * ITEM)
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
    written = name == "tojson" or (name == "string" and isinstance(value, _MANY))
    size = budget.hold(value, _ESCAPED if written else 1)
    if name in _ITERATES and isinstance(value, str):
        budget.items(len(value))
    count = len(value) if isinstance(value, (*_MANY, str)) else 1
    if name == "sort":  # those that are alike are compared to their ends
        budget.spend((4 * count + size // SLOT) * count.bit_length())
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


def _json(budget: Budget, value: Any, indent: Any = None) -> str:
    import json

    if indent is None:
        return json.dumps(value, ensure_ascii=False)
    if type(indent) is not int or not 0 <= indent <= 8:
        raise TemplateError("indents by something that is not from 0 to 8")
    _shallow(value)
    pieces = []
    for piece in json.JSONEncoder(ensure_ascii=False, indent=indent).iterencode(value):
        budget.spend(ITEM + len(piece))
        pieces.append(piece)
    return "".join(pieces)


def _shallow(value: Any) -> None:
    """Refuse what is nested too deeply to be indented."""
    level = [value]
    for _ in range(_MAX_DEPTH):
        level = [inner for each in level if isinstance(each, _MANY) for inner in _inside(each)]
    if level:
        raise TemplateError(f"indents what is nested more than {_MAX_DEPTH} deep")


def _join(
    stock: SandboxedEnvironment, budget: Budget, values: Any, d: Any = "", attribute: Any = None
) -> str:
    from jinja2.filters import make_attrgetter

    between = str(d)
    if attribute is not None:
        values = map(make_attrgetter(stock, attribute), values)
    texts = []
    for value in values:
        if not isinstance(value, str):
            budget.spend(ITEM)
            budget.hold(value, _ESCAPED)
        texts.append(str(value))
    size = sum(map(len, texts)) + len(texts) * len(between)
    if size > MAX_SIZE:
        raise TemplateError(f"says more than {MAX_SIZE // 2**20} Mi characters")
    budget.spend(size)
    return between.join(texts)


def _number(read: Callable[..., Any], budget: Budget, value: Any, *args: Any, **options: Any) -> Any:
    """Read a number. What is read from a long text would take long to work with."""
    if isinstance(value, str) and len(value) > _MAX_DIGITS:
        raise TemplateError(f"reads a number from a text of more than {_MAX_DIGITS:,} characters")
    if isinstance(value, Number) and not isinstance(value, int | float):
        value = float(value)  # type: ignore[arg-type]  # a decimal may be short and say a billion digits
    return read(value, *args, **options)


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
        budget.spend(CALL)
        if name == "in" and len(args) == 1 and not options:
            return within(context, value, *args)
        if args or options or name in ("lower", "upper", "odd", "even"):
            for each in (value, *args, *options.values()):
                budget.hold(each)
        return bool(stock.call_test(name, value, args, options, context, context.eval_ctx))

    return run


@cache
def _blanks() -> str:
    """Where `split` and `splitlines` part a text; found when it is first asked for, not while starting."""
    return "".join(filter(str.isspace, map(chr, range(0x3001))))


def weigh_call(budget: Budget, method: Any, args: Collection[Any]) -> None:
    """Spend what a method of a text, a list or a mapping costs."""
    owner, name = getattr(method, "__self__", None), getattr(method, "__name__", "")
    budget.spend(2 * CALL)  # the sandbox looks at it as well
    for each in args:
        budget.hold(each)
    if name == "get" and isinstance(owner, Mapping) and args:
        weigh_key(budget, owner, next(iter(args)))
    if name == "index" and args:
        weigh_within(budget, next(iter(args)), owner)
    if not isinstance(owner, str) or name in ("startswith", "endswith"):
        return
    size = budget.hold(owner)
    if name in ("strip", "lstrip", "rstrip"):
        _strip(budget, owner, args)
    elif name == "title":
        budget.spend(16 * size)
    elif name in ("split", "splitlines"):
        between = next((each for each in args if isinstance(each, str) and each), None)
        budget.spend(2 * _search(owner, len(between or "")))
        ends = sum(map(owner.count, _blanks())) if between is None else owner.count(between)
        budget.items(ends + 1)
