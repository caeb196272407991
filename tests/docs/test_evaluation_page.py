"""The page on evaluation names every scorer and every metric that there is, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from evalkit.files import INTERRUPTED
from evalkit.gate import METRICS, parse
from evalkit.session import CODES
from judges.registry import JUDGES

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")


def test_the_table_has_every_scorer() -> None:
    table = PAGE.partition("| scorer |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| `(\w+)` \| \S", table, re.MULTILINE) == list(JUDGES)


def test_every_metric_is_named() -> None:
    (row,) = (line for line in PAGE.splitlines() if line.startswith("| metric |"))
    for name in METRICS:
        head, _, tail = name.partition("_")
        timed = re.fullmatch(r"p\d\d|mean", head) and tail.endswith("_ms")
        assert f"`{tail if timed else name}`" in row, name


def test_the_bounds_that_it_shows_can_be_read() -> None:
    (row,) = (line for line in PAGE.splitlines() if line.startswith("| bound |"))
    shown = re.findall(r"`([^`]+)`", row)
    assert len(shown) == 7
    for bound in shown:
        parse(f"{'pass_rate' if bound in ('0.9', '90%') else 'p99_ttft_ms'} <= {bound}")


def test_exit_codes_are_those_of_the_command() -> None:
    table = PAGE.partition("| exit code |")[2].partition("\n\n")[0]
    codes = {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)}
    assert codes == {*CODES.values(), 2, INTERRUPTED}
