"""A run as Markdown, for the step summary of a CI service: tables, gates, failing samples by id.

Names, ids and messages come from others. They are written so that nothing in them is markup, a link, a
mention or an end of the table's cell.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

from evalkit import words
from evalkit.ci import plain
from evalkit.ci.plain import Numbers
from evalkit.files import MARK, placed
from evalkit.report_end import remarks
from evalkit.summary import Endpoint
from evalkit.trial import Trial
from evalkit.verdict import Decided, counted, urgent
from evalkit.view import by_set, cost, notes
from guardrails.errors import ConfigError

MAX_FAILING = 50
MAX_TEXT = 300
MOST = 1_000_000
"""Bytes that a step's summary may have, all that is added to it together."""
LIMIT = 1 << 20
"""GitHub takes so much and drops what is larger: between the two, there is room to say what was left out."""

_MARKS = {"pass": "✅ pass", "fail": "❌ fail", "undecided": "⚠️ undecided"}
_TOO_LONG = "\n\n(cut here: the summary is too long)\n"
_CLOSING = "\n\n</details>"
_NO_ROOM = "\n(left out: the summary is full)\n"
# Markdown's own characters as entities; `#` and `:` lest a service makes references and pictures of them.
_ENTITIES = {ord(c): f"&#{ord(c)};" for c in "\\`*_{}[]()<>#+!|~&@:$\"'"}
# What services make links and mentions of: `a@b.c`, `mailto:a@b.c`, `@team`, `www.a.b`, `http://a.b`. They
# look for it in text whose entities are decoded: only an element around one of its characters breaks it.
# The `@` of `pass@5` is none of these: a name stands before it, and no domain behind.
_LINKING = re.compile(
    r"(?<!\w)&#64;|&#64;(?!\d+(?![\w.&-]))|(?<=www)\.|&#58;(?=//)", re.IGNORECASE | re.ASCII
)
# A paragraph's beginning that would make a list, a heading's underline, a rule or a block of code of it.
_OPENING = re.compile(r"^(?:[ =-]|\d(?=\d*\.(?: |$)))")


def append(path: Path, numbers: Numbers, failing: Iterable[Trial] = (), *, title: str = "evalkit") -> None:
    """Add a run to a summary, as far as there is room. Raises `ConfigError` when it cannot be written."""
    _add(path, summary(numbers, failing, title=title))


def write(path: Path, numbers: Numbers, failing: Iterable[Trial] = (), *, title: str = "evalkit") -> None:
    """Write a run's summary in place of what is there. Raises `ConfigError` when it cannot be written."""
    _anew(path, summary(numbers, failing, title=title))


def refuse(path: Path, why: str, *, title: str = "evalkit", anew: bool = False) -> None:
    """Say that there are no numbers, and why: `anew`, or after what is there. Raises likewise."""
    (_anew if anew else _add)(path, f"## {escape(title)}\n\n❌ **{escape(why, MAX_TEXT * 2)}**\n\n")


def _anew(path: Path, text: str) -> None:
    with placed(path) as file:
        file.write(f"{MARK}\n{text}".encode("utf-8", "replace"))


def _add(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8", errors="replace", newline="\n") as out:
            there = path.stat().st_size if path.is_file() else 0  # a terminal or a pipe is never full
            out.write(_fitting(text, there))
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from None


def _fitting(text: str, there: int) -> str:
    """What of it may be added to a file of so many bytes: one that is too long is not shown at all."""
    short = _NO_ROOM if there + len(_NO_ROOM) <= LIMIT else ""
    return _cut(text, MOST - there) or short


def summary(numbers: Numbers, failing: Iterable[Trial] = (), *, title: str = "evalkit") -> str:
    """The page. Of `failing` no more is read than the 50 rows that did not pass and are shown."""
    run = numbers.run
    info = {**run.info, "run": run.id, "status": run.status}
    lines = [f"## {escape(title)}", ""]
    for remark in remarks(info, len(numbers.columns), numbers.trouble):
        lines += [f"❌ **{escape(remark, MAX_TEXT * 2)}**", ""]
    lines += _gates(plain.gates(numbers), plain.open_gates(numbers))
    sets = by_set(numbers.endpoints)
    for name, arms in sets.items():
        if len(sets) > 1:
            lines += [f"### {escape(name)}", ""]
        lines += _table(arms, bool(info.get("rescored")))
    several = len({each.set for each in numbers.comparisons}) > 1
    for each in numbers.comparisons:
        at = f"**{escape(each.set)}**: " if several else ""
        lines += [at + escape(each.verdict, MAX_TEXT * 4), ""]
    for warning in numbers.warnings:
        lines += [f"⚠️ {escape(warning, MAX_TEXT * 2)}", ""]
    lines += [f"<sub>{escape(note, MAX_TEXT * 2)}</sub><br>" for note in notes(numbers.endpoints)]
    lines += ["", *_failing(failing, any(e.repeats is not None for e in numbers.endpoints))]
    return _cut("\n".join(lines) + "\n", MOST)


def escape(text: str, most: int = MAX_TEXT) -> str:
    """Text of others as it may stand in a paragraph or in a table's cell: on one line, and as it is read."""
    cut = text if len(text) <= most else text[:most] + "…"
    line = "".join(c if c.isprintable() else " " for c in cut)
    apart = _LINKING.sub(r"<span>\g<0></span>", line.translate(_ENTITIES))
    return _OPENING.sub(lambda found: f"&#{ord(found[0])};", apart)


def _cut(text: str, most: int) -> str:
    """Whole lines of it, and that there was more; nothing where not even one has room."""
    coded = text.encode("utf-8", "replace")
    if len(coded) <= most:
        return text
    room = max(0, most - len(_TOO_LONG) - len(_CLOSING))
    kept = coded[:room].decode("utf-8", "ignore").rpartition("\n")[0]
    if not kept:
        return ""
    # What is left open would swallow whatever is added after it.
    closing = _CLOSING if kept.count("<details>") > kept.count("</details>") else ""
    return kept + closing + _TOO_LONG


def _gates(gates: Sequence[Decided], note: str) -> list[str]:
    if not gates:
        return []
    lines = [f"**{counted(gates)}**", "", *([f"⚠️ {escape(note)}", ""] if note else [])]
    lines += ["| gate | on | verdict |", "| --- | --- | --- |"]
    for each in urgent(gates):
        said = each.verdict.sentence.removeprefix(f"{each.verdict.status}: ")
        cells = (escape(str(each.verdict.gate)), escape(each.name))
        lines.append(
            f"| {cells[0]} | {cells[1]} | **{_MARKS[each.verdict.status]}**: {escape(said, 1_000)} |"
        )
    return [*lines, ""]


def _table(endpoints: Sequence[Endpoint], rescored: bool) -> list[str]:
    rows: list[tuple[str, list[str]]] = [
        ("pass rate", [words.pass_rate(e) for e in endpoints]),
        ("calls", [words.calls(e) for e in endpoints]),
    ]
    if any(e.sandboxes for e in endpoints):
        rows.append(("code run in", [words.sandboxes(e) for e in endpoints]))
    if any(e.repeats for e in endpoints):
        steps = sorted({k for e in endpoints if e.repeats for k in words.steps(e.repeats.at_least)})
        for k in steps:
            rows.append((f"pass@{k}", [words.pass_at(e, k) for e in endpoints]))
            rows.append((f"pass^{k}", [words.pass_all(e, k) for e in endpoints]))
        rows.append(("flaky", [words.flakes(e.repeats) if e.repeats else "–" for e in endpoints]))
    rows += [
        ("TTFT p50", [words.time(e, "ttft", "p50") for e in endpoints]),
        ("TTFT p99", [words.time(e, "ttft", "p99") for e in endpoints]),
        ("cost", [cost(e, rescored) for e in endpoints]),
        ("cost of 1,000 calls", [words.cost_per_thousand(e.cost) for e in endpoints]),
        ("errors", [words.counts(e.errors) for e in endpoints]),
    ]
    if any(e.judge_errors for e in endpoints):
        rows.append(("judge errors", [words.counts(e.judge_errors) for e in endpoints]))
        rows.append(("rate if they failed or passed", [words.judge_bounds(e) or "–" for e in endpoints]))
    head = "| | " + " | ".join(f"**{escape(e.name)}**" for e in endpoints) + " |"
    lines = [head, "| --- |" + " --- |" * len(endpoints)]
    lines += [
        f"| {escape(label)} | " + " | ".join(escape(v) for v in values) + " |" for label, values in rows
    ]
    return [*lines, ""]


def _failing(rows: Iterable[Trial], several: bool) -> list[str]:
    """By id, with the scorers' reasons; neither prompt nor answer."""
    failed = (row for row in rows if row.passed is False or row.judge_errors)
    shown = list(islice(failed, MAX_FAILING + 1))
    if not shown:
        return []
    lines = [
        "<details><summary>Samples that failed</summary>",
        "",
        "| sample | of | why |",
        "| --- | --- | --- |",
    ]
    for row in shown[:MAX_FAILING]:
        at = f"{row.arm} on {row.set}" if row.set else row.arm
        lines.append(f"| {escape(words.called(row, several))} | {escape(at)} | {escape(_why(row))} |")
    if len(shown) > MAX_FAILING:
        lines.append("| … | | and more |")
    return [*lines, "", "</details>", ""]


def _why(row: Trial) -> str:
    if row.error is not None:
        return f"{row.error.kind}: {row.error.message}"
    return "; ".join(
        f"{name}: {score.reason}" for name, score in row.scores.items() if score.passed is not True
    )
