"""The report shows what models said, and models are not trusted."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from evalkit import charts, report, view
from evalkit.columns import Columns
from evalkit.compare import compare
from evalkit.gate import parse
from evalkit.stats import Measured
from evalkit.summary import summarise
from evalkit.trial import Failure, Trial
from evalkit.trouble import Trouble
from evalkit.verdict import decide_all
from guardrails.errors import ConfigError
from judges.judge import Answer, Question, Score

RECORD = {
    "model": "m",
    "model_reported": None,
    "ttft_ms": 100.0,
    "tpot_ms": 10.0,
    "e2e_ms": 500.0,
    "input_tokens": 10,
    "output_tokens": 5,
    "token_source": "usage",
    "cost_usd": "0.001",
    "wasted_usd": "0",
    "price_version": "p1",
    "findings": [{"direction": "input", "kind": "EMAIL_ADDRESS", "action": "redact", "count": 2}],
    "scanned": ["input"],
    "not_scanned": [],
}
INFO = {
    "run": "run-1",
    "started_at": "2026-01-01T00:00:00+00:00",
    "status": "complete",
    "evalkit": "0",
    "python": "3",
    "git_commit": None,
    "golden": [{"name": "set", "samples": 2, "sha256": "0" * 64}],
    "suite_sha256": "1" * 64,
}
SCRIPT = "<script>alert(1)</script>"
NASTY = (
    f"{SCRIPT}<img src=x onerror=alert(1)>\"'><svg/onload=alert(1)></p></main><!-- {{{{ 7*7 }}}} \x00 \u202e"
)


def row(sample: str, passed: bool, endpoint: str = "a", **fields: Any) -> Trial:
    made: dict[str, Any] = {
        "answer": Answer("text"),
        "scores": {"contains": Score.verdict(passed, "a reason")},
        "record": RECORD,
    }
    return Trial("run-1", sample, endpoint, endpoint + sample, "now", **{**made, **fields})


def content(all_rows: list[Trial], *gates: str, **fields: Any) -> report.Content:
    columns = Columns.of(all_rows)
    made: dict[str, Any] = {
        "info": INFO,
        "endpoints": summarise(columns),
        "comparisons": compare(columns),
        "gates": decide_all([parse(each) for each in gates], columns),
        "rows": iter(all_rows),
    }
    allowed = fields.get("info", INFO).get("suite", {}).get("max_error_rate", 1.0)
    made["trouble"] = Trouble.of(columns, allowed)
    return report.Content(columns=columns, **{**made, **fields})


def page(all_rows: list[Trial], *gates: str, **fields: Any) -> str:
    return report.render(content(all_rows, *gates, **fields))


class Tags(HTMLParser):
    """All tags of a page, with their attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_nothing_that_anybody_wrote_becomes_markup() -> None:
    rows = [
        row(
            "s1",
            False,
            NASTY,
            answer=Answer(NASTY),
            tags=(NASTY,),
            scores={NASTY: Score.verdict(False, NASTY)},
        ),
        row(NASTY, False, NASTY, answer=None, scores={}, error=Failure(NASTY, NASTY)),
        row("s1", True, "b", record={**RECORD, "model_reported": NASTY, "not_scanned": [NASTY]}),
    ]
    info = {**INFO, "golden": [{"name": NASTY, "samples": 1, "sha256": NASTY}], "run": NASTY}
    clean = Tags(page([row("s1", False), row("s1", True, "b")], "pass_rate >= 1")).found

    asked = Question(NASTY, (NASTY,))
    html = page(rows, "pass_rate >= 99%", info=info, asked=lambda at, sample: asked, banner=NASTY)

    tags = Tags(html).found
    assert {tag for tag, _ in tags} <= {tag for tag, _ in clean} | {"b", "p", "code", "h2", "h3"}
    assert not [name for _, attributes in tags for name in attributes if name.startswith("on")]
    assert "<script" not in html.lower()
    assert "&lt;script&gt;" in html
    assert "49" not in re.findall(r"<!-- (.*?) ", html)


def test_the_page_needs_nothing_from_elsewhere() -> None:
    html = page([row("s1", False), row("s1", True, "b")])
    tags = Tags(html).found

    assert not {tag for tag, _ in tags} & {
        "script",
        "link",
        "img",
        "iframe",
        "object",
        "embed",
        "form",
        "base",
    }
    assert not re.search(r"""(src|href|action)\s*=|url\(|@import""", html)
    policy = next(a["content"] for tag, a in tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def test_samples_that_tell_the_endpoints_apart_come_first() -> None:
    rows = [
        *(row("both-wrong", False, name) for name in "ab"),
        row("one-wrong", False, "a"),
        row("one-wrong", True, "b"),
        *(row("both-right", True, name) for name in "ab"),
    ]
    asked = {"one-wrong": Question("What is\n6 × 7?", ("forty-two", "42", "XLII", "x" * 100))}
    html = page(rows, asked=lambda at, sample: asked.get(sample))

    assert html.index("one-wrong") < html.index("both-wrong")
    assert "both-right" not in html
    assert '<p class="answer asked">What is\n6 × 7?</p>' in html
    assert "Expected: <code>forty-two</code> or <code>42</code></p>" in html
    assert html.count('class="answer asked"') == 1, "nobody knows what the other one asks"


def test_long_runs_and_long_answers_are_cut_and_said_so() -> None:
    rows = [row(f"s{n}", False, answer=Answer("x" * 50_000)) for n in range(report.MAX_FAILING + 7)]
    html = page(rows, asked=lambda at, sample: Question("y" * 50_000, ("z" * 100,)))

    assert html.count("x … (cut here)") == html.count("y … (cut here)") == report.MAX_FAILING
    assert f"<code>{'z' * 80}…</code>" in html
    assert "7 more samples failed" in html
    assert len(html) < 1_000_000


def test_gates_verdicts_and_findings_are_shown() -> None:
    rows = [row(f"s{n}", n > 0, arm) for n in range(40) for arm in "ab"]
    html = page(rows, "pass_rate >= 50%", "pass_rate <= 50%", "pass_rate >= 98%", banner="Simulated")

    assert "<title>a: $1.00 (n = 40)</title>" in html, "a thousand calls of a tenth of a cent"
    for part in ("Simulated", "could be shown", "pass_rate is 97.5%", "EMAIL_ADDRESS"):
        assert part in html, part
    for status in ("pass", "fail", "undecided"):
        assert html.count(f'<b class="{status}">{status}</b>') == 4, f"{status}: in the table and in words"
    assert "<h2>Gates: 2 fail, 2 undecided, 2 pass</h2>" in html


def test_gates_of_several_arms_are_a_table_and_those_of_one_a_list() -> None:
    rows = [row(f"s{n}", n > 0 or arm == "a", arm) for n in range(40) for arm in "ab"]
    html = page(rows, "pass_rate >= 50%", "pass_rate of b <= 50%", "pass_rate >= baseline")
    body = html[html.index('<table class="gated">') : html.index("<details>")]

    assert re.findall("<th>(.*?)</th>", body) == [
        *("", "a", "b", "pass_rate &gt;= 0.5", "pass_rate of b &lt;= 0.5", "pass_rate &gt;= baseline")
    ]
    assert re.findall(r'<b class="(\w+)">|<td>(</td>)', body) == [
        *(("pass", ""), ("pass", ""), ("", "</td>"), ("fail", ""), ("undecided", ""), ("undecided", ""))
    ]
    assert "97.5% [87.1,\u00a099.6]" in body
    assert body.count("–") == 2, "nothing was measured against a baseline"
    alone = page([row("s1", True)], "pass_rate >= 50%")
    assert '<table class="gated">' not in alone
    assert "undecided: pass_rate" not in alone
    assert "pass_rate is 100%" in alone


def test_no_line_ends_within_an_interval() -> None:
    assert report.unbroken("9.5% [1.0, 2.0]: 3 flaky, 4 never") == "9.5% [1.0,\u00a02.0]: 3 flaky, 4 never"


def test_each_set_has_its_own_part() -> None:
    rows = [row("s1", passed, arm, set=at) for at, passed in (("x", True), ("y", False)) for arm in "ab"]
    html = page(rows)

    assert [html.count(f"<h2>{at}</h2>") for at in "xy"] == [1, 1]
    assert "<h1>x, y</h1>" in html
    assert "y / s1" in html
    assert "x / s1" not in html


def test_several_answers_show_how_many_passed_and_one_that_did_not() -> None:
    rows = [
        row(sample, passed, k=k, answer=Answer(f"{sample} answer {k}"))
        for sample, answers in {"flaky": (True, False, True), "good": (True,) * 3}.items()
        for k, passed in enumerate(answers)
    ]
    html = page(rows)

    for part in ("pass@3", "pass^3", "2 of 3 answers passed", "flaky answer 1", "flaky (2 of 3)"):
        assert part in html, part
    assert "flaky answer 0" not in html
    assert "good answer" not in html


def test_rows_that_are_not_given_are_known_from_the_columns() -> None:
    rows = [row("s1", False, "a"), row("s1", True, "b", answer=Answer("the better answer"))]
    html = page(rows, rows=(each for each in rows if each.passed is not True))

    assert '<span class="pass">pass</span>' in html
    assert "the better answer" not in html


def test_marks_without_a_verdict_are_no_failure() -> None:
    html = page([row("s1", True, scores={"rubric": Score(0.4, None, "a grade")})])

    assert "Mean of rubric" in html
    assert "<p>None.</p>" in html
    assert "Judge errors" not in html


def test_a_sample_that_one_arm_was_not_asked_is_missing_there() -> None:
    html = page([row("s1", False, "a"), row("s2", True, "b")])

    assert "was not asked" in html


def test_an_answer_of_half_characters_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "report.html"

    report.write(path, content([row("s1", False, answer=Answer("\ud800"))]))

    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")

    with pytest.raises(ConfigError, match="cannot be written"):
        report.write(tmp_path / "file" / "r.html", content([row("s1", True)]))


# --- how the run ended


def broken(sample: str) -> Trial:
    return row(sample, False, answer=None, scores={}, error=Failure("timeout", "it took too long"))


def banners(all_rows: list[Trial], **info: Any) -> list[str]:
    return re.findall(r'<p class="banner">(.*?)</p>', page(all_rows, info={**INFO, **info}))


def test_a_page_of_a_whole_run_has_no_banner() -> None:
    rows = [broken("s0"), *(row(f"s{n}", True) for n in range(1, 10))]
    assert banners(rows, suite={"max_error_rate": 0.1}) == []


@pytest.mark.parametrize("status", ["capped", "interrupted", "stopped"])
def test_a_page_says_that_the_run_ended_early_and_how_to_go_on(status: str) -> None:
    (said,) = banners([row("s1", True), row("s2", True)], status=status)
    assert "of 2 calls" in said
    assert "<code>evalkit run SUITE --resume run-1</code>" in said
    (rescored,) = banners([row("s1", True)], status=status, rescored="run-0")
    assert "evalkit rescore run-0" in rescored
    assert "--resume run-0" in rescored


def test_a_page_says_that_too_much_failed_and_that_its_verdicts_do_not_count() -> None:
    rows = [broken("s0"), *(row(f"s{n}", True) for n in range(1, 9))]
    (said,) = banners(rows, suite={"max_error_rate": 0.1})
    assert said.startswith("11.1% of the calls or their judges failed, and the suite allows 10.0%")
    assert "no verdict below counts" in said
    assert "--resume run-1" in said
    (rescored,) = banners(rows, suite={"max_error_rate": 0.1}, rescored="run-0")
    assert "--resume run-0" in rescored


def test_a_page_says_that_a_judge_failed_too_often() -> None:
    rows = [row("s1", True), row("s2", True, scores={"contains": Score.unjudged("timeout", "no reply")})]
    (said,) = banners(rows, suite={"max_error_rate": 0.1})
    assert said.startswith("50.0% of the calls or their judges failed")
    assert banners(rows, suite={"max_error_rate": 0.5}) == []
    (said,) = banners(rows[1:], suite={"max_error_rate": 1.0})
    assert said.startswith("No answer could be judged: no verdict below counts")


def test_a_page_says_both_that_nothing_came_and_that_the_cap_was_reached() -> None:
    said = banners([broken("s1")], status="capped", suite={"max_error_rate": 1.0})
    assert [each.split(":")[0] for each in said] == [
        "No call brought an answer",
        "The cost cap ended this run before it was complete",
    ]
    assert banners([]) == ["No call was made: nothing was measured."]
    (said,) = banners([], status="capped")
    assert said.startswith("The cost cap is below what the first call may cost")


def test_a_page_of_a_rescored_run_does_not_say_that_its_calls_were_paid_again() -> None:
    judged = {"rubric": Score(1.0, True, "a reason", cost_usd=0.25)}
    rows = [row(f"s{n}", True, scores=judged) for n in range(4)]
    assert "<td>$1.00, $1.00 of it for judging</td>" in page(rows)
    shown = page(rows, info={**INFO, "rescored": "run-0"})
    assert "<td>$1.00 now ($0.00400 by the run that it judged again)</td>" in shown
    console = Console(file=StringIO(), width=120)
    view.table(console, summarise(Columns.of(rows)), rescored=True)
    assert isinstance(console.file, StringIO)
    assert "$1.00 now ($0.00400 by the run that it judged again)" in console.file.getvalue()


# --- charts


def numbers(svg: str) -> list[float]:
    return [float(n) for n in re.findall(r'[xy12c]+="(-?[\d.]+)"', svg)]


def test_pictures_stay_inside_their_frame() -> None:
    wild = [Measured(5.0, -3.0, float("inf"), 9), Measured(0.0, 0.0, 0.0, 1), None]
    svg = charts.intervals([("row", wild)], str, title="t")

    assert all(0 <= n <= charts.WIDTH for n in numbers(svg))
    assert svg.count("<circle") == 2


def test_a_colour_is_an_arm() -> None:
    some = Measured(0.5, 0.4, 0.6, 9)
    tags = charts.intervals([("easy", [some]), ("hard", [some])], str, title="t")
    arms = charts.intervals([("a", [some]), ("b", [some])], str, title="t", by_row=True)

    assert re.findall(r'<g class="(s\d)">', tags) == ["s0", "s0"]
    assert re.findall(r'<g class="(s\d)">', arms) == ["s0", "s1"]


def test_no_data_give_no_picture() -> None:
    assert charts.intervals([("row", [None])], str, title="t") == ""
    assert charts.ecdf({"a": (0, [])}, unit=" ms", title="t") == ""


def test_a_curve_rises_to_the_share_of_values_that_are_shown() -> None:
    svg = charts.ecdf({"a": (4, [1.0, 2.0, 3.0, 4.0]), "b": (0, [])}, unit=" ms", title="t")
    heights = [float(v) for v in re.findall(r"V([\d.]+)", svg)]

    assert heights == sorted(heights, reverse=True)
    assert heights[-1] == 10.0
    assert len(heights) == 4


LONG = "an-endpoint-with-a-long-name-in-production-eu-west-1"


@pytest.mark.parametrize(
    ("names", "first"),
    [
        ([f"{LONG}/plain", f"{LONG}/terse", "other"], "an-end…st-1/plain"),
        ([f"a-{LONG}", f"b-{LONG}"], "a-an-e…-eu-west-1"),
        ([f"{'x' * 8}1{'y' * 20}", f"{'x' * 8}2{'y' * 20}"], "xxxxxxxx1y…yyyyyy"),
        ([f"{'x' * 20}1{'y' * 20}", f"{'x' * 20}2{'y' * 20}"], "xxxxxx…yyyyyy 1"),
        (["same" * 9, "same" * 9], "samesa…mesamesame"),
    ],
)
def test_names_that_differ_do_so_when_they_are_shortened(names: list[str], first: str) -> None:
    made = charts.shortened(names)
    assert made[0] == first
    assert len(set(made)) == len(set(names))
    assert all(len(each) <= charts.LONGEST for each in made)
    svg = charts.intervals([(name, [Measured(0.5, 0.4, 0.6, 9)]) for name in names], str, title="t")
    assert f"<title>{names[0]}</title>{made[0]}</text>" in svg, "the whole name is its title"


def test_a_label_that_is_too_wide_is_squeezed_and_others_are_left_alone() -> None:
    some = [Measured(0.5, 0.4, 0.6, 9)]
    assert "textLength" not in charts.intervals([("topic-number-00", some)], str, title="t")
    assert 'textLength="120"' in charts.intervals([("W" * 17, some)], str, title="t")
    assert 'textLength="120"' in charts.intervals([("题" * 12, some)], str, title="t")


def test_fewer_tags_are_shown_the_more_arms_there_are() -> None:
    def shown(arms: str) -> int:
        rows = [row(f"s{n}", n > 0, arm, tags=(f"t{n}",)) for n in range(20) for arm in arms]
        return int(re.findall(r"The (\d+) most frequent tags", page(rows))[0])

    assert [shown(arms) for arms in ("a", "abcd", "abcdefgh")] == [16, 8, 5]


def test_labels_are_escaped() -> None:
    svg = charts.intervals([(SCRIPT, [Measured(0.5, 0.4, 0.6, 3)])], str, title='"><script>')

    assert "<script" not in svg


@pytest.mark.parametrize(
    ("value", "limit"), [(0, 1), (0.93, 1), (1, 1), (1.01, 1.5), (7, 8), (852, 1000), (0.012, 0.015)]
)
def test_axes_end_on_round_numbers(value: float, limit: float) -> None:
    assert charts.nice(value) == pytest.approx(limit)


def test_a_page_says_what_nobody_knows_the_cost_of() -> None:
    asked = Score(1.0, True, "fine", calls=1)
    rows = [row("s1", True, scores={"rubric": asked}), row("s2", True, scores={"rubric": asked})]
    assert "<td>$0.00200 + 2 judgings of unknown cost</td>" in page(rows)
