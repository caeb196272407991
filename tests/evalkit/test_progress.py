"""What a run says of itself while it runs."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal, localcontext
from io import StringIO

import pytest
from rich.console import Console

from evalkit.progress import ALL, EVERY, Tally, fitting, progress
from evalkit.trial import Trial
from guardrails.testing import FakeClock
from judges.judge import Score

Made = Callable[..., Trial]


def console(*, terminal: bool = False, width: int = 110) -> Console:
    return Console(width=width, file=StringIO(), force_terminal=terminal)


def said(of: Console) -> str:
    assert isinstance(of.file, StringIO)
    return of.file.getvalue()


def test_without_a_terminal_there_is_a_line_every_ten_seconds(made: Made) -> None:
    clock, out = FakeClock(), console()
    with progress(out, {"a": 4}, clock=clock) as seen:
        for number in range(4):
            clock.advance(EVERY * 0.6)
            seen(made(number))
    lines = said(out).splitlines()

    assert [line.split()[1] for line in lines] == ["2/4", "4/4"]
    assert "100% [34,100]" in lines[0]
    assert "1 tok/s" in lines[0]
    assert "$0.00200" in lines[0]
    assert "ETA 0:12" in lines[0]
    assert "ETA" not in lines[1]


def test_a_quick_run_says_so_at_every_tenth(made: Made) -> None:
    clock, out = FakeClock(), console()
    with progress(out, {"a": 100, "b": 100}, clock=clock) as seen:
        for number in range(200):
            clock.advance(0.05)  # a tenth of the run is a second
            seen(made(number, arm="ab"[number % 2]))
    lines = said(out).splitlines()

    assert len(lines) in (18, 20), "a tenth may fall just short of its second"
    assert lines[-1].startswith("b: 100/100")


def test_a_run_of_less_than_a_second_says_so_once(made: Made) -> None:
    clock, out = FakeClock(), console()
    with progress(out, {"a": 100, "b": 100}, clock=clock) as seen:
        for number in range(200):
            clock.advance(0.004)
            seen(made(number, arm="ab"[number % 2]))

    assert [line.split()[1] for line in said(out).splitlines()] == ["100/100", "100/100"]


def test_nothing_new_says_nothing() -> None:
    out = console()
    with progress(out, {"a": 4}, clock=FakeClock()):
        pass
    assert said(out) == ""


def test_the_cap_is_shown_for_the_whole_run(made: Made) -> None:
    clock, out = FakeClock(), console()
    with progress(out, {"a": 2, "b": 2}, cap=Decimal(5), clock=clock) as seen:
        for arm in "ab":
            clock.advance(1)
            seen(made(1, "reset", arm=arm))
    *arms, whole = said(out).splitlines()

    assert len(arms) == 2
    assert whole.startswith(f"{ALL}: 2/4")
    assert "$0.00200 of $5.00" in whole
    assert "2 err" in whole


@pytest.mark.parametrize("name", ["a/short", "a", ALL, "other"])
def test_a_row_is_counted_under_its_arm_its_endpoint_or_the_whole(made: Made, name: str) -> None:
    out = console()
    with progress(out, {name: 1}, clock=FakeClock()) as seen:
        seen(made(1, prompt="short"))
    counted = "a/short" if name == "other" else name
    assert any(line.startswith(f"{counted}: 1") for line in said(out).splitlines())


def test_several_answers_make_no_narrower_interval(made: Made) -> None:
    tallies = Tally(100, answers=5), Tally(100)
    for tally in tallies:
        for number in range(50):
            tally.add(made(number, number % 2 == 0))
    several, single = (tally.shown(1.0)["rate"] for tally in tallies)
    assert (several, single) == ("50% [24,76]", "50% [37,63]")


def test_an_unknown_price_is_not_zero_and_answers_taken_over_cost_nothing(made: Made) -> None:
    tally = Tally(2)
    tally.add(made(1, record={"cost_usd": None, "cached": True}))
    assert tally.shown(1.0)["cost"] == "$0"
    assert tally.shown(1.0)["speed"] == "0 tok/s"

    tally.add(made(2, record={"cost_usd": None}))
    assert tally.shown(1.0)["cost"] == "cost ?"


def test_on_a_terminal_there_is_a_bar(made: Made) -> None:
    out = console(terminal=True)
    with progress(out, {"a": 2}, cap=Decimal(1), clock=FakeClock()) as seen:
        seen(made(1))
        seen(made(2, "reset"))
        seen(made(3, arm="n\x1b[2Jew[red]"))
    assert "2/2" in said(out)
    assert "1 err" in said(out)
    assert "\x1b[2J" not in said(out)


def test_what_is_shown_is_not_all_where_a_part_is_not_known(made: Made) -> None:
    tally = Tally(2)
    tally.add(made(1, scores={"rubric": Score(1.0, True, "fine", cost_usd=0.5)}))
    assert tally.shown(1.0)["cost"] == "$0.501"

    tally.add(made(2, scores={"rubric": Score(1.0, True, "fine", calls=1)}))
    assert tally.shown(1.0)["cost"] == "$0.502 + ?"


def test_what_is_shown_is_exact_whatever_context_the_caller_has_set(made: Made) -> None:
    tally = Tally(2)
    with localcontext(prec=2):
        for number in range(2):
            tally.add(made(number, record={"cost_usd": "100.01"}))
    assert tally.cost == Decimal("200.02")


def test_a_row_that_is_judged_again_was_paid_and_waited_for_before(made: Made) -> None:
    clock, out = FakeClock(), console()
    before = clock.wall().isoformat(timespec="milliseconds")
    clock.advance(1.0)
    asked = Score(1.0, True, "fine", cost_usd=0.5)
    with progress(out, {"a": 2}, clock=clock) as seen:
        seen(made(1, record={"at": before}, scores={"rubric": asked}))
        clock.advance(1.0)
        seen(made(2, record={"at": clock.wall().isoformat(timespec="milliseconds")}))

    assert "$0.501" in said(out)
    assert "5 tok/s" in said(out)


def test_what_draws_a_bar_loads_where_one_is_drawn() -> None:
    program = "import sys, evalkit.session; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert {"rich.progress", "evalkit.ci.junit"} & set(done.stdout.split()) == set()


def last_lines(made: Made, width: int, *, wrong: bool = False) -> list[str]:
    """What a terminal shows at the end of 200 rows of an endpoint with a long name."""
    out, clock = console(terminal=True, width=width), FakeClock()
    arms = "a-rather-long-endpoint-name", "b"
    with progress(out, dict.fromkeys(arms, 200), clock=clock) as seen:
        for number in range(200):
            clock.advance(0.05)
            seen(made(number, "reset" if wrong else True, arm=arms[0]))
    plain = re.sub(r"\x1b\[[^a-zA-Z]*[a-zA-Z]", "", said(out))
    return [line.rstrip() for line in plain.splitlines() if line.strip()][-2:]


@pytest.mark.parametrize(
    ("width", "has", "lacks"),
    [
        (120, ("a-rather-long-endpoint-name ", "━━━", "tok/s", "$0.200"), ("…",)),
        (70, ("a-rather-long-", "…", "━━━", "tok/s", "$0.200"), ()),
        (50, ("a-rather-", "…", "$0.200"), ("━", "tok/s")),
        (40, ("a-rather-", "…"), ("━", "tok/s", "$")),
        (30, ("a-", "…"), ("━", "tok/s", "$")),
        (24, (), ("━", "tok/s", "$", "a")),
    ],
)
def test_a_narrow_terminal_shows_what_matters_most(
    made: Made, width: int, has: tuple[str, ...], lacks: tuple[str, ...]
) -> None:
    line, other = last_lines(made, width)

    assert "200/200 100% [98,100]" in line, "always whole"
    assert "0/200" in other
    assert [part for part in has if part not in line] == []
    assert [part for part in lacks if part in line.replace("100% [98,100]", "")] == []
    assert max(len(line), len(other)) <= width


def test_errors_are_shown_longer_than_prices(made: Made) -> None:
    line, _ = last_lines(made, 45, wrong=True)
    assert "200 err" in line
    assert "cost" not in line


@pytest.mark.parametrize("width", range(20, 200, 7))
def test_columns_fit(width: int) -> None:
    wide = {"name": 27, "done": 7, "rate": 13, "errors": 5, "speed": 10, "cost": 7, "eta": 8}
    found = fitting(wide, width)
    assert sum(found.values()) + len(found) <= max(width, 22)
    order = ("eta", "speed", "bar")  # who is there only where the one before it is
    there = [name in found for name in order]
    assert there == sorted(there, reverse=True)
