"""A run as a CI service shows it: all of it read, none of it markup."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from html import unescape
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from evalkit.ci import markdown
from evalkit.columns import Columns
from evalkit.compare import compare
from evalkit.gate import parse
from evalkit.stores import Run, Status
from evalkit.summary import summarise
from evalkit.trial import Trial
from evalkit.trouble import Trouble
from evalkit.verdict import decide_all
from guardrails.errors import ConfigError
from judges.judge import Score

Made = Callable[..., Trial]
NASTY = (
    "<script>alert(1)</script> | [x](http://evil) ![i](j) @team #12 `c` **b** \n## h \\| &lt; :rocket: $x$ "
    "www.evil.example.com a@evil.com"
)


def a_run(status: Status = "complete", **info: object) -> Run:
    return Run("run-1", "set", "digest", status, datetime(2026, 1, 1, tzinfo=UTC), info=info)


def page(rows: list[Trial], *gates: str, run: Run | None = None) -> str:
    columns = Columns.of(rows)
    decided = decide_all([parse(gate) for gate in gates], columns)
    numbers = SimpleNamespace(
        run=run or a_run(),
        columns=columns,
        warnings=[],
        endpoints=summarise(columns),
        comparisons=compare(columns),
        gates=decided,
        trouble=Trouble.of(columns, 0.1),
    )
    return markdown.summary(numbers, iter(rows), title="run-1")


def rendered(text: str) -> str:
    return unescape(re.sub("</?span>", "", text))


def of_failing(rows: list[Trial]) -> SimpleNamespace:
    """Numbers of nothing, for what is said of the rows."""
    return SimpleNamespace(
        run=a_run(),
        columns=Columns.of(rows),
        warnings=[],
        endpoints=[],
        comparisons=[],
        gates=[],
        trouble=None,
    )


def test_numbers_come_with_n_interval_and_cost(made: Made) -> None:
    said = rendered(page([made(n, n < 90) for n in range(100)], "pass_rate >= 80%"))

    for part in ("90.0% [82.6, 94.5]", "n = 100", "$0.100", "✅ pass", "| pass_rate >= 0.8 |", "## run-1"):
        assert part in said, part


def test_a_rescored_run_has_not_paid_for_its_calls(made: Made) -> None:
    said = rendered(page([made(n) for n in range(100)], run=a_run(rescored="run-0")))
    assert "| cost | $0 now ($0.100 by the run that it judged again) |" in said


@pytest.mark.parametrize("status", ["capped", "interrupted", "stopped", "running"])
def test_no_gate_of_a_run_that_is_not_complete_has_passed(made: Made, status: Status) -> None:
    rows = [made(n) for n in range(40)]
    said = rendered(page(rows, "pass_rate >= 50%", "pass_rate <= 50%", run=a_run(status)))

    assert "**1 fail, 1 undecided**" in said
    assert "✅" not in said
    assert "**⚠️ undecided**: the run is not complete; of what was asked: pass: pass_rate is 100%" in said


def test_no_gate_has_passed_where_too_much_failed(made: Made) -> None:
    said = rendered(page([made(n, "timeout" if n % 2 else True) for n in range(40)], "pass_rate >= 10%"))

    assert "**1 undecided**" in said
    assert "**⚠️ undecided**: too much failed for a verdict; of what was asked: pass" in said


def test_it_says_first_how_the_run_ended(made: Made) -> None:
    rows = [made(n, "timeout" if n else True) for n in range(9)]
    said = rendered(page(rows, "pass_rate >= 80%", run=a_run("capped", suite={"max_error_rate": 0.1})))
    head = said.partition("| gate |")[0]
    assert "88.9% of the calls or their judges failed" in head
    assert "The cost cap ended this run" in head
    assert "❌ **" not in rendered(page(rows[:1]))


def test_gates_have_three_words(made: Made) -> None:
    said = page([made(n) for n in range(40)], "pass_rate >= 50%", "pass_rate <= 50%", "pass_rate >= 99%")
    assert [mark in said for mark in ("✅ pass", "❌ fail", "⚠️ undecided")] == [True] * 3


def test_failing_samples_are_named_with_reasons_and_without_answers(made: Made) -> None:
    rows = [
        made("good"),
        made("bad", False, text="secret"),
        made("worse", "timeout", k=2, set="x"),
        made("u", None),
    ]
    said = rendered(page(rows))

    assert "| bad | a | contains: a reason |" in said
    assert "| worse #3 | a on x | timeout: it broke |" in said
    assert "| u | a | contains: no reply |" in said
    assert "| good |" not in said
    assert "graded" not in said
    assert "secret" not in said


def test_only_as_many_failing_rows_are_read_as_are_shown(made: Made) -> None:
    read = 0

    def failing() -> Iterator[Trial]:
        nonlocal read
        for number in range(10_000):
            read += 1
            yield made(number, False)

    columns = Columns.of([])
    numbers = SimpleNamespace(
        run=a_run(), columns=columns, warnings=[], endpoints=[], comparisons=[], gates=[], trouble=None
    )
    said = markdown.summary(numbers, failing())
    assert read == markdown.MAX_FAILING + 1
    assert "and more" in said


def test_nothing_that_anybody_wrote_becomes_markup(made: Made) -> None:
    rows = [
        made(
            NASTY,
            False,
            arm=NASTY,
            set=NASTY,
            tags=(NASTY,),
            record={"model_reported": NASTY},
            scores={NASTY: Score.verdict(False, NASTY)},
        ),
        made(NASTY, NASTY, arm="b", set=NASTY),
        made("s", True, arm="c", set="t"),
    ]
    text = page(rows, "pass_rate >= 99%")
    ours = re.sub(r"</?(sub|details|summary|br|span)>", "", text)

    assert "<" not in ours
    assert not re.search(r"[\[\]`@\\]", ours)
    assert not re.search(r"(?<!&)#(?!#|\d+;| )", ours)
    for line in text.splitlines():
        if line.startswith("|"):
            assert line.count("|") in (3, 4), line


@given(st.text(st.characters(), max_size=60))
def test_escaped_text_reads_as_it_was_on_one_line(text: str) -> None:
    escaped = markdown.escape(text)
    assert "\n" not in escaped
    assert not set(re.sub("</?span>", "", escaped)) & set("<>|`*[]_@\\")
    assert rendered(escaped) == "".join(c if c.isprintable() else " " for c in text)


LINKS = [
    "@5",
    "_",
    "-",
    "www",
    "WwW",
    ".",
    "@",
    "a",
    "evil.com",
    ":",
    "/",
    "//",
    "http",
    "mailto:",
    "xmpp:",
    "&#46;",
    " ",
]


@given(st.lists(st.sampled_from(LINKS), max_size=12).map("".join))
@example("www.evil.example.com")
@example("see a@evil.com")
@example("mailto:a@evil.com")
@example("xmpp:a@evil.com/x")
@example("https://evil.com, ftp://evil.com")
@example("a@5.com a@5_.com a@5-.com @5 @team")
def test_nothing_is_left_that_a_service_makes_a_link_of(text: str) -> None:
    """By GitHub's rules, held against each piece of text that stands by itself once entities are read."""
    pieces = [unescape(piece) for piece in re.split("</?span>", markdown.escape(text))]

    assert "".join(pieces) == text
    for piece in pieces:
        assert not re.search(r"[\w.+-]@[\w@-]*\.", piece), "an address"
        assert not re.search(r"(?<!\w)@\w", piece), "a mention"
        assert "www." not in piece.lower()
        assert "://" not in piece


@pytest.mark.parametrize("text", ["1. x", "12. x", "1.", "- x", "---", "===", "    code", "\tcode"])
def test_a_paragraph_of_others_does_not_begin_a_list_or_a_heading(text: str) -> None:
    assert re.match(r"&#\d+;", markdown.escape(text)), "what is an entity has no meaning to Markdown"
    assert markdown.escape("90.0% of 1. x - y") == "90.0% of 1. x - y"


def test_a_summary_is_never_too_long(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(markdown, "MOST", 2_000)
    said = page([made(f"{n}é" * 30, False) for n in range(60)])
    assert len(said.encode()) <= 2_100
    assert "too long" in said


def test_what_is_in_the_file_counts_too(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(markdown, "MOST", 12_000)
    monkeypatch.setattr(markdown, "LIMIT", 12_100)
    path = tmp_path / "summary.md"
    rows = [made(f"{n}é" * 10, False) for n in range(60)]
    sizes = []
    for _ in range(8):
        markdown.append(path, of_failing(rows), iter(rows))
        sizes.append(path.stat().st_size)
        markdown.refuse(path, "no such file")
        assert path.stat().st_size <= 12_100

    said = path.read_text(encoding="utf-8")
    assert sizes[0] < 12_000, "one has room"
    assert sizes[1] > sizes[0] + 1_000, "and a part of the next"
    assert said.count("the summary is too long") == 1
    assert said.count("<details>") == said.count("</details>"), "or it would swallow the next"
    assert said.count("\n(left out: the summary is full)\n") >= 2
    assert sizes[-1] == sizes[-2], "and what is full beyond that stays as it is"


def test_what_is_no_file_is_never_full() -> None:
    markdown.append(Path("/dev/null"), of_failing([]))


def test_pages_are_added_to_the_file(made: Made, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "summary.md"
    columns = Columns.of([made("\ud800")])
    numbers = SimpleNamespace(
        run=a_run(),
        columns=columns,
        warnings=[],
        endpoints=summarise(columns),
        comparisons=[],
        gates=[],
        trouble=None,
    )
    markdown.append(path, numbers, [made("\ud800", False)])
    markdown.append(path, numbers)

    assert path.read_text(encoding="utf-8").count("## evalkit") == 2
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(ConfigError, match="cannot be written"):
        markdown.append(tmp_path / "file" / "s.md", numbers)


def test_repeated_samples_have_their_own_lines(made: Made) -> None:
    said = rendered(page([made(q, q != k, k=k) for q in range(4) for k in range(3)]))
    for part in ("pass@2", "pass^3", "flaky", "12 answers to 4 samples"):
        assert part in said, part


def test_it_says_what_nobody_knows_the_cost_of(made: Made) -> None:
    rows = [made(n, scores={"rubric": Score(1.0, True, "fine", calls=1)}) for n in range(2)]
    assert "| $0.00200 + 2 judgings of unknown cost |" in rendered(page(rows))


def test_pass_at_k_stays_in_one_piece() -> None:
    assert markdown.escape("pass@5 >= 95%") == "pass&#64;5 &#62;= 95%"
