"""Small Jinja2 templates over the fields of a row, in a sandbox of our own drawing.

Jinja2's sandbox keeps a template from Python's internals; it does not bound what a template costs. So only
the parts of the language that turn fields into text are let in (no macros, imports or assignments, few
filters and methods), loops are counted, all work is weighed before it is done (see `template_work`), and the
output has an end. An unknown name is an error, never an empty text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from math import isfinite
from typing import TYPE_CHECKING, Any

from evalkit.sets import template_work as work
from evalkit.sets.template_work import BUDGET, MAX_STEPS, MAX_WORK, Budget
from evalkit.sets.template_work import TemplateError as TemplateError

if TYPE_CHECKING:
    import jinja2
    from jinja2 import nodes
    from jinja2.runtime import Context

MAX_SOURCE = 100_000  # characters of a template
MAX_OUTPUT = 16 * 2**20  # characters of what it says


# No `*`, `**` and `%`: on texts they repeat and pad without an end.
_NODES = work.words(
    "Template Output TemplateData Name Const Getattr Getitem Slice Filter Test If For CondExpr Compare "
    "Operand And Or Not Neg Add Sub Div FloorDiv Concat Call List Tuple Dict Pair Keyword"
)
_METHODS = work.words(
    "capitalize endswith get index items keys lower lstrip removeprefix removesuffix rstrip split splitlines "
    "startswith strip title upper values"
)
_SAID = {
    "Assign": "{% set %}",
    "AssignBlock": "{% set %}",
    "NSRef": "{% set %}",
    "With": "{% with %}",
    "FilterBlock": "{% filter %}",
    "Macro": "{% macro %}",
    "CallBlock": "{% call %}",
    "Import": "{% import %}",
    "FromImport": "{% from %}",
    "Include": "{% include %}",
    "Extends": "{% extends %}",
    "Block": "{% block %}",
    "ScopedEvalContextModifier": "{% autoescape %}",
    "Mul": "the operator *",
    "Mod": "the operator %",
    "Pow": "the operator **",
    "Pos": "a + before a value",
}
_MAY = (
    "templates may use {{ }}, {% for %}, {% if %}, filters, tests, and the operators + - / // ~ in and or "
    "not == != < <= > >="
)
_LOOPS = "{% for %} goes through a field, and loop.index counts its turns"
_INSTEAD = {
    "range": _LOOPS,
    "replace": "replacing may make texts of any length: change them in the data instead",
}
_MAX_PAIRS = 100  # keys can be chosen to collide, so that each is compared with all
_OWN_NAMES = frozenset({"_file", "_row"})


@dataclass(frozen=True, slots=True)
class Template:
    """A compiled template. Raises `TemplateError` for one that is not valid or asks for too much."""

    source: str
    _made: jinja2.Template = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_made", _compiled(self.source))

    def render(self, values: Mapping[str, Any]) -> str:
        """The text for these values. Raises `TemplateError`."""
        import jinja2

        pieces: list[str] = []
        size = 0
        try:
            for piece in self._made.generate({**values, BUDGET: Budget(MAX_WORK, MAX_STEPS)}):
                size += len(piece)
                if size > MAX_OUTPUT:
                    raise TemplateError(f"says more than {MAX_OUTPUT // 2**20} Mi characters")
                pieces.append(piece)
        except TemplateError:
            raise
        except jinja2.exceptions.SecurityError:
            raise TemplateError("asks for something that templates may not touch") from None
        except jinja2.UndefinedError as error:
            raise TemplateError(f"asks for {self._missing(str(error))}, which is not there") from None
        except (RecursionError, MemoryError):
            raise TemplateError("is nested too deeply, or too large") from None
        except Exception as error:  # its message may quote the row
            raise TemplateError(f"does not work with this row ({type(error).__name__})") from None
        return "".join(pieces)

    def _missing(self, message: str) -> str:
        """The name in Jinja2's message, unless it is a value of the row (`choices[answer]`)."""
        named = message.split("'")[1::2]
        return next((name for name in reversed(named) if name[:100] in self.source), "something")[:100]


def is_template(text: str) -> bool:
    """Whether a text has anything of a template in it."""
    return "{{" in text or "{%" in text


def _compiled(source: str) -> jinja2.Template:
    import jinja2

    if len(source) > MAX_SOURCE:
        raise TemplateError(f"the template is longer than {MAX_SOURCE:,} characters")
    environment = _environment()
    try:
        tree = environment.parse(source)
        _walk(tree)
        code = environment.compile(tree)
        return jinja2.Template.from_code(environment, code, environment.make_globals(None))
    except jinja2.TemplateSyntaxError as error:
        raise TemplateError(f"the template is not valid: {error.message} (line {error.lineno})") from None
    except ValueError:  # Python reads no more than some thousand digits
        raise TemplateError("the template writes out a number that is too large") from None
    except (RecursionError, MemoryError, SyntaxError):  # Python's own bounds on nested blocks
        raise TemplateError("the template is nested too deeply") from None


@cache
def _environment() -> jinja2.Environment:
    from jinja2 import StrictUndefined, pass_context
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Missing(StrictUndefined):
        """What is not there has no repr either: a list of it is an error as well."""

        __repr__ = StrictUndefined._fail_with_undefined_error

    class Weighed(ImmutableSandboxedEnvironment):
        """An environment that weighs operators and calls of methods."""

        intercepted_binops = frozenset(["+", "-", "/", "//"])
        intercepted_unops = frozenset(["-"])

        def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
            return work.operated(context, self.binop_table[operator], left, right)

        def call_unop(self, context: Context, operator: str, arg: Any) -> Any:
            return work.operated(context, self.unop_table[operator], arg)

        def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
            work.weigh_call(__context[BUDGET], __obj, (*args, *kwargs.values()))
            try:
                return super().call(__context, __obj, *args, **kwargs)
            except ValueError:
                if getattr(__obj, "__name__", "") != "index":
                    raise
                raise TemplateError("asks for the .index() of something that is not there") from None

    # Nothing is evaluated while a template is compiled: there is no budget yet.
    options: dict[str, Any] = {"undefined": Missing, "keep_trailing_newline": True, "optimized": False}
    stock, made = ImmutableSandboxedEnvironment(**options), Weighed(**options)
    made.globals.clear()
    made.filters.clear()
    made.filters.update(work.filters(stock))
    made.tests.clear()
    made.tests.update(work.tests(stock))
    own: dict[str, Callable[..., Any]] = {
        "text": work.text,
        "held": work.held,
        "compared": work.compared,
        "within": work.within,
    }
    for name, each in {**own, "item": work.item, "steps": work.counted}.items():
        made.filters[f"_{name}"] = pass_context(each)
    return made


def _is_internal(name: str) -> bool:
    return (name.startswith("_") and name not in _OWN_NAMES) or name in ("self", "super", "caller")


def _walk(tree: jinja2.nodes.Template) -> None:
    """Let in what is on the lists, and put in what counts and weighs."""
    from jinja2 import nodes

    waiting: list[nodes.Node] = [tree]
    seen: list[nodes.Node] = []
    while waiting:
        node = waiting.pop()
        _check(node)
        seen.append(node)
        waiting += node.iter_child_nodes()
    weights: dict[int, int] = {}
    for node in reversed(seen):  # what is inside first
        own = work.NODE * (2 if isinstance(node, nodes.Getattr | nodes.Getitem) else 1)
        weights[id(node)] = own + sum(weights.get(id(each), 0) for each in node.iter_child_nodes())
    for node in reversed(seen):
        _weigh(node, weights)


def _check(node: nodes.Node) -> None:
    """Refuse what is not on the lists."""
    from jinja2 import nodes

    kind = type(node).__name__
    line = getattr(node, "lineno", 1)
    if kind not in _NODES:
        said = _SAID.get(kind, kind.lower())
        raise TemplateError(f"the template may not use {said} (line {line})", hint=_MAY)
    if isinstance(node, nodes.Const):
        _check_number(node.value, line)
    for what, names in ((nodes.Filter, work.FILTERS), (nodes.Test, work.TESTS)):
        if isinstance(node, what) and node.name not in names:
            instead = _INSTEAD.get(node.name)
            raise TemplateError(
                f"the template may not use the {kind.lower()} {node.name[:40]!r} (line {line})",
                hint=f"{instead + '; ' if instead else ''}the {kind.lower()}s are {', '.join(sorted(names))}",
            )
    if isinstance(node, nodes.Name) and _is_internal(node.name):
        raise TemplateError(f"the template may not use the name {node.name[:40]!r} (line {line})")
    if isinstance(node, nodes.Getattr) and node.attr.startswith("_"):
        raise TemplateError(f"the template may not use the attribute {node.attr[:40]!r} (line {line})")
    if isinstance(node, nodes.Call):
        _check_call(node, line)
    if isinstance(node, nodes.Dict) and len(node.items) > _MAX_PAIRS:
        raise TemplateError(f"the template writes out more than {_MAX_PAIRS} pairs (line {line})")
    if isinstance(node, nodes.For) and node.recursive:
        raise TemplateError(f"the template may not loop recursively (line {line})")


def _check_number(value: Any, line: int) -> None:
    """Refuse a number that is too long to work with."""
    if isinstance(value, float) and not isfinite(value):
        raise TemplateError(f"the template writes out a number that is too large (line {line})")
    if isinstance(value, int) and value.bit_length() > work.MAX_BITS:
        raise TemplateError(
            f"the template writes out an integer of more than {work.MAX_BITS:,} bits (line {line})"
        )


def _check_call(node: nodes.Call, line: int) -> None:
    """Refuse to call what is not a method on the list."""
    from jinja2 import nodes

    called = node.node
    if isinstance(called, nodes.Getattr):
        if called.attr in _METHODS:
            return
        name, said = called.attr, f".{called.attr[:40]}()"
    elif isinstance(called, nodes.Name):
        name, said = called.name, f"{called.name[:40]}()"
    else:
        name, said = "", "that"
    instead = _INSTEAD.get(name)
    raise TemplateError(
        f"the template may not call {said} (line {line})",
        hint=f"{instead + '; ' if instead else ''}the methods are {', '.join(sorted(_METHODS))}",
    )


def _through(name: str, inner: Any, *args: nodes.Expr) -> nodes.Filter:
    from jinja2 import nodes

    return nodes.Filter(inner, name, list(args), [], None, None, lineno=inner.lineno)


def _weigh(node: nodes.Node, weights: Mapping[int, int]) -> None:
    """Filters, tests, methods and arithmetic weigh what they do; here the rest does."""
    from jinja2 import nodes

    for name, value in node.iter_fields():
        if isinstance(value, list):
            value[:] = [_weigh_item(each) for each in value]
        else:
            setattr(node, name, _weigh_item(value))
    if isinstance(node, nodes.Output):
        plain = nodes.TemplateData
        node.nodes = [each if isinstance(each, plain) else _through("_text", each) for each in node.nodes]
    elif isinstance(node, nodes.Concat):
        node.nodes = [_through("_text", each) for each in node.nodes]
    elif isinstance(node, nodes.Compare):
        _weigh_compare(node)
    elif isinstance(node, nodes.Pair):  # what is in a key goes into its hash
        node.key = _through("_held", node.key)
    elif isinstance(node, nodes.For):
        node.iter = _through(BUDGET, node.iter, nodes.Const(weights[id(node)]))


def _weigh_compare(node: nodes.Compare) -> None:
    """A lone `in` becomes `within(…) == true`; in a chain all is weighed as a whole."""
    from jinja2 import nodes

    first = node.ops[0]
    searches = any(each.op in ("in", "notin") for each in node.ops)
    if searches and len(node.ops) == 1:
        node.expr = _through("_within", node.expr, first.expr)
        node.ops = [nodes.Operand("eq", nodes.Const(first.op == "in"))]
        return
    name = "_held" if searches else "_compared"
    node.expr = _through(name, node.expr)
    for each in node.ops:
        each.expr = _through(name, each.expr)


def _weigh_item(value: Any) -> Any:
    """A slice is a copy, and a key that is worked out may be anything."""
    from jinja2 import nodes

    if not isinstance(value, nodes.Getitem) or isinstance(value.arg, nodes.Const):
        return value
    if isinstance(value.arg, nodes.Slice):
        return _through("_held", value)
    return _through("_item", value.node, value.arg)
