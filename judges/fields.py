"""The `fields` judge: a JSON answer against an expected one, field by field.

What is covered: nested objects and lists (by index), numbers with tolerance, texts but for their case, fields
that do not count. What is not: lists whose order does not matter, and keys with dots in them, which a rule
cannot name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from guardrails.errors import ConfigError
from judges.judge import Answer, Question, Score, aside, passing, unfit
from judges.schema import unfenced
from judges.values import Leaves, Path, Rules, Unreadable, filled, leaves, read, rule_of

METADATA = "fields"


@dataclass(frozen=True, slots=True)
class Fields:
    """The value is the share of fields that are right; it passes from `threshold` on.

    What is expected stands in the sample's metadata under `fields`, as JSON, or in its references as JSON
    text (any of which will do). A field is a leaf of it: a text, a number, true, false, null, or an empty
    list or object. With `extra`, an object in it that is empty may have something in it in the answer; a list
    may not. `rules` says when a field is right, by its path, `default` for all others (see
    `judges.values.Rule`)::

        fields:
          rules: {total: {number: {tolerance: 0.01}}, "items.*.name": casefold, notes: ignore}
          extra: false        # a field that was not expected counts as a wrong one
          threshold: 0.9

    With `fence`, an answer that holds one Markdown code block is judged by what the block holds.
    """

    rules: Mapping[str, str | dict[str, Any]] = field(default_factory=dict)
    default: str | dict[str, Any] = "exact"
    extra: bool = True
    fence: bool = True
    threshold: float = 1.0
    name: str = "fields"
    _rules: Rules = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check_threshold(self.threshold)
        made = Rules.of(self.rules, default=rule_of(self.default, "default"))
        object.__setattr__(self, "_rules", made)

    def check(self, question: Question, /) -> str | None:
        """Complains when nothing is expected, or something that is not JSON, or only what is ignored."""
        try:
            wanted = self._wanted(question)
        except Unreadable as error:
            return str(error)
        if not wanted:
            return f"nothing is expected: put a JSON object under metadata.{METADATA}, or in the reference"
        return None if all(wanted) else "all that is expected is ignored by the rules"

    async def __call__(self, question: Question, answer: Answer, /) -> Score:
        """Reads the answer as JSON and compares it with the nearest of what is expected."""
        if (failed := unfit(self, question, answer)) is not None:
            return failed
        return await aside(len(answer.text), lambda: self._compared(question, answer.text))

    def _compared(self, question: Question, text: str) -> Score:
        try:
            given = self._rules.counted(leaves(read(unfenced(text) if self.fence else text)))
        except Unreadable as error:
            return passing(0.0, self.threshold, str(error))
        scores = [self._score(wanted, given) for wanted in self._wanted(question)]
        return max(scores, key=lambda score: score.value or 0.0)

    def _wanted(self, question: Question) -> list[dict[Path, Any]]:
        if METADATA in question.metadata:
            values = [question.metadata[METADATA]]
        else:
            values = [_reference(number, text) for number, text in enumerate(question.references, start=1)]
        return [self._rules.counted(leaves(value)) for value in values]

    def _score(self, wanted: Leaves, given: Leaves) -> Score:
        right = filled(wanted, given) if self.extra else frozenset()
        wrong = [
            path
            for path, value in wanted.items()
            if path not in right and (path not in given or not self._rules.at(path).fits(value, given[path]))
        ]
        extra = 0 if self.extra else sum(path not in wanted for path in given)
        count = len(wanted) + extra
        reason = f"{len(wanted) - len(wrong)} of {len(wanted)} fields right"
        if wrong:
            reason += f"; wrong or missing: {', '.join(map(_shown, wrong[:3]))}"
            reason += f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        if extra:
            reason += f"; {extra} not expected"
        return passing((len(wanted) - len(wrong)) / count, self.threshold, reason)


def _reference(number: int, text: str) -> Any:
    try:
        return read(text)
    except Unreadable as error:
        raise Unreadable(f"reference {number}: {error}") from None


def _shown(path: Path) -> str:
    """The path of an expected field, when it reads like a name: a key may be any text, even somebody's."""
    steps = [str(step) for step in path]
    named = all(len(step) <= 40 and step.replace("-", "").replace("_", "").isalnum() for step in steps)
    return ".".join(steps) if steps and named else "a field"


def _check_threshold(threshold: float) -> None:
    if not 0 <= threshold <= 1:
        raise ConfigError("threshold is a share from 0 to 1")
