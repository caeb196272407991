"""JUnit's XML: a suite for each set and arm, a case for each answer, and the gates as a suite of their own.

A case that did not pass is a `failure` with the scorers' reasons, a failed call or a failed judge an `error`,
and an answer that got marks but no verdict is `skipped`; neither prompt nor answer is quoted. Rows are read
once and written as they come, a file for each suite, since the numbers of cases must stand before the cases:
memory does not grow with the run.

A run that is not complete and sound has one more case, which is no pass, and none of its gates has passed:
the file says nothing better than the exit code does. A case that passed is empty; the sentences of gates that
passed stand in their suite's `system-out`: of how many answers each is, and whether only some of them could
be held against a baseline.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from io import TextIOWrapper
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO
from xml.sax.saxutils import escape, quoteattr

from evalkit import words
from evalkit.files import Ended, placed
from evalkit.trial import Trial
from evalkit.verdict import Decided, Status
from guardrails.errors import ConfigError

MAX_TEXT = 1_000
"""Characters of a name or a reason; what is longer is cut."""

# What XML 1.0 has no way to write, not even escaped.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write(
    path: Path,
    rows: Iterable[Trial],
    gates: Sequence[Decided] = (),
    *,
    name: str = "evalkit",
    warnings: Sequence[str] = (),
    undecided: str = "report",
    ended: Ended | None = None,
    several: bool = False,
) -> None:
    """Write the file. Raises `ConfigError` when it cannot be written there.

    `undecided` is what the suite says of gates that the rows do not decide. Only where it says `fail` are
    they failures; else they are skipped, with why: the exit code is not that of a failed gate either.
    `warnings`, such as of a judge that agrees too little with people, are skipped cases of a suite of their
    own: what every service shows, and none takes for a failure. `ended` is of a run that is not complete, and
    `several` of one whose samples have more than one answer.
    """
    try:
        with ExitStack() as files:
            counting = [(each, each.under(undecided)) for each in gates]
            suites = _suites(rows, files, several)
            with placed(path) as file:
                out = TextIOWrapper(file, encoding="utf-8", newline="\n")
                _write(out, suites, counting, warnings, name, ended)
                out.detach()  # it would close the file, which is not ours
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from None


@dataclass(slots=True)
class _Suite:
    """A suite that is being written, and what has been counted of it."""

    name: str
    cases: IO[str] = field(repr=False)
    tests: int = 0
    failures: int = 0
    errors: int = 0
    skipped: int = 0
    seconds: float = 0.0
    printed: list[str] = field(default_factory=list)

    def add(self, row: Trial, several: bool) -> None:
        seconds = 0.0 if row.cached else (row.number("e2e_ms") or 0.0) / 1000
        kind, message, text = _said(row)
        self.tests += 1
        self.failures += kind == "failure"
        self.errors += kind == "error"
        self.skipped += kind == "skipped"
        self.seconds += seconds
        self.case(words.called(row, several), self.name, seconds, (kind, message, text))

    def gate(self, decided: Decided, counts: Status, ended: Ended | None) -> None:
        verdict = decided.verdict
        kind = "" if verdict.status == "pass" else "failure" if counts == "fail" else "skipped"
        said = verdict.sentence
        if ended is not None and not kind:  # what is not known yet may be otherwise
            kind, said = "skipped", f"{ended.why}; of what was asked: {said}"
        self.tests += 1
        self.failures += kind == "failure"
        self.skipped += kind == "skipped"
        name = f"{verdict.gate} ({decided.name})"
        self.case(name, self.name, 0.0, (kind, said, verdict.status))
        if not kind:
            self.printed.append(f"{_text(name)}: {_text(said)}")

    def end(self, ended: Ended) -> None:
        self.tests += 1
        self.errors += ended.failed
        self.skipped += not ended.failed
        kind = "error" if ended.failed else "skipped"
        self.case("run complete", self.name, 0.0, (kind, ended.why, "incomplete"))

    def warning(self, said: str) -> None:
        self.tests += 1
        self.skipped += 1
        self.case(said.partition(":")[0], self.name, 0.0, ("skipped", said, ""))

    def case(self, name: str, classname: str, seconds: float, said: tuple[str, str, str]) -> None:
        kind, message, text = said
        head = f'    <testcase name={_quoted(name)} classname={_quoted(classname)} time="{_time(seconds)}"'
        if not kind:
            self.cases.write(f"{head}/>\n")
            return
        kept = "" if kind == "skipped" else f" type={_quoted(text)}"
        self.cases.write(f"{head}>\n      <{kind} message={_quoted(message)}{kept}/>\n    </testcase>\n")

    @property
    def counts(self) -> str:
        return (
            f'tests="{self.tests}" failures="{self.failures}" errors="{self.errors}" '
            f'skipped="{self.skipped}" time="{_time(self.seconds)}"'
        )


def _said(row: Trial) -> tuple[str, str, str]:
    """`failure`, `error`, `skipped` or nothing; why; and its kind."""
    if row.error is not None:
        return "error", f"{row.error.kind}: {row.error.message}", row.error.kind
    if row.passed is True:
        return "", "", ""
    if row.passed is False:
        reasons = [f"{name}: {score.reason}" for name, score in row.scores.items() if score.passed is False]
        return "failure", "; ".join(reasons), "not passed"
    lost = [f"{name}: {score.reason}" for name, score in row.scores.items() if score.error is not None]
    if not lost:
        return "skipped", "; ".join(f"{name} gave no verdict" for name in row.scores), ""
    return "error", "; ".join(lost), row.judge_errors[0]


def _aside(files: ExitStack) -> IO[str]:
    """A file without a name, which is gone with `files`."""
    return files.enter_context(TemporaryFile("w+", encoding="utf-8", newline="\n"))


def _suites(rows: Iterable[Trial], files: ExitStack, several: bool) -> list[_Suite]:
    suites: dict[tuple[str, str], _Suite] = {}
    for row in rows:
        place = (row.set, row.arm)
        if place not in suites:
            suites[place] = _Suite(".".join(part for part in place if part), _aside(files))
        suites[place].add(row, several)
    return list(suites.values())


def _write(
    out: IO[str],
    suites: Sequence[_Suite],
    gates: Sequence[tuple[Decided, Status]],
    warnings: Sequence[str],
    name: str,
    ended: Ended | None,
) -> None:
    with ExitStack() as files:
        cases = _aside(files)
        whole = list(suites)
        if ended is not None:
            of_run = _Suite("run", _aside(files))
            of_run.end(ended)
            whole.append(of_run)
        if warnings:
            told = _Suite("warnings", _aside(files))
            for said in warnings:
                told.warning(said)
            whole.append(told)
        if gates:
            judged = _Suite("gates", cases)
            for each in gates:
                judged.gate(*each, ended)
            whole.append(judged)
        total = _Suite(name, cases)
        for suite in whole:
            total.tests += suite.tests
            total.failures += suite.failures
            total.errors += suite.errors
            total.skipped += suite.skipped
            total.seconds += suite.seconds
        out.write(
            f'<?xml version="1.0" encoding="UTF-8"?>\n<testsuites name={_quoted(name)} {total.counts}>\n'
        )
        for suite in whole:
            out.write(f"  <testsuite name={_quoted(suite.name)} {suite.counts}>\n")
            suite.cases.seek(0)
            shutil.copyfileobj(suite.cases, out)
            if suite.printed:
                out.write("    <system-out>{}</system-out>\n".format("\n".join(suite.printed)))
            out.write("  </testsuite>\n")
        out.write("</testsuites>\n")


def _time(seconds: float) -> str:
    return f"{seconds:.4f}"


def _quoted(text: str) -> str:
    """An attribute's value, with what XML cannot hold replaced."""
    return quoteattr(_clean(text), {"\n": "&#10;", "\r": "&#13;", "\t": "&#9;"})


def _text(text: str) -> str:
    """An element's text, likewise."""
    return escape(_clean(text), {"\r": "&#13;"})


def _clean(text: str) -> str:
    cut = text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + "…"
    return _FORBIDDEN.sub("\ufffd", cut)
