"""What code was run in stands beside what came of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from io import StringIO
from types import SimpleNamespace

import pytest
from rich.console import Console

from evalkit import report, view
from evalkit.ci import markdown
from evalkit.ci.plain import plain
from evalkit.columns import Columns
from evalkit.stores import Run
from evalkit.summary import Endpoint, summarise
from evalkit.tiers import Tiers, tiers_of
from evalkit.trial import Trial
from judges.code import WORDS, scored
from judges.judge import Score
from judges.sandbox import Outcome, Result
from judges.sandbox.engine import Engine
from judges.sandbox.tiers import Bubblewrap, LandlockOnly, UnsafeSubprocess

Made = Callable[..., Trial]
TITLES = [each().title for each in (Bubblewrap, LandlockOnly, UnsafeSubprocess, Engine)]


def results() -> list[Result]:
    """One that passed, and one of each kind of failure."""
    good, bad = Outcome("passed"), Outcome("wrong")
    return [Result("passed", "passed", "", (good, good))] + [
        Result("failed", kind, "", outcomes) for kind in WORDS for outcomes in ((), (good, bad))
    ]


@pytest.mark.parametrize("title", TITLES)
def test_every_score_of_code_says_what_it_was_run_in(made: Made, title: str) -> None:
    for result in results():
        assert list(tiers_of(made(1, scores={"code": scored(result, title)}))) == [title]


def test_other_reasons_name_no_sandbox(made: Made) -> None:
    for reason in (
        "1 of 1 references found (exactly)",
        "all tests pass",
        "3 of 4 tests pass; (" + "(" * 9_999,
    ):
        assert list(tiers_of(made(1, scores={"code": Score(1.0, True, reason)}))) == []


def test_it_stands_beside_pass_at_k_everywhere(made: Made) -> None:
    score = scored(results()[0], TITLES[0]), scored(results()[-1], TITLES[1])
    rows = [
        made(q, k=k, arm=arm, scores={"code": score[k]}) for q in range(3) for k in range(2) for arm in "ab"
    ]
    tiers = Tiers()
    columns = Columns.of(tiers.watch([*rows, made(9, arm="c")]))
    found = summarise(columns, sandboxes=tiers.found)
    assert [each.sandboxes for each in found] == [tuple(sorted(TITLES[:2]))] * 2 + [()]

    run = Run("r", "r", "digest", "complete", datetime(2026, 1, 1, tzinfo=UTC))
    numbers = SimpleNamespace(
        run=run, columns=columns, warnings=[], endpoints=found, comparisons=[], gates=[], trouble=None
    )
    info = {"started_at": "2026-01-01T00:00:00", "status": "complete", "run": "r"}
    pages = {
        "terminal": terminal(found),
        "html": report.render(report.Content(info, columns, found, rows=rows)),
        "markdown": markdown.summary(numbers).replace("&#43;", "+").replace("&#64;", "@"),
    }
    for name, page in pages.items():
        for title in TITLES[:2]:
            assert title in " ".join(page.split()), (name, title)
        assert page.index(TITLES[0]) < page.index("pass@2"), name
    assert plain(numbers)["endpoints"][0]["sandboxes"] == sorted(TITLES[:2])


def terminal(endpoints: list[Endpoint]) -> str:
    console = Console(width=250, file=StringIO())
    view.table(console, endpoints)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()
