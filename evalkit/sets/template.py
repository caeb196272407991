"""Small Jinja2 templates over the fields of a row, in a sandbox of our own drawing.

Jinja2's sandbox keeps a template from Python's internals; it does not bound what a template costs. So only
the parts of the language that turn fields into text are let in (no macros, imports or assignments, few
filters and methods), loops are counted, and the output has an end. An unknown name is an error, never an
empty text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from guardrails.errors import ConfigError

if TYPE_CHECKING:
    import jinja2
    from jinja2.runtime import Context

MAX_SOURCE = 100_000  # characters of a template
MAX_OUTPUT = 64 * 2**20  # characters of what it says
MAX_STEPS = 1_000_000  # turns of all its loops together


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_NODES = _words(
    "Template Output TemplateData Name Const Getattr Getitem Slice Filter Test If For CondExpr Compare "
    "Operand And Or Not Neg Add Sub Div FloorDiv Concat Call List Tuple Dict Pair Keyword"
)
# No `*`, `**` and `%`: on texts they repeat and pad without an end. No `sum`: on lists it is quadratic.
_FILTERS = _words(
    "abs capitalize count d default first float int items join last length list lower map max min reject "
    "rejectattr reverse round select selectattr sort string title tojson trim unique upper"
)
_METHODS = _words(
    "capitalize endswith get items keys lower lstrip removeprefix removesuffix rstrip split splitlines "
    "startswith strip title upper values"
)
_OWN_NAMES = frozenset({"_file", "_row"})


class TemplateError(ConfigError):
    """A template that cannot be used, or not with this row. The message quotes no value of the row."""

    default_kind = "template"


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
            for piece in self._made.generate({**values, _BUDGET: [MAX_STEPS]}):
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
        except RecursionError:
            raise TemplateError("is nested too deeply") from None
        except Exception as error:  # its message may quote the row
            raise TemplateError(f"does not work with this row ({type(error).__name__})") from None
        return "".join(pieces)

    def _missing(self, message: str) -> str:
        """The name in Jinja2's message, unless it is a value of the row (`choices[answer]`)."""
        named = message.split("'")[1::2]
        return next((name for name in reversed(named) if name[:100] in self.source), "something")[:100]


_BUDGET = "_steps"


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
    except RecursionError:
        raise TemplateError("the template is nested too deeply") from None


@cache
def _environment() -> jinja2.Environment:
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Missing(StrictUndefined):
        """What is not there has no repr either: a list of it is an error as well."""

        __repr__ = StrictUndefined._fail_with_undefined_error

    made = ImmutableSandboxedEnvironment(undefined=Missing, autoescape=False, keep_trailing_newline=True)
    made.globals.clear()
    made.filters = {name: each for name, each in made.filters.items() if name in _FILTERS}
    made.filters["tojson"] = _json
    made.filters["join"] = _join
    made.filters[_BUDGET] = _counted()
    return made


def _json(value: Any) -> str:
    import json

    return json.dumps(value, ensure_ascii=False)


def _join(values: Any, between: str = "") -> str:
    texts = [str(value) for value in values]
    if len(texts) * len(between) > MAX_OUTPUT:
        raise TemplateError(f"says more than {MAX_OUTPUT // 2**20} Mi characters")
    return between.join(texts)


def _counted() -> Callable[..., Iterator[Any]]:
    from jinja2 import pass_context

    @pass_context
    def counted(context: Context, values: Any) -> Iterator[Any]:
        steps = context[_BUDGET]
        for value in values:
            steps[0] -= 1
            if steps[0] < 0:
                raise TemplateError(f"loops more than {MAX_STEPS:,} times")
            yield value

    return counted


def _is_internal(name: str) -> bool:
    return (name.startswith("_") and name not in _OWN_NAMES) or name in ("self", "super", "caller")


def _walk(tree: jinja2.nodes.Template) -> None:
    """Let in what is on the lists, and count the turns of each loop."""
    from jinja2 import nodes

    waiting: list[nodes.Node] = [tree]
    while waiting:
        node = waiting.pop()
        kind = type(node).__name__
        line = getattr(node, "lineno", 1)
        if kind not in _NODES:
            raise TemplateError(f"the template may not use {kind.lower()} (line {line})")
        if isinstance(node, nodes.Filter) and node.name not in _FILTERS:
            raise TemplateError(
                f"the template may not use the filter {node.name[:40]!r} (line {line})",
                hint=f"the filters are {', '.join(sorted(_FILTERS))}",
            )
        if isinstance(node, nodes.Name) and _is_internal(node.name):
            raise TemplateError(f"the template may not use the name {node.name[:40]!r} (line {line})")
        if isinstance(node, nodes.Getattr) and node.attr.startswith("_"):
            raise TemplateError(f"the template may not use the attribute {node.attr[:40]!r} (line {line})")
        if isinstance(node, nodes.Call) and not (
            isinstance(node.node, nodes.Getattr) and node.node.attr in _METHODS
        ):
            raise TemplateError(
                f"the template may not call that (line {line})",
                hint=f"the methods are {', '.join(sorted(_METHODS))}",
            )
        waiting += node.iter_child_nodes()
        if isinstance(node, nodes.For):
            if node.recursive:
                raise TemplateError(f"the template may not loop recursively (line {line})")
            node.iter = nodes.Filter(node.iter, _BUDGET, [], [], None, None, lineno=line)
