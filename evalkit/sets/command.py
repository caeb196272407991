"""`evalkit datasets lint`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from guardrails.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from evalkit.sets.lint import Report

SHOWN = 20
"""Findings of each check in the table; `--json` has more."""


def lint(
    path: Annotated[str, typer.Argument(help="A file, a pattern, or a built-in set's name.")],
    against: Annotated[
        list[Path] | None, typer.Option(help="A training corpus: a file or a folder. May be given again.")
    ] = None,
    format_: Annotated[
        str | None, typer.Option("--format", help="jsonl, json, csv, parquet, openai-evals or promptfoo.")
    ] = None,
    fields: Annotated[
        list[str] | None,
        typer.Option("--field", help="How to read foreign rows: input=question. May be given again."),
    ] = None,
    pii: Annotated[bool, typer.Option(help="Look for personal data, too.")] = True,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 after warnings, too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Find duplicates, leaked answers, personal data and overlap with a corpus; exit code 1 after errors."""
    from evalkit.sets.lint import lint as linted

    detect = None
    if pii:
        from guardrails.filters.pii import ENTITIES, Pii

        # An address on the web says nothing of a person, and a mail's domain would be found twice.
        detect = Pii(entities=tuple(kind for kind in ENTITIES if kind != "URL")).detect
    spec = {"path": path, "format": format_, "fields": _rules(fields or [])}
    report = linted(spec, against=against or (), detect=detect)
    if as_json:
        typer.echo(json.dumps(report.as_dict(), indent=2, ensure_ascii=False))
    else:
        from evalkit.cli import consoles

        show(report, consoles()[0])
    failed = report.count("error") or (strict and report.count("warning"))
    raise typer.Exit(1 if failed else 0)


def _rules(fields: list[str]) -> dict[str, str]:
    rules = {}
    for each in fields:
        name, equals, rule = each.partition("=")
        if not equals:
            raise ConfigError(f"--field {each[:40]!r} has no `=`", hint="--field input=question")
        rules[name] = rule
    return rules


def show(report: Report, console: Console) -> None:
    """The findings as a table, and the sums below it."""
    from rich.markup import escape
    from rich.table import Table

    grid = Table("level", "check", "place", "what", box=None, pad_edge=False)
    seen: dict[tuple[str, str], int] = {}
    for finding in report.findings:
        key = (finding.level, finding.check)
        seen[key] = seen.get(key, 0) + 1
        if seen[key] <= SHOWN:
            grid.add_row(finding.level, finding.check, escape(finding.place), escape(finding.said))
    if report.findings:
        console.print(grid)
    for (level, check), count in sorted(report.counts.items()):
        if count > SHOWN:
            console.print(f"… {count - SHOWN:,} more: {level} {check}", highlight=False)
    if report.corpus is not None:
        found, n = report.corpus["samples_overlapping"], report.corpus["samples_compared"]
        share = f" ({found / n:.1%})" if n else ""
        console.print(
            f"overlap: {found:,} of {n:,} samples{share} with {report.corpus['words']:,} words of corpus; "
            f"{report.corpus['samples_too_short']:,} samples are too short to compare",
            highlight=False,
        )
    errors, warnings, notes = (report.count(level) for level in ("error", "warning", "note"))
    sums = f"{errors:,} errors, {warnings:,} warnings, {notes:,} notes"
    console.print(f"{escape(report.name)}: {report.samples:,} samples, {sums}", highlight=False)
