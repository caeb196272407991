"""What is done about what was found: rules, and the verdict that they make. Pure values and functions.

A `Rule` says what happens to the findings of one detector; a `Rulebook` has the rules of all directions:

- `input`: the texts of a request. `tool_results`: what tools answered in it; without rules of its own it is
  looked at like the rest of the input.
- `output`: the text, reasoning and refusal of an answer. `tool_arguments`: what it wants to call tools with;
  without rules of its own like the rest of the output.

`decide` turns findings into a `Verdict`. Where findings of several rules overlap, the strictest action wins
for all of their union, in the order of `ACTIONS`. Rules that only flag, and rules in the shadow, never touch
a text and never hold one back.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from operator import is_
from typing import Any, Literal, Protocol

from guardrails.call import Call, Request
from guardrails.errors import ConfigError
from guardrails.filters.detector import (
    UNSCANNABLE,
    AsyncDetector,
    Detector,
    Edit,
    Finding,
    Mark,
    by_score,
    named,
    resolve,
)

Direction = Literal["input", "output", "tool_arguments", "tool_results"]
Action = Literal["block", "reask", "redact", "replace", "pseudonymize", "flag"]
Hold = Literal["stride", "sentence", "all"]
Otherwise = Literal["block", "pass_and_flag"] | Detector

DIRECTIONS: tuple[Direction, ...] = ("input", "output", "tool_arguments", "tool_results")
ACTIONS: tuple[Action, ...] = ("block", "reask", "redact", "replace", "pseudonymize", "flag")
"""The strictest first."""
HOLDS: tuple[Hold, ...] = ("stride", "sentence", "all")
STRIDE = 200
CONTEXT = 65_536


class Pseudonyms(Protocol):
    """What `pseudonymize` asks: the vault of one conversation (`guardrails.filters.vault`)."""

    def token(self, kind: str, value: str, *, plain: bool = False) -> str:
        """What stands for this value throughout the conversation; `plain`: what looks like nothing else."""

    def comes_back(self, text: str, edits: Sequence[Edit]) -> bool:
        """Whether the tokens that the edits put into the text could be told from the rest of it."""

    def literals(self, text: str) -> list[Finding]:
        """What somebody wrote that could be read as one of the tokens."""

    def spare(self, text: str, findings: Iterable[Finding]) -> list[Finding]:
        """The findings but for those in tokens: a stand-in is nobody's data."""


VaultOf = Callable[[Call], Pseudonyms]


@dataclass(frozen=True, slots=True)
class Rule:
    """What happens to what one detector finds.

    `action`, one of `ACTIONS`: raise `Blocked`; ask the model again, `times` at most, then block (holds the
    whole answer, output only); put the kind, or `text`, in its place; put a token of the conversation's vault
    in its place (input only); or write it down. `shadow`: write down what would be done, and do nothing.

    `threshold` and `kinds` pick findings. `roles` says whose texts of a request are looked at (`user`,
    `tool`, `assistant`, `system`, `developer`), all when left out. `sample` is the share of calls in which
    the rule is asked at all. `budget_ms` is the time that each look may take; `on_exceeded` and `on_crash`
    say what happens without an answer: `"block"`, `"pass_and_flag"` (the call passes, `not_scanned` in its
    record) or a cheaper detector.

    `hold` is about judges of whole texts in a stream: text leaves once it is judged up to the next `stride`,
    up to the end of its sentence, or only when all of the answer is. `scope`, `stride` and `context` are the
    detector's own when left out.
    """

    detector: Detector | AsyncDetector
    action: Action = "redact"
    times: int = 1
    text: str = ""
    threshold: float = 0.0
    kinds: tuple[str, ...] | None = None
    roles: tuple[str, ...] | None = None
    sample: float = 1.0
    shadow: bool = False
    budget_ms: float | None = None
    on_exceeded: Otherwise = "block"
    on_crash: Otherwise = "block"
    hold: Hold = "stride"
    stride: int | None = None
    context: int | None = None
    scope: Literal["span", "text", ""] = ""
    name: str = ""

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", self.detector.name)
        if found := "; ".join(self._mistakes()):
            raise ConfigError(f"{self.name}: {found}")

    def _mistakes(self) -> Iterable[str]:
        if self.action not in ACTIONS:
            yield f"unknown action {self.action!r}: use one of {', '.join(ACTIONS)}"
        if self.hold not in HOLDS:
            yield f"unknown hold {self.hold!r}: use one of {', '.join(HOLDS)}"
        if not 1 <= self.times <= 10:
            yield f"times is {self.times}: ask again 1 to 10 times"
        if not 0 <= self.threshold <= 1:
            yield f"threshold is {self.threshold}, but scores lie between 0 and 1"
        if not 0 <= self.sample <= 1:
            yield f"sample is {self.sample}, but it is a share between 0 and 1"
        if self.budget_ms is not None and not self.budget_ms > 0:
            yield f"budget_ms is {self.budget_ms}: it has to be above 0"
        if self.stride is not None and self.stride < 1:
            yield f"stride is {self.stride}: it has to be at least 1 character"
        for what, otherwise in (("on_exceeded", self.on_exceeded), ("on_crash", self.on_crash)):
            if isinstance(otherwise, str):
                if otherwise not in ("block", "pass_and_flag"):
                    yield f"unknown {what} {otherwise!r}: use block, pass_and_flag or another detector"
            elif inspect.iscoroutinefunction(otherwise.detect):
                yield f"{what}: {otherwise.name} waits for somebody else too: use one that does not"

    @property
    def acts(self) -> bool:
        """Whether anything comes of a finding but a line in the record."""
        return self.action != "flag" and not self.shadow

    @property
    def stops(self) -> bool:
        """Whether a finding ends the call, or this attempt at it."""
        return self.action in ("block", "reask") and not self.shadow

    @property
    def waits(self) -> bool:
        """Whether its detector waits for somebody else (an `AsyncDetector`)."""
        return inspect.iscoroutinefunction(self.detector.detect)

    @property
    def judges(self) -> bool:
        """Whether its detector judges texts as a whole."""
        return self.waits or (self.scope or getattr(self.detector, "scope", "span")) == "text"

    @property
    def whole(self) -> bool:
        """Whether its detector has to see the whole answer."""
        return self._wants_all or self.hold == "all"

    @property
    def _wants_all(self) -> bool:
        return self.judges and self.stride is None and getattr(self.detector, "stride", None) == 0

    @property
    def steps(self) -> int:
        """Characters between two judgements."""
        return self.stride or getattr(self.detector, "stride", None) or STRIDE

    @property
    def looks_back(self) -> int:
        """Characters of the text before that a judge is shown."""
        return getattr(self.detector, "context", CONTEXT) if self.context is None else self.context

    def listens_to(self, role: str) -> bool:
        """Whether it is asked about what this role says in a request."""
        return self.roles is None or role in self.roles

    def looks_at(self, channel: str) -> bool:
        """Whether it is asked about this channel of an answer; a judge of whole answers about text only."""
        default = ("text",) if self._wants_all else None
        channels = getattr(self.detector, "channels", default)
        return channels is None or channel in channels

    def about(self, request: Request) -> Rule:
        """The rule for answers to this request: its detector may compare them with what was asked."""
        about = getattr(self.detector, "about", None)
        return self if about is None else replace(self, detector=about(request))

    def select(self, findings: Iterable[Finding]) -> list[Finding]:
        """The findings that the rule is about, under its name."""
        kinds = self.kinds
        return [
            f if f.detector == self.name else Finding(f.kind, f.start, f.end, f.score, self.name)
            for f in findings
            if (f.score >= self.threshold and (kinds is None or f.kind in kinds)) or f.kind == UNSCANNABLE
        ]


@dataclass(frozen=True)
class Rules:
    """The rules of one direction, under names of their own (`pii`, `pii:2`), the strictest first."""

    rules: tuple[Rule, ...]

    @classmethod
    def of(cls, given: Sequence[Rule | Detector | AsyncDetector], **common: Any) -> Rules:
        """Rules from rules and detectors; the latter become rules with what is `common` to them."""
        taken: dict[str, int] = {}
        rules = []
        for item in given:
            rule = item if isinstance(item, Rule) else Rule(item, **common)
            count = taken[rule.name] = taken.get(rule.name, 0) + 1
            rules.append(rule if count == 1 else replace(rule, name=f"{rule.name}:{count}"))
        return cls(tuple(sorted(rules, key=lambda rule: ACTIONS.index(rule.action))))

    def about(self, request: Request) -> Rules:
        """The rules for answers to this request."""
        rules = tuple(rule.about(request) for rule in self.rules)
        return self if all(map(is_, rules, self.rules)) else Rules(rules)

    @cached_property
    def by_name(self) -> Mapping[str, Rule]:
        """The rules by their names."""
        return {rule.name: rule for rule in self.rules}

    @cached_property
    def acting(self) -> tuple[Rule, ...]:
        """Those that change or stop something."""
        return tuple(rule for rule in self.rules if rule.acts)

    @cached_property
    def watching(self) -> tuple[Rule, ...]:
        """Those that only write down."""
        return tuple(rule for rule in self.rules if not rule.acts)

    def rule(self, finding: Finding) -> Rule:
        """The rule of a finding. What no detector found (what cannot be scanned) belongs to the strictest."""
        return self.by_name.get(finding.detector) or (self.acting or self.rules)[0]

    def rank(self, finding: Finding) -> tuple[Any, ...]:
        """The order of overlapping findings: the strictest action, then as usual."""
        return ACTIONS.index(self.rule(finding).action), *by_score(finding)

    def resolve(self, findings: Iterable[Finding]) -> list[Finding]:
        """Disjoint findings in order; the strictest rule gets the union of each overlapping group."""
        return resolve(findings, self.rank)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do about a text. All findings are disjoint and in order but for those of `watched`.

    `stops` end the call, or this attempt when `again` (how often it may be tried again) is above 0. `changes`
    are edited. `watched` are those of rules that only flag or stand in the shadow; they may overlap.
    """

    stops: tuple[Finding, ...] = ()
    changes: tuple[Finding, ...] = ()
    watched: tuple[Finding, ...] = ()
    again: int = 0


def decide(findings: Iterable[Finding], rules: Rules) -> Verdict:
    """The verdict of `rules` on what was found in one text. A finding's `detector` is its rule's name."""
    acting: list[Finding] = []
    watched: dict[str, list[Finding]] = {}
    for finding in findings:
        rule = rules.rule(finding)
        if rule.acts:
            acting.append(finding)
        else:
            watched.setdefault(rule.name, []).append(finding)
    if not acting and not watched:
        return Verdict()
    disjoint = rules.resolve(acting)
    stops = tuple(f for f in disjoint if rules.rule(f).stops)
    blocks = any(rules.rule(f).action == "block" for f in stops)
    return Verdict(
        stops,
        tuple(f for f in disjoint if not rules.rule(f).stops),
        tuple(f for name in sorted(watched) for f in resolve(watched[name])),
        0 if blocks else max((rules.rule(f).times for f in stops), default=0),
    )


def edits(
    changes: Iterable[Finding], text: str, rules: Rules, mark: Mark = named, vault: Pseudonyms | None = None
) -> list[Edit]:
    """How `text` is changed for a verdict's changes. Positions count from the start of `text`.

    Where a surrogate could not be told from what stands around it, the whole text gets plain tokens.
    """
    changes = tuple(changes)

    def made(plain: bool) -> list[Edit]:
        out = []
        for finding in changes:
            rule = rules.rule(finding)
            if rule.action == "pseudonymize" and vault is not None:
                new = vault.token(finding.kind, text[finding.start : finding.end], plain=plain)
            else:
                new = rule.text if rule.action == "replace" else mark(finding)
            out.append(Edit(finding.start, finding.end, new))
        return out

    edits = made(plain=False)
    return edits if vault is None or vault.comes_back(text, edits) else made(plain=True)


@dataclass(frozen=True, slots=True)
class Rulebook:
    """The rules of all directions.

    None for a tool's direction: those of the side that it belongs to, but for judges of whole answers, who
    could make nothing of it.
    """

    input: tuple[Rule, ...] = ()
    output: tuple[Rule, ...] = ()
    tool_arguments: tuple[Rule, ...] | None = None
    tool_results: tuple[Rule, ...] | None = None
    source: str = field(default="", compare=False)

    def of(self, direction: Direction) -> tuple[Rule, ...]:
        """The rules that hold in a direction."""
        match direction:
            case "tool_arguments":
                if self.tool_arguments is not None:
                    return self.tool_arguments
                return tuple(rule for rule in self.output if rule.looks_at("tool_arguments"))
            case "tool_results":
                return self.input if self.tool_results is None else self.tool_results
            case _:
                side: tuple[Rule, ...] = getattr(self, direction)
                return side

    def warm(self) -> None:
        """Load now what the first call would wait for. Safe in any thread."""
        detectors: list[Any] = [rule.detector for way in DIRECTIONS for rule in self.of(way)]
        while detectors:
            detector = detectors.pop()
            if hasattr(detector, "warm"):
                detector.warm()
            elif hasattr(detector, "detector"):  # it wraps another one
                detectors.append(detector.detector)


def misplaced(action: Action, direction: Direction) -> str:
    """Why an action cannot work in a direction; empty if it can."""
    if action == "reask" and direction in ("input", "tool_results"):
        return "reask asks for another answer, so it is for output and tool_arguments"
    if action == "pseudonymize" and direction in ("output", "tool_arguments"):
        return "pseudonymize is for input and tool_results: an answer gets its values back"
    return ""
