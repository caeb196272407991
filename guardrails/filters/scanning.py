"""Run a policy over texts that are lying around: `guardrails scan`.

What is printed names places and kinds, never a value. Offsets count characters of the text (of the field, for
JSONL), from 0, the end excluded.
"""

from __future__ import annotations

import json
import random
import threading
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from guardrails.call import Call, Note, Request
from guardrails.errors import Blocked, ConfigError
from guardrails.filters.detector import Finding, apply
from guardrails.filters.policy import Direction, Rulebook, Rules, decide, edits
from guardrails.filters.run import Run

_ROW = "{text!s:>6}  {start!s:>7}  {end!s:>7}  {score!s:>6}  {kind:<24}  {rule:<14}  {action}"
HEADER = _ROW.format(
    text="text", start="start", end="end", score="score", kind="kind", rule="rule", action="action"
)


def table(row: Mapping[str, object]) -> str:
    """A line of the table under `HEADER`."""
    return _ROW.format(**row)


@dataclass(frozen=True, slots=True)
class Scanned:
    """One text: `findings` are (action, finding) in order, `unscanned` what did not look and why."""

    number: int
    findings: tuple[tuple[str, Finding], ...]
    unscanned: tuple[str, ...]
    blocked: bool
    redacted: str = field(repr=False)

    def rows(self) -> Iterator[dict[str, object]]:
        """A JSON object for each finding, without the value."""
        for action, f in self.findings:
            yield {
                "text": self.number,
                "kind": f.kind,
                "start": f.start,
                "end": f.end,
                "score": round(f.score, 4),
                "rule": f.detector,
                "action": action,
            }


async def scan_texts(
    book: Rulebook, direction: Direction, texts: Iterable[str], rng: random.Random
) -> AsyncIterator[Scanned]:
    """What the policy finds and would do, text by text; numbers count from 1.

    Pseudonyms are shown as kinds: there is no conversation here. A detector that breaks where the policy
    says to block is a text that is `blocked`, with the reason in `unscanned`.
    """
    rules = Rules.of(book.of(direction))
    loaded = threading.Event()
    for number, text in enumerate(texts, 1):
        left = Rules(tuple(r for r in rules.rules if r.sample >= 1 or rng.random() < r.sample))
        call = Call(Request.of(""))
        run = Run(call, direction, left, loaded)
        for rule in rules.rules:
            if rule not in left.rules:
                run.unscanned(f"{rule.name}:sampled out")
        failed: list[str] = []
        found: list[Finding] = []
        try:
            found = (await run.whole([text], left.rules))[text]
        except Blocked as error:
            failed = [error.message]
        verdict = decide(found, left)
        run.finish()
        notes = [entry for _, entry in call.journal.log if isinstance(entry, Note)]
        listed = sorted((*verdict.stops, *verdict.changes, *verdict.watched), key=lambda f: (f.start, f.end))
        yield Scanned(
            number,
            tuple((_action(left, f), f) for f in listed),
            (*failed, *(str(note.detail) for note in notes if note.what == "not_scanned")),
            bool(failed or verdict.stops),
            apply(text, edits(_merged(verdict.stops, verdict.changes), text, left)),
        )


def _action(rules: Rules, finding: Finding) -> str:
    rule = rules.rule(finding)
    return f"{rule.action} (shadow)" if rule.shadow else rule.action


def _merged(stops: Iterable[Finding], changes: Iterable[Finding]) -> list[Finding]:
    return sorted((*stops, *changes), key=lambda f: f.start)


def field_of(lines: Iterable[str], path: str) -> Iterator[str]:
    """The text at `path` (`prompt`, `messages.0.content`) of each line of JSON.

    Raises `ConfigError` with the line's number, never with its text.
    """
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            raise ConfigError(f"line {number} is not JSON", hint="leave --jsonl out for plain text") from None
        for key in path.split("."):
            try:
                value = value[int(key)] if isinstance(value, list) else value[key]
            except (KeyError, IndexError, TypeError, ValueError):
                raise ConfigError(f"line {number} has no field {path!r}") from None
        if not isinstance(value, str):
            raise ConfigError(f"line {number}: the field {path!r} is not a text")
        yield value
