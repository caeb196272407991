"""Gates: what must hold before something ships, and how that is written.

    pass_rate >= 90%                    a share, of every endpoint on every set
    pass_rate[billing] >= 85%           of the samples with a tag
    p99_ttft_ms <= 0.8s on support      on one set
    contains.pass_rate >= 0.9 of vendor one scorer's own rate, one endpoint's
    pass@5 >= 0.8                       one of five answers passes; `pass^5`: all five do
    pass_rate >= baseline - 2%          not worse than a baseline by more than two points
    p99_ttft_ms <= "vendor" * 1.1       nor slower than another endpoint, or run, by more than a tenth

A gate is decided on the interval of what was measured (`evalkit.verdict`), not on the value alone: a value on
the right side of the bound with an interval that crosses it is undecided. Names with spaces go in double
quotes. The same as a mapping, for a suite's file: `{gate: pass_rate, against: baseline, margin: 2%}`, with
`tag`, `set`, `endpoint` and `confidence` where wanted.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from evalkit.metric import METRICS as METRICS
from evalkit.metric import Metric, Unit, metric
from evalkit.stats import LEVEL
from guardrails.errors import ConfigError

Op = Literal[">=", "<=", ">", "<"]

BASELINE = "baseline"
"""What a gate calls the run that it is compared with, whichever that is."""


# What a number may be followed by, and what that multiplies it with.
_SUFFIXES: Mapping[Unit, Mapping[str, float]] = {
    "share": {"": 1.0, "%": 0.01},
    "ms": {"": 1.0, "ms": 1.0, "s": 1000.0},
    "usd": {"": 1.0, "usd": 1.0},
    "score": {"": 1.0},
}
_UNITS = frozenset(unit for units in _SUFFIXES.values() for unit in units)
_SIGNS: Mapping[str, Op] = {">=": ">=", "<=": "<=", "≥": ">=", "≤": "<=", ">": ">", "<": "<"}
_MAX_GATE = 400
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_UNIT = re.compile(r"%|[A-Za-z]+")
_BARE = re.compile(r"[^\s\[\]\"<>=≥≤]+")
_USUAL = (
    "write METRIC OP NUMBER, such as `pass_rate >= 0.90`, or METRIC OP baseline (or a run or an endpoint in "
    "double quotes), such as `pass_rate >= baseline - 2%`"
)


@dataclass(frozen=True, slots=True)
class Relative:
    """A bound that another endpoint or run sets: `times` × its value + `plus`, in the metric's unit."""

    to: str
    plus: float = 0.0
    times: float = 1.0


@dataclass(frozen=True, slots=True)
class Gate:
    """A bound on a metric: a number in the metric's unit (a share in [0, 1], ms, USD), or a `Relative` one.

    None for `tag`, `set` and `endpoint`: all samples, each set, each endpoint. `confidence` is that of the
    two-sided interval that decides.
    """

    metric: Metric
    op: Op
    bound: float | Relative
    tag: str | None = None
    set: str | None = None
    endpoint: str | None = None
    confidence: float = LEVEL

    @property
    def target(self) -> str:
        """What the bound is on: `pass_rate[billing] on support`."""
        name = self.metric.name
        if self.metric.scorer is not None:
            name = _quoted(self.metric.scorer) + name[len(self.metric.scorer) :]
        tag = "" if self.tag is None else f"[{_quoted(self.tag)}]"
        places = (("on", self.set), ("of", self.endpoint))
        return name + tag + "".join(f" {word} {_quoted(at)}" for word, at in places if at is not None)

    def __str__(self) -> str:
        """The gate in one line; its confidence has no place there."""
        return f"{self.target} {self.op} {self._bound()}"

    def _bound(self) -> str:
        if not isinstance(self.bound, Relative):
            return repr(self.bound)
        to = BASELINE if self.bound.to == BASELINE else _quoted(self.bound.to, always=True)
        times = "" if self.bound.times == 1 else f" * {self.bound.times!r}"
        plus = self.bound.plus
        return to + times + ("" if not plus else f" {'-' if plus < 0 else '+'} {abs(plus)!r}")

    @property
    def against(self) -> str | None:
        """The endpoint or the run that the bound is relative to; None when the bound is a number."""
        return self.bound.to if isinstance(self.bound, Relative) else None

    @property
    def limit(self) -> float:
        """What the measured number is held against: the bound; of a relative gate, a difference's bound."""
        return self.bound.plus if isinstance(self.bound, Relative) else self.bound

    def admits(self, value: float) -> bool:
        """Whether a value (of a relative gate: a difference) satisfies the bound."""
        if self.op == ">=":
            return value >= self.limit
        if self.op == "<=":
            return value <= self.limit
        return value > self.limit if self.op == ">" else value < self.limit

    @property
    def satisfiable(self) -> bool:
        """Whether any value that the metric can have satisfies the bound."""
        if self.against is not None or self.metric.unit == "score":
            return True
        most = 1.0 if self.metric.unit == "share" else math.inf
        return self.admits(most if self.upward else 0.0)

    @property
    def upward(self) -> bool:
        """Whether more is better."""
        return self.op in (">=", ">")


def _quoted(name: str, *, always: bool = False) -> str:
    if not always and _BARE.fullmatch(name) and name not in ("on", "of"):
        return name
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


# --- reading -----------------------------------------------------------------------------------------------


def parse(given: str | Mapping[str, Any]) -> Gate:
    """Read a gate, written as one line or as a mapping. Raises `ConfigError` that says what is allowed."""
    return _line(given) if isinstance(given, str) else _mapping(given)


@dataclass(slots=True)
class _Reader:
    """A line, and how far it has been read."""

    text: str
    at: int = 0

    def space(self) -> None:
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1

    def take(self, *words: str) -> str | None:
        """The first of `words` that comes next."""
        self.space()
        found = next((word for word in words if self.text.startswith(word, self.at)), None)
        self.at += len(found or "")
        return found

    def match(self, pattern: re.Pattern[str]) -> str | None:
        self.space()
        found = pattern.match(self.text, self.at)
        if found is None:
            return None
        self.at = found.end()
        return found[0]

    def word(self, word: str) -> bool:
        """Whether `word` comes next, and ends there."""
        before = self.at
        if self.match(_BARE) == word:
            return True
        self.at = before
        return False

    def name(self) -> str:
        """A bare name or a quoted one, or the two in one piece; empty where there is none."""
        self.space()
        quoted = self.quoted()
        follows = self.at < len(self.text) and not self.text[self.at].isspace()
        return quoted + ((self.match(_BARE) or "") if follows else "")

    def quoted(self) -> str:
        """A name in double quotes; empty where there is none."""
        if not self.text.startswith('"', self.at):
            return ""
        found, at = [], self.at + 1
        while at < len(self.text) and self.text[at] != '"':
            at += self.text[at] == "\\"
            found.append(self.text[at : at + 1])
            at += 1
        if at >= len(self.text):
            raise ConfigError(f"a quote in the gate {self.text[:60]!r} does not end")
        self.at = at + 1
        return "".join(found)

    def unreadable(self) -> ConfigError:
        return ConfigError(f"cannot read the gate {self.text[:60]!r}", hint=_USUAL)


def _line(text: str) -> Gate:
    if len(text) > _MAX_GATE:
        raise ConfigError(f"the gate {text[:60]!r} … has {len(text):,} characters", hint=_USUAL)
    reader = _Reader(text)
    target = _target(reader)
    sign = reader.take(*_SIGNS)
    if sign is None:
        raise reader.unreadable()
    bound = _bound(reader, target.metric)
    target = _places(reader, target)
    if reader.at != len(text):
        raise reader.unreadable()
    made = replace(target, op=_SIGNS[sign], bound=bound)
    if not made.satisfiable:
        ends = "from 0 to 1" if made.metric.unit == "share" else "not negative"
        raise ConfigError(f"the gate `{made}` can never hold: {made.metric.name} is {ends}")
    return made


def _target(reader: _Reader) -> Gate:
    """The part before the sign; the bound is still to come."""
    name = reader.name()
    if not name or not (name[0].isalpha() or name[0] == "_" or '"' in reader.text[: reader.at]):
        raise reader.unreadable()
    tag = _tag(reader)
    after = reader.at
    if not any(sign in reader.text[after:] for sign in _SIGNS):
        raise reader.unreadable()
    return _places(reader, Gate(metric(name), ">=", 0.0, tag=tag))


def _tag(reader: _Reader) -> str | None:
    if reader.take("[") is None:
        return None
    reader.space()
    if reader.text.startswith('"', reader.at):
        tag = reader.name()
    else:
        end = reader.text.find("]", reader.at)
        tag = reader.text[reader.at : max(end, 0)].strip()
        reader.at = max(end, reader.at)
    if reader.take("]") is None or not tag:
        raise ConfigError(
            f"the tag in the gate {reader.text[:60]!r} cannot be read", hint="write pass_rate[TAG] >= 0.85"
        )
    return tag


def _places(reader: _Reader, gate: Gate) -> Gate:
    """`on SET` and `of ENDPOINT`, in either order, each once."""
    while True:
        if gate.set is None and reader.word("on"):
            gate = replace(gate, set=_place(reader))
        elif gate.endpoint is None and reader.word("of"):
            gate = replace(gate, endpoint=_place(reader))
        else:
            reader.space()
            return gate


def _place(reader: _Reader) -> str:
    if not (name := reader.name()):
        raise reader.unreadable()
    return name


def _unit(reader: _Reader) -> str:
    before = reader.at
    unit = reader.match(_UNIT) or ""
    if unit.lower() not in _UNITS:
        reader.at, unit = before, ""
    return unit


def _bound(reader: _Reader, measured: Metric) -> float | Relative:
    if (digits := reader.match(_NUMBER)) is not None:
        return _absolute(measured, digits, _unit(reader))
    # Only `baseline` may stand without quotes: a number with a typing error must not become a run's name.
    name = reader.take(BASELINE) or reader.quoted()
    if not name:
        raise reader.unreadable()
    sign = reader.take("-", "−", "+", "*", "×")
    if sign is None:
        return Relative(name)
    if (digits := reader.match(_NUMBER)) is None or digits[0] in "+-":
        raise reader.unreadable()
    if sign in "*×":
        if (times := _finite(measured, float(digits))) <= 0:
            raise ConfigError(f"{measured.name} can only be compared with a positive multiple of {name}")
        more = reader.take("-", "−", "+")
        plus = reader.match(_NUMBER) if more else None
        if more and (plus is None or plus[0] in "+-"):
            raise reader.unreadable()
        return Relative(name, 0.0 if plus is None else _signed(more, _finite(measured, float(plus))), times)
    return _margin(measured, name, sign, digits, _unit(reader))


def _signed(sign: str | None, value: float) -> float:
    return value if sign == "+" else -value


def _margin(measured: Metric, to: str, sign: str, digits: str, unit: str) -> Relative:
    """`- 2%` is two points of a share, and a fiftieth of anything else."""
    if unit == "%" and measured.unit != "share":
        times = 1 + _signed(sign, float(digits) / 100)
        if not 0 < times < math.inf:
            raise ConfigError(f"{to} {sign} {digits}% leaves nothing to compare {measured.name} with")
        return Relative(to, times=times)
    margin = _absolute(measured, digits, unit)
    return Relative(to, plus=_signed(sign, margin))


def _absolute(measured: Metric, digits: str, suffix: str) -> float:
    scales = _SUFFIXES[measured.unit]
    if suffix.lower() not in scales:
        fitting = ", ".join(repr(unit) for unit in scales if unit) or "no unit"
        raise ConfigError(f"the unit {suffix!r} does not fit {measured.name}", hint=f"it takes {fitting}")
    # Divided, not multiplied by 0.01: 29 / 100 is 0.29, and 29 * 0.01 is not.
    bound = float(digits) / 100 if suffix == "%" else float(digits) * scales[suffix.lower()]
    _finite(measured, bound)
    if measured.unit == "share" and not 0 <= bound <= 1:
        meant = f"; did you mean {digits}%?" if 1 < bound <= 100 and not suffix else ""
        raise ConfigError(f"{measured.name} is a share between 0 and 1, and {digits}{suffix} is not{meant}")
    return bound


def _finite(measured: Metric, bound: float) -> float:
    if not math.isfinite(bound):
        raise ConfigError(f"the bound of {measured.name} is too large to be a number")
    return bound


# --- mappings ----------------------------------------------------------------------------------------------

FIELDS = ("gate", "against", "margin", "confidence", "tag", "set", "endpoint")
"""What a gate may say when it is written as a mapping."""


def _mapping(given: Mapping[str, Any]) -> Gate:
    if strange := sorted(str(name) for name in given.keys() - set(FIELDS)):
        raise ConfigError(f"a gate has no {strange[0][:60]!r}", hint=f"its fields are {', '.join(FIELDS)}")
    for name in ("gate", "against", "tag", "set", "endpoint"):
        if name in given and not (isinstance(given[name], str) and given[name]):
            raise ConfigError(f"the {name} of a gate is a text that is not empty")
    if "gate" not in given:
        raise ConfigError(
            "a gate written as a mapping needs `gate`", hint="{gate: pass_rate >= 0.90, tag: x}"
        )
    confidence = _confidence(given.get("confidence", LEVEL))
    if "against" in given:
        made = _against(given["gate"], given["against"], given.get("margin", 0))
    elif "margin" in given:
        raise ConfigError(
            "a margin belongs to `against`", hint="{gate: pass_rate, against: baseline, margin: 2%}"
        )
    else:
        made = _line(given["gate"])
    for name in ("tag", "set", "endpoint"):
        if name in given and getattr(made, name) is not None:
            raise ConfigError(f"the gate {given['gate'][:60]!r} says its {name} twice")
    return replace(
        made,
        confidence=confidence,
        tag=given.get("tag", made.tag),
        set=given.get("set", made.set),
        endpoint=given.get("endpoint", made.endpoint),
    )


SUREST = 0.999999
"""Beyond it intervals say nothing: no sample is that typical, and a number next to 1 has no quantile."""


def _confidence(given: Any) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0.5 <= given <= SUREST:
        raise ConfigError(f"the confidence of a gate is a number from 0.5 to {SUREST}, such as 0.95")
    return float(given)


def _against(text: str, to: str, margin: Any) -> Gate:
    """`pass_rate` against a baseline: not worse than it by more than the margin."""
    reader = _Reader(text[:_MAX_GATE])
    name = reader.name()
    measured = metric(name)
    tag = _tag(reader)
    reader.space()
    if reader.at != len(text):
        raise ConfigError(
            f"with `against`, `gate` is a metric and {text[:60]!r} is not",
            hint=f"{{gate: {measured.name}, against: {to}, margin: 2%}}",
        )
    written = str(margin).strip() if isinstance(margin, int | float | str) else ""
    digits = _NUMBER.match(written)
    if isinstance(margin, bool) or digits is None or digits[0][0] in "+-":
        raise ConfigError("the margin of a gate is a number that is not negative, such as 0.02 or 2%")
    sign = "-" if measured.rising else "+"
    relative = _margin(measured, to, sign, digits[0], written[digits.end() :].strip())
    return Gate(measured, ">=" if measured.rising else "<=", relative, tag=tag)
