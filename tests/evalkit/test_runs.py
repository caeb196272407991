"""`evalkit runs`: what is kept can be looked at, exported, tagged and deleted."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from evalkit.columns import Columns
from evalkit.content import content
from evalkit.runs import app
from evalkit.sample import load
from evalkit.stores import Run, open_store, run_id
from evalkit.summary import summarise
from evalkit.trial import Failure, Trial
from guardrails.errors import ConfigError
from guardrails.record import CallRecord
from judges.judge import Answer, Score

NOW = datetime.now(UTC)


def record(**fields: Any) -> dict[str, Any]:
    """A record with every field that a real one has."""
    plain = dict.fromkeys(CallRecord.names()) | {
        "model": "m",
        "token_source": "usage",
        "input_tokens": 3,
        "output_tokens": 2,
        "ttft_ms": 10.0,
        "e2e_ms": 20.0,
        "cost_usd": "0.5",
        "wasted_usd": "0",
        "cached": False,
        "cold": False,
        **{name: [] for name in ("attempts", "findings", "scanned", "not_scanned", "flow")},
        "labels": {},
    }
    return plain | fields


def row(run: str, n: int, passed: bool = True, **fields: Any) -> Trial:
    plain: dict[str, Any] = {
        "set": "facts",
        "place": n,
        "answer": Answer(f"answer {n}"),
        "record": record(),
        "scores": {"exact": Score.verdict(passed, "it differs")},
    }
    at = "2026-11-21T12:00:00"
    named = {"run": run, "sample": f"s{n}", "endpoint": "e", "key": f"k{n}", "started_at": at}
    return Trial(**(named | plain | fields))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Two runs: an old one of four rows, tagged, and a new one with none."""
    store = open_store(tmp_path / "runs.db")
    at = NOW - timedelta(days=3)
    run = store.create(
        Run(
            run_id("old", at),
            "old",
            "d",
            "complete",
            at,
            planned=4,
            tags=("baseline",),
            info={"commit": "abc"},
        )
    )
    failure = Failure("timeout", "no answer [bold]within[/] 60 s", "wait")
    store.append([row(run.id, 0), row(run.id, 1), row(run.id, 2, passed=False)])
    store.append([row(run.id, 3, answer=None, scores={}, record=record(cost_usd=None), error=failure)])
    store.create(Run(run_id("new", NOW), "new", "d2", "running", NOW, planned=10))
    store.close()
    return tmp_path


def called(home: Path, *words: str, **options: Any) -> Result:
    out = [] if words[0] == "export" else ["--out", str(home)]
    return CliRunner().invoke(app, [*words, *out], env={"COLUMNS": "200"}, **options)


def said(home: Path, *words: str, **options: Any) -> str:
    result = called(home, *words, **options)
    assert result.exit_code == 0, result.output
    return result.output


def test_the_list_shows_each_run_with_its_rate_interval_and_n(home: Path) -> None:
    lines = said(home, "list").splitlines()
    (old,) = (line for line in lines if "-old" in line)
    (new,) = (line for line in lines if "-new" in line)
    assert lines.index(new) < lines.index(old)
    for shown in ("complete", "facts", "50.0% [15.0, 85.0], 4", "$1.50 + 1 unknown", "3 d", "baseline"):
        assert shown in old
    assert "0 of 10" in new
    assert "-new" not in said(home, "list", "--tag", "baseline")


@pytest.mark.parametrize("weight", [1.0, 3.0])
def test_the_list_says_of_the_pass_rate_what_show_says(home: Path, weight: float) -> None:
    """With several answers to a sample, uneven weights and rows that a judge failed on."""
    store = open_store(home / "runs.db")
    run = store.create(Run("r", "r", "d", "complete", NOW + timedelta(days=1)))
    unjudged = {"exact": Score.unjudged("quota", "no money")}
    for n in range(60):
        sample = n // 3
        fields: dict[str, Any] = {"sample": f"s{sample}", "k": n % 3, "weight": 1.0 if sample % 2 else weight}
        judged = {"scores": unjudged} if n % 11 == 0 else {}
        store.append([row(run.id, n, passed=(n * 7) % 5 > n % 3, **fields, **judged)])
    rates = summarise(Columns.of(store.trials("r")))[0].pass_rate
    store.close()
    assert rates is not None
    listed = next(each for each in json.loads(said(home, "list", "--json")) if each["id"] == "r")
    shown = listed["arms"][0]["pass_rate"]
    assert shown["n"] == rates.n
    assert (shown["value"], shown["low"], shown["high"]) == pytest.approx(
        (rates.value, rates.low, rates.high)
    )


def test_a_run_that_nobody_writes_any_more_was_killed(home: Path) -> None:
    """It could not say so itself, and was shown as running for good."""
    assert [each["status"] for each in json.loads(said(home, "list", "--json"))] == ["killed", "complete"]
    assert "killed" in said(home, "show", "latest")
    store = open_store(home / "runs.db")
    with store.writing(store.find("latest").id):
        assert "running" in said(home, "list")
        assert "killed" not in said(home, "list")
    assert store.find("latest").status == "running", "looking writes nothing down"
    store.close()


def test_the_list_is_json_for_machines(home: Path) -> None:
    new, old = json.loads(said(home, "list", "--json"))
    assert (new["trials"], new["arms"], new["cost_usd"]) == (0, [], None)
    (arm,) = old["arms"]
    assert (arm["set"], arm["endpoint"], arm["trials"]) == ("facts", "e", 4)
    assert arm["pass_rate"]["value"] == 0.5
    assert arm["pass_rate"]["low"] < 0.5 < arm["pass_rate"]["high"]
    assert (Decimal(str(old["cost_usd"])), old["cost_unknown"]) == (Decimal("1.5"), 1)


def test_what_was_repeated_is_part_of_what_a_run_cost(home: Path) -> None:
    store = open_store(home / "runs.db")
    run = store.find("baseline")
    for usd in ("0.25", "0.125"):
        failure = Failure("reset", "it broke")
        broken = record(id=usd, cost_usd=usd)
        store.append([row(run.id, 3, answer=None, scores={}, record=broken, error=failure)])
    store.close()
    paid = 1.5 + 0.25 + 0.125

    assert json.loads(said(home, "list", "--json"))[1]["cost_usd"] == paid
    assert json.loads(said(home, "show", "baseline", "--json"))["cost_usd"] == paid
    assert "$1.88" in said(home, "list")
    assert "$1.88, $0.250 of it for tries that were repeated" in said(home, "show", "baseline")


@pytest.mark.parametrize(
    ("judges", "usd", "unknown", "shown"),
    [([], None, 0, "$0"), ([{"name": "j"}], 0.25, 1, "$0.750 + 1 unknown")],
    ids=["nobody was asked", "judges"],
)
def test_a_rescored_run_cost_its_judging(
    home: Path, judges: list[dict[str, Any]], usd: float | None, unknown: int, shown: str
) -> None:
    """Its calls were paid by the run that it judged again."""
    store = open_store(home / "runs.db")
    info = {"rescored": "old", "judges": judges}
    run = store.create(Run("r", "r", "d", "complete", NOW + timedelta(days=1), info=info))
    score = Score(1.0, True, "fine", cost_usd=usd, calls=len(judges))
    lost = replace(score, cost_usd=None)
    store.append([row(run.id, n, scores={"rubric": one}) for n, one in enumerate([score] * 3 + [lost])])
    store.close()

    listed = json.loads(said(home, "list", "--json"))[0]
    assert (listed["cost_usd"], listed["cost_unknown"]) == (3 * (usd or 0), unknown)
    assert json.loads(said(home, "show", "r", "--json"))["cost_usd"] == listed["cost_usd"]
    (line,) = (line for line in said(home, "list").splitlines() if line.strip().startswith("r  "))
    assert f" {shown} " in line
    judging = "$0.750 + 1 judging of unknown cost" if judges else "$0"
    assert f"{judging} now ($2.00 by the run" in said(home, "show", "r")


def test_show_prints_lineage_and_numbers(home: Path) -> None:
    shown = said(home, "show", "baseline")
    assert "4 of 4 rows" in shown
    assert "abc" in shown
    assert "50.0% [15.0, 85.0]" in shown
    assert json.loads(said(home, "show", "baseline", "--json"))["info"] == {"commit": "abc"}


def test_show_hides_secrets_that_older_versions_kept(home: Path) -> None:
    store = open_store(home / "runs.db")
    endpoint = {"name": "e", "url": "https://me:sesame@e/v1?key=sesame", "headers": {"x-key": "sesame"}}
    info = {"endpoints": [endpoint], "scorers": {"my_token": "d1"}, "suite": {"user": {"token": "sesame"}}}
    store.create(Run("r", "r", "d", "complete", NOW + timedelta(days=1), info=info))
    store.close()

    for words in (("show", "r"), ("show", "r", "--json")):
        assert "sesame" not in said(home, *words)
    shown = json.loads(said(home, "show", "r", "--json"))["info"]
    assert shown["endpoints"] == [{"name": "e", "url": "https://***@e/v1?key=***", "headers": ["x-key"]}]


def test_show_failing_says_why(home: Path) -> None:
    shown = said(home, "show", "baseline", "--failing")
    assert "s2" in shown
    assert "exact: it differs" in shown
    assert "answer 2" in shown
    assert "timeout: no answer [bold]within[/] 60 s" in shown
    assert "s0" not in shown
    assert "more than these 1" in said(home, "show", "baseline", "--failing", "--limit", "1")
    assert "every row passed" in said(home, "show", "latest", "--failing")
    failing = json.loads(said(home, "show", "baseline", "--failing", "--json"))["failing"]
    assert [each["sample"] for each in failing] == ["s2", "s3"]


def test_show_failing_says_what_was_asked_and_expected_as_long_as_the_set_says_so(home: Path) -> None:
    samples = [
        {"id": f"s{n}", "input": f"question {n} [bold]" + "x" * 400 * (n == 1), "references": ["yes", "ja"]}
        for n in range(3)
    ]
    golden = home / "facts.jsonl"
    golden.write_text("".join(json.dumps(each) + "\n" for each in samples), encoding="utf-8")
    held = {one.id: content(one.plain()) for one in load("facts.jsonl", home).samples}
    info = {"folder": str(home), "suite": {"golden": [{"path": "gone.jsonl"}, {"path": "facts.jsonl"}]}}
    store = open_store(home / "runs.db")
    run = store.create(Run("r", "r", "d", "complete", NOW + timedelta(days=1), info=info))
    changed = row(run.id, 2, passed=False, content="0" * 64)
    store.append([*(row(run.id, n, passed=False, content=held[f"s{n}"]) for n in (0, 1)), changed])
    store.close()

    shown = said(home, "show", "r", "--failing")
    assert (
        "asked: question 0 [bold]\n  expected: yes or ja\n  exact: it differs\n  answered: answer 0" in shown
    )
    assert f"asked: question 1 [bold]{'x' * 283}…" in shown.replace("\n", "")
    assert "question 2" not in shown, "the sample is not the one that was asked"
    golden.unlink()
    shown = said(home, "show", "r", "--failing")
    assert "answer 0" in shown
    assert "asked" not in shown


def test_text_of_others_does_not_steer_the_terminal(home: Path) -> None:
    store = open_store(home / "runs.db")
    run = store.create(Run("r", "r", "d", "complete", NOW + timedelta(days=1), tags=("\x1b[31m",)))
    store.append([row(run.id, 0, passed=False, sample="\x1b]0;x\x07", answer=Answer("\x1b[2J[red]"))])
    store.close()
    for words in (("list",), ("show", "r", "--failing")):
        assert "\x1b" not in said(home, *words)


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl", "rows.parquet", "rows"])
def test_export_goes_by_the_files_name(home: Path, name: str) -> None:
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow", reason="the extra `parquet` is not installed")
    path = home / name
    assert "4 rows in" in said(home, "export", "baseline", "--dir", str(home), "--out", str(path))
    begins = {".csv": b"run,key", ".parquet": b"PAR1"}.get(path.suffix, b'{"run"')
    assert path.read_bytes().startswith(begins)


def test_export_does_not_guess_at_an_ending(home: Path) -> None:
    path = home / "rows.xlsx"
    result = called(home, "export", "baseline", "--dir", str(home), "--out", str(path))
    assert isinstance(result.exception, ConfigError)
    assert ".jsonl, .csv, .parquet" in result.exception.hint
    assert not path.exists()
    said(home, "export", "baseline", "--dir", str(home), "--out", str(path), "--format", "csv")
    assert path.read_bytes().startswith(b"run,key")


@pytest.mark.parametrize("name", ["/", "."])
def test_rows_are_not_exported_to_a_folder(home: Path, name: str) -> None:
    result = called(home, "export", "baseline", "--dir", str(home), "--out", name)
    assert isinstance(result.exception, ConfigError)
    assert "is a folder" in result.exception.message


def test_export_prints_without_a_file(home: Path) -> None:
    shown = called(home, "export", "baseline", "--dir", str(home)).stdout.splitlines()
    assert [json.loads(line)["sample"] for line in shown] == ["s0", "s1", "s2", "s3"]
    cells = called(home, "export", "baseline", "--dir", str(home), "--format", "csv").stdout
    assert len(cells.splitlines()) == 5


def test_delete_asks_first(home: Path) -> None:
    assert called(home, "delete", "baseline", input="n\n").exit_code == 1
    assert "-old" in said(home, "list")
    assert "deleted" in said(home, "delete", "baseline", input="y\n")
    said(home, "delete", "latest", "--yes")
    assert said(home, "list") == "no runs yet\n"
    with sqlite3.connect(home / "runs.db") as connection:
        assert connection.execute("SELECT count(*) FROM trials").fetchone() == (0,)
    connection.close()


def test_tags_are_given_and_taken(home: Path) -> None:
    assert "best, x" in said(home, "tag", "latest", "x", "best")
    assert said(home, "tag", "best", "x", "--remove").strip().endswith(": best")


def test_a_run_that_is_no_whole_one_is_tagged_with_a_warning(home: Path) -> None:
    assert "warning" not in said(home, "tag", "baseline", "main")
    store = open_store(home / "runs.db")
    store.create(Run("cut", "r", "d", "interrupted", NOW, planned=100))
    store.close()
    assert "this run is no whole one (interrupted, 0 of 100 rows)" in said(
        home, "tag", "cut", "main", "--move"
    )


def test_two_runs_without_a_sample_in_common_are_no_comparison(home: Path) -> None:
    store = open_store(home / "runs.db")
    run = store.create(Run("r", "r", "d", "complete", NOW + timedelta(days=1)))
    store.append([row(run.id, 9, set="other")])
    store.close()
    result = called(home, "compare", "r", "baseline")
    assert isinstance(result.exception, ConfigError)
    assert "nothing can be compared" in result.exception.message
    assert "has no such arm" in result.output


def test_a_tag_that_the_run_does_not_have_is_not_taken(home: Path) -> None:
    result = called(home, "tag", "baseline", "baseline", "nosuchtag", "--remove")
    assert isinstance(result.exception, ConfigError)
    assert "has no tag nosuchtag" in result.exception.message
    assert result.exception.hint == "its tags are: baseline"
    assert "-old" in said(home, "show", "baseline"), "nothing was taken"


def test_a_tag_that_nobody_has_is_not_taken_for_an_empty_store(home: Path) -> None:
    assert said(home, "list", "--tag", "zz") == "no run has the tag zz\n"


def test_a_tag_can_be_moved_to_the_newest_run(home: Path) -> None:
    """As a job of CI does each night; `--baseline main` must mean one run."""
    store = open_store(home / "runs.db")
    for n in range(60):
        store.create(Run(f"r{n}", "r", "d", "complete", NOW - timedelta(days=9), tags=("main", "kept")))
    store.close()
    assert said(home, "tag", "baseline", "main", "--move").strip().endswith(": baseline, main")

    listed = json.loads(said(home, "list", "--json", "--tag", "main"))
    assert [each["name"] for each in listed] == ["old"]
    assert json.loads(said(home, "list", "--json", "--tag", "kept"))[0]["tags"] == ["kept"]
    assert isinstance(called(home, "tag", "latest", "x", "--move", "--remove").exception, ConfigError)


def test_two_runs_are_held_against_each_other_sample_by_sample(home: Path) -> None:
    store = open_store(home / "runs.db")
    run = store.create(Run("r", "r", "d", "complete", NOW + timedelta(days=1)))
    store.append([row(run.id, n, passed=n > 0, endpoint="renamed") for n in range(3)])
    store.append([row(run.id, 4, endpoint="renamed", set="other", key="k")])
    store.close()
    shown = " ".join(said(home, "compare", "r", "baseline").split())

    assert "between renamed and e in" in shown, "the set's only arm, whatever it is called"
    assert "(n = 3, paired)" in shown
    assert "renamed on facts: 1 passes less often: s0" in shown
    assert "renamed on facts: 1 passes more often: s2" in shown
    assert "renamed on other:" in shown
    assert "has no such arm" in shown

    plain = json.loads(said(home, "compare", "r", "baseline", "--json"))
    assert plain["run"] == "r"
    assert plain["baseline"].endswith("-old")
    (compared,) = plain["comparisons"]
    assert compared["a"] == "renamed"
    assert "(n = 3, paired)" in compared["verdict"]
    assert plain["changed"] == [
        {"set": "facts", "endpoint": "renamed", "less_often": ["s0"], "more_often": ["s2"]},
        {"set": "other", "endpoint": "renamed", "less_often": None, "more_often": None},
    ]


def test_a_store_may_be_named_by_its_url_or_by_the_environment(home: Path) -> None:
    url = f"sqlite:///{home / 'runs.db'}"
    runner = CliRunner()
    assert "-old" in runner.invoke(app, ["list", "--store", url], env={"COLUMNS": "200"}).output
    assert "-old" in runner.invoke(app, ["list"], env={"COLUMNS": "200", "EVALKIT_STORE": url}).output


def test_looking_makes_no_store(tmp_path: Path) -> None:
    result = called(tmp_path / "absent", "list")
    assert isinstance(result.exception, ConfigError)
    assert "no runs are kept" in str(result.exception)
    assert not (tmp_path / "absent").exists()


@pytest.mark.parametrize("width", [40, 80, 100, 200])
def test_an_id_is_shown_whole_however_narrow_the_terminal(home: Path, width: int) -> None:
    store = open_store(home / "runs.db")
    store.create(Run(run_id("x" * 40, NOW), "x" * 40, "d", "complete", NOW, planned=4))
    store.close()
    shown = CliRunner().invoke(app, ["list", "--out", str(home)], env={"COLUMNS": str(width)}).output
    assert run_id("x" * 40, NOW) in shown
    rate = "50.0% [15.0, 85.0], 4" if width == 200 else "50.0% [15.0, 85.0], n = 4"
    assert rate in shown, "and no rate is broken into a column of letters"


def test_a_pipe_gets_a_line_for_each_run(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    store = open_store(home / "runs.db")
    store.tag(store.find("baseline").id, add=["t" * 90])
    store.close()
    shown = CliRunner().invoke(app, ["list", "--out", str(home)]).output
    (line,) = (line for line in shown.splitlines() if "-old" in line)
    assert "50.0% [15.0, 85.0], 4" in line
    assert "t" * 90 in line


def test_show_says_what_the_gates_say(home: Path) -> None:
    """At three in the morning: why is it red?"""
    store = open_store(home / "runs.db")
    old = store.find("baseline")
    gates = ["pass_rate >= 90%", {"gate": "pass_rate", "against": "baseline", "margin": "50%"}, "unreadable"]
    info = {"suite": {"gates": gates}, "against": {"baseline": old.id, "gone": "nowhere"}}
    run = store.create(Run("r", "r", "d", "complete", NOW + timedelta(days=1), info=info))
    store.append([row(run.id, n, passed=n > 2) for n in range(4)])
    store.close()
    shown = said(home, "show", "r")

    assert "fail: pass_rate is 25%" in shown
    assert "pass_rate less that of baseline is -25.00 points" in shown
    assert "unreadable" not in shown
