"""JSON values, leaf by leaf: which places two of them share, and whether what stands there is the same.

A value is taken apart into its leaves (texts, numbers, true, false, null, empty containers) by their paths.
Nothing here recurses, so a value that is nested without end is refused and not a stack overflow.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import re2

from guardrails.errors import ConfigError
from judges.numeric import excess, one_number

MAX_DEPTH = 64
MAX_LEAVES = 100_000

Path = tuple[str | int, ...]
Leaves = Mapping[Path, Any]


class Unreadable(ValueError):
    """The text is no JSON that can be judged. The message says where and quotes nothing."""


def read(text: str) -> Any:
    """The JSON value in a text. Raises `Unreadable`; NaN and Infinity are not JSON.

    Of a key that stands twice in an object the last one counts, as most parsers have it.
    """
    try:
        return json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except json.JSONDecodeError as error:
        raise Unreadable(f"not JSON (line {error.lineno}, column {error.colno})") from None
    except RecursionError:
        raise Unreadable(f"nested deeper than {MAX_DEPTH} levels") from None
    except ValueError:  # an integer of thousands of digits, NaN, 1e999
        raise Unreadable("JSON with a number that cannot be read") from None


def _refuse(word: str) -> Any:
    raise ValueError


def _finite(digits: str) -> float:
    if not math.isfinite(value := float(digits)):
        raise ValueError
    return value


def leaves(value: Any) -> dict[Path, Any]:
    """The leaves of a JSON value by their paths; an empty container is a leaf. Raises `Unreadable`."""
    found: dict[Path, Any] = {}
    left: list[tuple[Path, Any]] = [((), value)]
    while left:
        path, each = left.pop()
        if not isinstance(each, dict | list) or not each:
            found[path] = each
        elif len(path) >= MAX_DEPTH:
            raise Unreadable(f"nested deeper than {MAX_DEPTH} levels")
        else:
            inner = each.items() if isinstance(each, dict) else enumerate(each)
            left += reversed([((*path, step), item) for step, item in inner])
        if len(found) + len(left) > MAX_LEAVES:
            raise Unreadable(f"more than {MAX_LEAVES:,} values")
    return found


def filled(wanted: Leaves, given: Leaves) -> frozenset[Path]:
    """The paths where an empty object is expected and one with something in it is given.

    Not the whole value: where all that is expected is `{}`, that is what is meant.
    """
    empty = {path for path, value in wanted.items() if path and value == {}}
    depths = {len(path) for path in empty}
    longer = ((path, depth) for path in given for depth in depths if len(path) > depth)
    return frozenset(path[:depth] for path, depth in longer if isinstance(path[depth], str)) & empty


# --- rules -------------------------------------------------------------------------------------------------

_FOREIGN = re2.compile(r"\[(?:\*|\d+|'.*'|\".*\")\]|^\$?\.|\.\.|^$")
"""What paths look like that are written as elsewhere: `a[*].n`, `a[0]`, `$.a`. They would match nothing.
`tags[]`, `$` and an empty step at the end are no such: there are keys like them."""

KINDS = ("exact", "casefold", "contains", "near", "number", "ignore")


@dataclass(frozen=True, slots=True)
class Rule:
    """When a leaf is right.

    `exact`: the same value (1 is 1.0 and not true). `casefold`: the same text but for case and outer white
    space. `contains`: a text that has the expected one in it, but for case; where a blank one is expected, a
    blank one. `near`: a number within `tolerance` or the share `relative` of the expected one, anything else
    exactly. `number`: as `near`, and a text may be the number ("$1,234.50"). `ignore`: always.
    """

    kind: Literal["exact", "casefold", "contains", "near", "number", "ignore"] = "exact"
    tolerance: float = 0.0
    relative: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigError(f"there is no rule {str(self.kind)[:40]!r}", hint=f"use {', '.join(KINDS)}")
        bounds: tuple[Any, ...] = (self.tolerance, self.relative)  # a file may hold anything
        for bound in bounds:
            if isinstance(bound, bool) or not isinstance(bound, int | float) or not 0 <= bound < math.inf:
                raise ConfigError("tolerance and relative are finite numbers of at least 0")

    def fits(self, wanted: Any, given: Any) -> bool:
        """Whether `given` is right where `wanted` is expected. Both are leaves."""
        match self.kind:
            case "ignore":
                return True
            case "casefold" if isinstance(wanted, str) and isinstance(given, str):
                return wanted.strip().casefold() == given.strip().casefold()
            case "contains" if isinstance(wanted, str) and isinstance(given, str):
                return wanted.casefold() in given.casefold() if wanted.strip() else not given.strip()
            case "near" | "number":
                read_text = self.kind == "number"
                left, right = _number(wanted, read_text), _number(given, read_text)
                if left is not None and right is not None:
                    return excess(right, left, self.tolerance, self.relative) <= 0
        return same(wanted, given)


def same(wanted: Any, given: Any) -> bool:
    """Equal as JSON has it: 1 and 1.0 are, 1 and true are not, [] and {} are not."""
    if isinstance(wanted, bool) or isinstance(given, bool):
        return wanted is given
    if isinstance(wanted, int | float) and isinstance(given, int | float):
        return wanted == given
    return type(wanted) is type(given) and bool(wanted == given)


def _number(value: Any, read_text: bool) -> Fraction | None:
    if isinstance(value, str):
        number = one_number(value) if read_text else None
        return None if number is None else number.value
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float):
        return Fraction(str(value)) if math.isfinite(value) else None
    return Fraction(value)  # however large: as a float it might overflow


@dataclass(frozen=True, slots=True)
class Rules:
    """Which rule is for which path: the longest pattern that the path begins with, else `default`.

    A pattern is `total`, `items.*.price` or `items.0`: steps with dots between them, `*` for any one step.
    What it says holds for all that lies below.
    """

    patterns: tuple[tuple[tuple[str, ...], Rule], ...]
    default: Rule

    @classmethod
    def of(
        cls, given: Mapping[str, Any], *, default: Rule | None = None, ignore: Iterable[str] = ()
    ) -> Rules:
        """From `{path: "casefold"}` or `{path: {"number": {"tolerance": 0.01}}}`. Raises `ConfigError`."""
        ignore = tuple(ignore)
        for path in (*given, *ignore):
            if _FOREIGN.search(path) is not None:
                hint = "write items.0.price, or items.*.price for each of a list"
                raise ConfigError(f"{path[:80]}: the steps of a path have dots between them", hint=hint)
        made = [(path, rule_of(spec, path)) for path, spec in given.items()]
        made += [(path, Rule("ignore")) for path in ignore]
        steps = [(tuple(path.split(".")), rule) for path, rule in made]
        ranked = sorted(steps, key=lambda each: (-len(each[0]), each[0].count("*"), each[0]))
        return cls(tuple(ranked), default or Rule())

    def at(self, path: Path) -> Rule:
        """The rule for a path."""
        for steps, rule in self.patterns:
            if len(steps) <= len(path) and all(
                step in ("*", str(taken)) for step, taken in zip(steps, path, strict=False)
            ):
                return rule
        return self.default

    def counted(self, found: Leaves) -> dict[Path, Any]:
        """The leaves that are not ignored."""
        if not self.patterns and self.default.kind != "ignore":
            return dict(found)
        return {path: value for path, value in found.items() if self.at(path).kind != "ignore"}


def rule_of(spec: Any, path: str) -> Rule:
    """A rule as a file spells it. Raises `ConfigError` that names the path."""
    try:
        if isinstance(spec, str):
            return Rule(spec)  # type: ignore[arg-type] # the constructor looks at it
        if isinstance(spec, Mapping) and len(spec) == 1:
            ((kind, options),) = spec.items()
            if isinstance(options, Mapping) and options.keys() <= {"tolerance", "relative"}:
                return Rule(kind, **options)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.message}", hint=error.hint) from None
    raise ConfigError(
        f"{path}: a rule is a word, or a word with its options",
        hint=f"use {', '.join(KINDS)}, or {{number: {{tolerance: 0.01}}}}",
    )
