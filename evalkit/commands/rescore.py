"""`evalkit rescore`: judge the answers of an earlier run again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evalkit.commands.run import Undecided


def rescore(
    name: Annotated[str, typer.Argument(metavar="RUN", help="The run: its id, a tag, or `latest`.")],
    suite: Annotated[Path | None, typer.Option(help="A suite with the scorers and gates to use.")] = None,
    scorer: Annotated[list[str] | None, typer.Option(help="A judge, such as exact. Repeatable.")] = None,
    gate: Annotated[list[str] | None, typer.Option(help="What must hold. Repeatable.")] = None,
    baseline: Annotated[
        str | None,
        typer.Option(metavar="RUN", help="Compare with this run (default: what the run was held against)."),
    ] = None,
    undecided: Annotated[
        Undecided | None, typer.Option(help="Gates that the rows do not decide (default: exit code 3).")
    ] = None,
    max_usd: Annotated[
        float | None, typer.Option(help="Stop before judges have cost more than this.")
    ] = None,
    store: Annotated[
        str | None, typer.Option(envvar="EVALKIT_STORE", help="A database for runs, such as postgresql://…")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "--dir", help="Where runs are kept.")] = Path(".evalkit"),
    html: Annotated[Path | None, typer.Option(help="Write the report here.")] = None,
    json: Annotated[Path | None, typer.Option(help="Write the numbers here.")] = None,
    junit: Annotated[Path | None, typer.Option(help="Write JUnit XML here.")] = None,
    markdown: Annotated[
        Path | None, typer.Option(help="Write a summary in Markdown here ($GITHUB_STEP_SUMMARY by itself).")
    ] = None,
) -> None:
    """Judge the answers of an earlier run again, without calling anybody.

    Without options the run's own suite is used, as it was; `--suite` and `--scorer` give other scorers.
    """
    from evalkit.cli import consoles
    from evalkit.files import Files, left, step_summary

    budget = None if max_usd is None else {"max_usd": str(max_usd)}
    given = {"scorers": scorer, "gates": gate, "baseline": baseline, "budget": budget, "store": store}
    given["undecided"] = undecided.value if undecided else None
    options = {field: value for field, value in given.items() if value}
    files = Files(html, json, junit, markdown or step_summary())
    try:
        from evalkit.session import rescored
    except KeyboardInterrupt:  # it takes a while to import
        raise typer.Exit(left(consoles()[1], files)) from None
    raise typer.Exit(rescored(name, suite, {**options, "out": str(out)}, files, consoles()))
