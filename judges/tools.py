"""The `tool_calls` judge: the calls that the model asked for against those that were expected.

Expected calls stand in the sample's metadata::

    {"id": "w1", "input": "Weather in Bern and Rome?", "metadata": {"tool_calls": [
        {"name": "weather", "arguments": {"city": "Bern"}},
        {"name": "weather", "arguments": {"city": "Rome"}}]}}

A call without `arguments` may have any. An empty list expects that no tool is called, in every order. In
place of metadata, each reference may hold such a list as JSON text; any of them will do.

What is not covered: what a tool would have answered, and whether two different calls come to the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from guardrails.call import ToolUse
from guardrails.errors import ConfigError
from judges.judge import MAX_ANSWER, Answer, Question, Score, aside, misasked, passing
from judges.values import Leaves, Rule, Rules, Unreadable, filled, leaves, read

METADATA = "tool_calls"
MAX_CALLS = 50

Order = Literal["exact", "in_order", "any_order", "subset"]


@dataclass(frozen=True, slots=True)
class _Call:
    """A call; its arguments are None when any will do (expected), or when they are not JSON (made)."""

    name: str
    arguments: Leaves | None


@dataclass(frozen=True, slots=True)
class ToolCalls:
    """Compares calls by name and arguments. The value is a share of calls; it passes from `threshold` on.

    =============  ============================================================  =======================
    `order`        passes when                                                   the value is a share of
    =============  ============================================================  =======================
    `exact`        the expected calls, in their order, and no others              the longer list
    `in_order`     the expected calls, in their order, others in between          the expected calls
    `any_order`    the expected calls, in any order, others too                   the expected calls
    `subset`       no call but expected ones; some may be missing, even all       the calls that were made
    =============  ============================================================  =======================

    With `extra` off, calls that were not expected count as wrong for `in_order` and `any_order` too.
    `arguments`: `exact`, `subset` (the expected ones are there, others may be), or `any` (names only).
    `tolerance` and `relative` are for all numbers; `rules` and `ignore` name arguments, nested ones with
    dots, as for the judge `fields`. Of a conversation, the calls of all its turns count.
    """

    order: Order = "exact"
    extra: bool = True
    arguments: Literal["exact", "subset", "any"] = "exact"
    rules: Mapping[str, str | dict[str, Any]] = field(default_factory=dict)
    ignore: tuple[str, ...] = ()
    tolerance: float = 0.0
    relative: float = 0.0
    threshold: float = 1.0
    name: str = "tool_calls"
    _rules: Rules = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise ConfigError("threshold is a share from 0 to 1")
        default = Rule("near", self.tolerance, self.relative) if self.tolerance or self.relative else Rule()
        made = Rules.of(self.rules, default=default, ignore=self.ignore)
        object.__setattr__(self, "_rules", made)

    def check(self, question: Question, /) -> str | None:
        """Complains when no calls are expected at all, or they are not written as calls."""
        try:
            wanted = self._wanted(question)
        except Unreadable as error:
            return str(error)
        missing = f'nothing is expected: put [{{"name": …, "arguments": {{…}}}}] under metadata.{METADATA}'
        return None if wanted else missing

    async def __call__(self, question: Question, answer: Answer, /) -> Score:
        """Compares the calls of the answer with the nearest list of expected ones."""
        if (failed := misasked(self, question)) is not None:
            return failed
        uses = list(_uses(answer))
        if len(uses) > MAX_CALLS:
            return Score.unjudged("too_long", f"{len(uses):,} calls; {MAX_CALLS} are the most that is judged")
        if (length := sum(len(use.arguments) for use in uses)) > MAX_ANSWER:
            most = f"{MAX_ANSWER:,} are the most that is judged"
            return Score.unjudged("too_long", f"the arguments have {length:,} characters; {most}")
        return await aside(length, lambda: self._compared(question, uses))

    def _compared(self, question: Question, uses: Sequence[ToolUse]) -> Score:
        made = [_Call(use.name, self._read(use.arguments)) for use in uses]
        scores = [self._score(wanted, made) for wanted in self._wanted(question)]
        return max(scores, key=lambda score: score.value or 0.0)

    def _read(self, text: str) -> Leaves | None:
        try:
            value = read(text) if text.strip() else {}
            return self._arguments(value) if isinstance(value, dict) else None
        except Unreadable:
            return None

    def _wanted(self, question: Question) -> list[list[_Call]]:
        if METADATA in question.metadata:
            return [self._calls(question.metadata[METADATA], f"metadata.{METADATA}")]
        lists = []
        for number, reference in enumerate(question.references, start=1):
            lists.append(self._calls(read(reference), f"reference {number}"))
        return lists

    def _calls(self, given: Any, where: str) -> list[_Call]:
        if not isinstance(given, list) or len(given) > MAX_CALLS:
            raise Unreadable(f"{where} must be a list of at most {MAX_CALLS} calls")
        return [self._call(each, f"{where}[{index}]") for index, each in enumerate(given)]

    def _call(self, given: Any, where: str) -> _Call:
        if not isinstance(given, Mapping) or not isinstance(given.get("name"), str) or not given["name"]:
            raise Unreadable(f'{where} must be a call such as {{"name": "weather", "arguments": {{}}}}')
        if given.keys() - {"name", "arguments"}:
            raise Unreadable(f"{where} has a field that is neither name nor arguments")
        arguments = given.get("arguments")
        if arguments is not None and not isinstance(arguments, dict):
            raise Unreadable(f"{where}.arguments must be an object")
        return _Call(given["name"], None if arguments is None else self._arguments(arguments))

    def _arguments(self, given: Mapping[str, Any]) -> Leaves:
        return self._rules.counted(leaves(given)) if given else {}

    def _score(self, wanted: Sequence[_Call], made: Sequence[_Call]) -> Score:
        fits = [[self._fits(one, other) for other in made] for one in wanted]
        in_order = self.order in ("exact", "in_order")
        matched = longest_in_order(fits) if in_order else most_pairs(fits)
        count = self._count(len(wanted), len(made))
        reason = f"{matched} of {len(wanted)} expected calls made"
        reason += " in their order" if in_order and len(wanted) > 1 else ""
        if len(made) > matched:
            reason += f"; {len(made) - matched} made that match none"
        return passing(matched / count if count else 1.0, self.threshold, reason)

    def _count(self, wanted: int, made: int) -> int:
        if self.order == "subset" or not wanted:  # where none is expected, each that was made is wrong
            return made
        return max(wanted, made) if self.order == "exact" or not self.extra else wanted

    def _fits(self, wanted: _Call, made: _Call) -> bool:
        if wanted.name != made.name:
            return False
        if wanted.arguments is None or self.arguments == "any":
            return True
        if made.arguments is None or (
            self.arguments == "exact" and wanted.arguments.keys() != made.arguments.keys()
        ):
            return False
        given = made.arguments
        right = filled(wanted.arguments, given) if self.arguments == "subset" else frozenset()
        return all(
            path in right or (path in given and self._rules.at(path).fits(value, given[path]))
            for path, value in wanted.arguments.items()
        )


def _uses(answer: Answer) -> Iterator[ToolUse]:
    if not answer.turns:
        yield from answer.tool_calls
    for turn in answer.turns:
        if turn.role == "assistant":
            yield from (part for part in turn.parts if isinstance(part, ToolUse))


def longest_in_order(fits: Sequence[Sequence[bool]]) -> int:
    """The most pairs (row, column) that fit and go up in both: the longest common subsequence."""
    before = [0] * (len(fits[0]) + 1 if fits else 1)
    for row in fits:
        now = [0]
        for column, fit in enumerate(row):
            now.append(before[column] + 1 if fit else max(before[column + 1], now[column]))
        before = now
    return before[-1]


def most_pairs(fits: Sequence[Sequence[bool]]) -> int:
    """The most pairs that fit, each row and each column in one at most (Kuhn's augmenting paths)."""
    taken: dict[int, int] = {}

    def place(row: int, seen: set[int]) -> bool:
        for column in _free_first(fits[row], taken):
            if column not in seen:
                seen.add(column)
                if column not in taken or place(taken[column], seen):
                    taken[column] = row
                    return True
        return False

    return sum(place(row, set()) for row in range(len(fits)))


def _free_first(row: Sequence[bool], taken: Mapping[int, int]) -> Iterable[int]:
    return sorted((column for column, fit in enumerate(row) if fit), key=lambda column: column in taken)
