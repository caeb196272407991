from __future__ import annotations

import io
import json
import math
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from evalkit import config, known_judges
from evalkit.calibration import Case, Material, calibrate, of_labels, of_run
from evalkit.cli import app as evalkit
from evalkit.commands.judge import app as judge
from evalkit.commands.label import label, questions, sit
from evalkit.known_judges import Known, digests, flags, keep, known
from evalkit.labelling import Asked, Desk, cases
from evalkit.labels import Label, answer_id, parsed
from evalkit.plan import Plan
from evalkit.stores import Run, open_store
from evalkit.trial import Trial
from guardrails.errors import ConfigError
from guardrails.source import Source
from judges.judge import Answer, Score

Make = Callable[..., Trial]
app = typer.Typer()
app.add_typer(judge, name="judge")
app.command()(label)


def invoke(*arguments: object, **how: Any) -> Any:
    return CliRunner().invoke(app, [str(each) for each in arguments], catch_exceptions=False, **how)


def scripted(
    make: Make, n: int, *, rate: float = 0.6, sens: float = 0.9, spec: float = 0.75
) -> Iterator[tuple[Trial, bool]]:
    """Rows that a judge with known errors judged, with the truth."""
    r = np.random.default_rng(3)
    for number in range(n):
        good = bool(r.random() < rate)
        said = bool(r.random() < sens) if good else bool(r.random() >= spec)
        text = f"answer {number} " + "x" * int(r.integers(1, 200))
        yield replace(make(f"q{number:04}", said, text=text), run="r1", place=number), good


@pytest.fixture
def home(tmp_path: Path, made: Make) -> tuple[Path, list[tuple[Trial, bool]]]:
    rows = list(scripted(made, 600))
    store = open_store(tmp_path / "runs.db")
    info = {"suite": {"scorers": ["contains"]}, "scorers": {"contains": "d1"}}
    store.create(Run("r1", "r", "d", "complete", datetime(2026, 1, 1, tzinfo=UTC), planned=600, info=info))
    store.append([row for row, _ in rows])
    store.close()
    return tmp_path, rows


def write(path: Path, rows: list[tuple[Trial, bool]]) -> Path:
    lines = [{"rater": "ann", "answer": answer_id(row), "label": good} for row, good in rows]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_calibrate_recovers_the_true_rate_and_is_kept(home: tuple[Path, list[tuple[Trial, bool]]]) -> None:
    folder, rows = home
    labels = write(folder / "human.jsonl", rows[:150])
    said = invoke("judge", "calibrate", "--labels", labels, "--run", "r1", "--out", folder, "--json")
    assert said.exit_code == 0, said.output
    found = json.loads(said.stdout)
    assert found["labelled"] == 150
    assert sum(map(sum, found["confusion"])) == 150
    (rates,) = found["rates"]
    truth = sum(good for _, good in rows) / 600
    for name in ("ppi", "rogan_gladen"):
        rate = rates[name]["rate"]
        assert rate["low"] <= truth <= rate["high"]
        assert rates[name]["labels"] == 150
    assert rates["ppi"]["rate"]["n"] == 600
    kept = known(folder)["contains"]
    assert kept.kappa == found["kappa"]["value"]
    assert kept.flagged == (kept.kappa < 0.6)
    shown = invoke("judge", "calibrate", "--labels", labels, "--run", "r1", "--out", folder)
    for word in ("Cohen's kappa", "sensitivity", "PPI", "Rogan–Gladen", "length bias", "n = 600"):
        assert word in shown.output


def test_a_judge_below_the_stated_agreement_is_flagged(home: tuple[Path, list[tuple[Trial, bool]]]) -> None:
    folder, rows = home
    labels = write(folder / "human.jsonl", rows[:100])
    said = invoke(
        "judge", "calibrate", "--labels", labels, "--run", "r1", "--out", folder, "--min-agreement", "0.95"
    )
    assert "below 0.95: reports will warn" in said.output
    (line,) = flags(["contains", "exact"], known(folder), {})
    assert "contains agrees too little" in line
    assert "100 labels" in line
    assert "nan" not in line
    (_, other) = flags(["contains"], known(folder), {"contains": "another"})
    assert "other settings" in other
    assert flags(["contains"], known(folder), {"contains": "d1", "exact": "new"}) == [line]
    assert flags(["contains"], known(folder / "nowhere"), {}) == []
    (folder / "calibrations" / "broken.json").write_text("[1")
    assert list(known(folder)) == ["contains"]


def test_what_cannot_be_compared_is_said(home: tuple[Path, list[tuple[Trial, bool]]], made: Make) -> None:
    folder, _ = home
    labels = write(folder / "human.jsonl", [(made("elsewhere"), True)])
    with pytest.raises(ConfigError, match="none of the 1 labels is of an answer"):
        invoke("judge", "calibrate", "--labels", labels, "--run", "r1", "--out", folder)
    with pytest.raises(ConfigError, match="no scorer 'other'"):
        invoke("judge", "calibrate", "--labels", labels, "--run", "r1", "--out", folder, "--scorer", "other")
    with pytest.raises(ConfigError, match="cannot be read"):
        invoke("judge", "calibrate", "--labels", folder / "none.jsonl", "--out", folder)


def test_labels_may_bring_the_verdicts_positions_and_lengths(tmp_path: Path) -> None:
    r = np.random.default_rng(0)
    file = tmp_path / "pairs.jsonl"
    with file.open("w") as out:
        for number in range(200):
            good, long = bool(r.random() < 0.5), int(r.integers(10, 2000))
            said = True if long > 1200 else good  # length buys a yes
            first = bool(r.random() < 0.7)
            row = {"sample": f"q{number}", "label": good, "judged": said, "length": long, "first": first}
            out.write(json.dumps(row) + "\n")
    said = invoke("judge", "calibrate", "--labels", file, "--out", tmp_path, "--json")
    found = json.loads(said.stdout)
    assert found["judge"] == "pairs"
    assert found["length_bias"]["low"] > 0.2
    assert found["position_bias"]["low"] > 0.0
    assert found["rates"] == []


def test_ratings_have_weighted_kappa_and_people_their_own_alpha() -> None:
    r = np.random.default_rng(1)
    labels = []
    for number in range(120):
        level = int(r.integers(1, 6))
        for rater in ("ann", "bob"):
            value = min(5, max(1, level + int(r.integers(-1, 2))))
            said = {"sample": f"q{number}", "rater": rater, "label": value, "judged": level, "scale": [1, 5]}
            labels.append(parsed(json.dumps(said), "here"))
    taken = of_labels(labels)
    found = calibrate("rubric", taken, np.random.default_rng(0))
    assert found.weighted_kappa is not None
    assert found.kappa is not None
    assert found.agreement == found.weighted_kappa
    assert found.weighted_kappa.value > found.kappa.value + 0.1
    assert found.people is not None
    assert 0.5 < found.people.value < 1
    assert found.disputed == sum(v.value is None for v in taken.verdicts) > 0
    assert found.errors is None


def test_a_third_is_one_value_whichever_way_it_came() -> None:
    thirds = [Case((0.1 + 0.2) / 0.9, 1 / 3, "a"), Case(1.0, 1.0, "b"), Case(0.0, 0.0, "c")]
    assert thirds[0].judged != thirds[0].truth
    found = calibrate("j", Material(thirds, []), np.random.default_rng(0))
    assert len(found.values) == 3
    assert found.accuracy is not None
    assert found.accuracy.value == 1.0


def test_a_judge_without_variation_is_flagged_and_written_as_json() -> None:
    found = calibrate("j", Material([Case(1.0, 1.0, str(n)) for n in range(5)], []), np.random.default_rng(0))
    assert found.kappa is not None
    assert math.isnan(found.kappa.value)
    assert found.flagged
    json.dumps(found.as_dict(), allow_nan=False)


def test_rows_that_the_judge_failed_on_take_no_part(made: Make) -> None:
    rows = [made("a"), made("b", None), made("c", "timeout"), made("d", False)]
    labels = [Label(1, sample="a"), Label(1, sample="b"), Label(0, sample="d")]
    taken = of_run(rows, "contains", labels)
    assert [(each.judged, each.truth) for each in taken.cases] == [(1, 1), (0, 0)]
    assert len(taken.verdicts) == 2
    assert (taken.unjudged, taken.unmatched, taken.unread) == (1, 0, {"a": 1})
    value = replace(rows[0], scores={"contains": Score(0.7, None, "")})
    (only,) = of_run([value], "contains", []).cases
    assert (only.judged, only.truth) == (0.7, None)


def test_all_names_of_an_answer_are_one_and_a_name_of_several_is_none(made: Make) -> None:
    rows = [made("a", True, arm="x", text="one"), made("a", False, arm="y", text="two"), made("b", text="b")]
    labels = [
        Label(1, "ann", answer=answer_id(rows[0])),
        Label(0, "bob", sample="a", endpoint="x"),  # the same answer: a tie
        Label(1, "ann", sample="a"),  # of x or of y?
        Label(1, "ann", sample="gone"),
    ]
    taken = of_run(rows, "contains", labels)
    (tie,) = taken.verdicts
    assert (tie.value, len(tie.labels)) == (None, 2)
    assert (taken.ambiguous, taken.unmatched) == (1, 1)
    assert [each.truth for each in taken.cases] == [None, None, None]
    with pytest.raises(ConfigError, match="fit several different answers"):
        calibrate("contains", of_run(rows, "contains", labels[2:]), np.random.default_rng(0))
    with pytest.raises(ConfigError, match="tied on all"):
        calibrate("contains", of_run(rows, "contains", labels[:2]), np.random.default_rng(0))


def test_a_rate_has_its_bounds_over_what_the_judge_failed_on(
    home: tuple[Path, list[tuple[Trial, bool]]], made: Make
) -> None:
    folder, rows = home
    store = open_store(folder / "runs.db")
    lost = [replace(made(f"x{n}", None, text=f"lost {n}"), run="r1", place=600 + n) for n in range(150)]
    store.append(lost)
    store.close()
    labels = write(folder / "human.jsonl", [*rows[:100], (lost[0], True)])
    said = invoke("judge", "calibrate", "--labels", labels, "--run", "r1", "--out", folder, "--json")
    (rates,) = json.loads(said.stdout)["rates"]
    assert (rates["unread"], rates["answers"], rates["judged"]["n"]) == (150, 750, 600)
    shown = invoke("judge", "calibrate", "--labels", labels, "--run", "r1", "--out", folder).output
    low = 0.8 * rates["judged"]["value"]
    assert f"failed on 150 of 750 answers; with these {low:.1%} to {low + 0.2:.1%} as judged" in shown
    assert "1 labelled answers have no verdict" in shown


def test_one_label_for_all_is_said_to_tell_half(home: tuple[Path, list[tuple[Trial, bool]]]) -> None:
    folder, rows = home
    labels = write(folder / "human.jsonl", [(row, True) for row, good in rows[:60] if good])
    shown = invoke("judge", "calibrate", "--labels", labels, "--run", "r1", "--out", folder).output
    assert "one label to all" in shown
    assert "judge no better than chance" in shown


def test_labels_that_say_nothing_of_a_judge_say_what_to_do(tmp_path: Path) -> None:
    file = tmp_path / "human.jsonl"
    file.write_text("\n")
    with pytest.raises(ConfigError, match="holds no label"):
        invoke("judge", "calibrate", "--labels", file, "--out", tmp_path)
    file.write_text('{"sample": "q", "label": true}\n')
    with pytest.raises(ConfigError, match=r"no label of .* holds the judge's verdict") as raised:
        invoke("judge", "calibrate", "--labels", file, "--out", tmp_path)
    assert "--run" in raised.value.hint


def test_every_report_of_a_run_warns_of_its_judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "answers.py").write_text("async def yes(request):\n    return 'yes, x'\n")
    monkeypatch.syspath_prepend(tmp_path)
    lines = [{"id": f"q{n}", "input": f"{n}?", "reference": "x" if n % 4 else "z"} for n in range(40)]
    (tmp_path / "set.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    endpoint = "{name: m, type: function, target: 'answers:yes'}"
    (tmp_path / "suite.yaml").write_text(
        f"golden: set.jsonl\nendpoints:\n  - {endpoint}\nscorers: [contains]\n"
    )
    rows = [{"sample": f"q{n}", "label": n % 3 == 0} for n in range(40)]
    (tmp_path / "human.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = ("run", "suite.yaml", "--fresh", "--html", "r.html", "--junit", "r.xml", "--markdown", "r.md",
           "--json", "r.json")  # fmt: skip
    assert "warning" not in CliRunner().invoke(evalkit, run).stderr
    invoke("judge", "calibrate", "--labels", "human.jsonl", "--run", "latest")
    said = CliRunner().invoke(evalkit, run)
    shown = CliRunner().invoke(evalkit, ["runs", "show", "latest"])
    plain = CliRunner().invoke(evalkit, ["runs", "show", "latest", "--json"])
    pages = [(tmp_path / name).read_text() for name in ("r.html", "r.xml", "r.md", "r.json")]
    for text in (said.stderr, shown.stdout, plain.stdout, *pages):
        assert "Judge contains agrees too little with people" in text
        assert "other settings" not in text


def test_a_judge_that_may_agree_too_little_is_named_too() -> None:
    sure, unsure = (Known("j", 0.7, low, 0.9, 50, 0.6, False, "d") for low in (0.65, 0.4))
    assert flags(["j"], {"j": sure}, {}) == []
    (line,) = flags(["j"], {"j": unsure}, {})
    assert "may agree too little with people: kappa 0.70 [0.40, 0.90] on 50 labels" in line


def test_a_scorers_digest_is_that_of_its_options_its_prompt_and_its_model(tmp_path: Path) -> None:
    (tmp_path / "set.jsonl").write_text('{"id": "a", "input": "?", "reference": "x"}\n')
    prompt = tmp_path / "mine.md"

    def said(criteria: str = "kind?", model: str = "m", wording: str = "Judge.") -> str:
        schema = "schema: {type: object, properties: {reasons: {type: string}, score: {}}}"
        prompt.write_text(f"---\nname: mine\nversion: 1\nscale: [1, 5]\n{schema}\n---\n# system\n{wording} "
                          "{{ criteria }} {{ scale }}\n# user\n{{ question }}\n{{ answer }}\n")  # fmt: skip
        suite = {
            "golden": "set.jsonl",
            "endpoints": [{"url": "http://localhost:1/v1", "model": "candidate"}],
            "judges": {"strict": {"url": "http://localhost:1/v1", "model": model}},
            "scorers": ["contains", {"rubric": {"criteria": criteria, "prompt": "mine.md"}}],
        }
        plan = Plan.of(config.check(Source("suite", suite), tmp_path), targets=(), folder=tmp_path)
        found = digests(plan.lineage())
        assert list(found) == ["contains", "mine"]
        return found["mine"]

    assert said() == said()
    assert len({said(), said(criteria="short?"), said(model="n"), said(wording="Judge well.")}) == 4


def test_a_name_with_a_slash_stays_in_its_folder(tmp_path: Path) -> None:
    found = calibrate(
        "../../x", Material([Case(1.0, 1.0), Case(0.0, 0.0, "b")], []), np.random.default_rng(0)
    )
    path = keep(found, tmp_path)
    draft = path.with_suffix(".part")
    draft.write_text("of another process")
    assert keep(found, tmp_path) == path
    assert draft.read_text() == "of another process"
    assert path.parent == tmp_path / known_judges.FOLDER
    assert list(known(tmp_path)) == ["../../x"]


# --- evalkit label -----------------------------------------------------------------------------------------


def test_labelling_by_keys_hides_model_and_verdict(tmp_path: Path, made: Make) -> None:
    rows = [made(f"q{n}", n % 2 == 0, arm="secret-model", text=f"text {n}") for n in range(3)]
    path = tmp_path / "labels.jsonl"
    asked = {("", f"q{n}"): Asked("why?", ("a passage",)) for n in range(3)}
    desk = Desk.open(cases(rows, asked, 0), path, "ann")
    console = Console(record=True, width=80, file=io.StringIO())
    keys = iter("yun")
    sit(desk, lambda: next(keys, ""), console)
    shown = console.export_text()
    assert "why?" in shown
    assert "passage 1: a passage" in shown
    assert "secret-model" not in shown
    assert "reason" not in shown
    (line,) = path.read_text().splitlines()
    assert json.loads(line)["label"] is False
    assert "secret" not in line


def test_the_label_command_is_resumed_and_feeds_calibrate(
    home: tuple[Path, list[tuple[Trial, bool]]],
) -> None:
    folder, _ = home
    said = invoke("label", "r1", "--out", folder, "--rater", "ann", input="ynyynq")
    assert said.exit_code == 0, said.output
    assert "5 labelled, 0 before, 595 left" in said.output
    said = invoke("label", "r1", "--out", folder, "--rater", "ann", input="y")
    assert "1 labelled, 5 before, 594 left" in said.output
    done = invoke(
        "judge", "calibrate", "--labels", folder / "labels" / "r1.jsonl", "--run", "r1", "--out", folder
    )
    assert "6 labelled answers" in done.output
    with pytest.raises(ConfigError, match="none of gold"):
        invoke("label", "r1", "--out", folder, "--weight", "iron")


def test_questions_are_shown_of_runs_whose_judges_ask_a_model_and_only_as_they_were(tmp_path: Path) -> None:
    row = {"id": "a", "input": "Who?", "context": ["It was Ann."], "reference": "Ann"}
    (tmp_path / "set.jsonl").write_text(json.dumps(row) + "\n")
    suite = {"golden": [{"path": "set.jsonl"}], "scorers": [{"rubric": {"criteria": "?", "model": "gone"}}]}
    info = {"suite": suite, "folder": str(tmp_path)}
    (asked,) = questions(Run("r", "r", "d", "complete", datetime.now(UTC), info=info)).values()
    assert (asked.question, asked.passages) == ("Who?", ("It was Ann.",))
    trial = Trial("r", "a", "m", "k", "now", set="set", answer=Answer("Bob"), content=asked.content)
    places = {("set", "a"): asked}
    assert cases([trial], places, 0)[0].question == "Who?"
    assert cases([replace(trial, content="other")], places, 0)[0].question == ""
    gone = Run("r", "r", "d", "complete", datetime.now(UTC), info={**info, "folder": str(tmp_path / "no")})
    assert questions(gone) == {}


def test_somebody_decides_what_raters_differ_on(home: tuple[Path, list[tuple[Trial, bool]]]) -> None:
    folder, _ = home
    for rater, keys in (("ann", "yyyyq"), ("bob", "ynynq")):
        invoke("label", "r1", "--out", folder, "--rater", rater, input=keys)
    labels = folder / "labels" / "r1.jsonl"
    how = ("judge", "calibrate", "--labels", labels, "--run", "r1", "--out", folder)
    found = json.loads(invoke(*how, "--json").stdout)
    assert (found["disputed"], found["labelled"], len(found["adjudicate"])) == (2, 2, 2)
    assert "somebody has to decide" in invoke(*how).output
    said = invoke("label", "r1", "--out", folder, "--rater", "eve", "--disputed", input="yy")
    assert "2 labelled, 0 before, 0 left" in said.output
    assert "bob" not in said.output
    found = json.loads(invoke(*how, "--json").stdout)
    assert (found["disputed"], found["labelled"], found["adjudicate"]) == (0, 4, [])
    said = invoke("label", "r1", "--out", folder, "--rater", "eve", "--disputed", input="")
    assert "nothing is in dispute" in said.output


@pytest.mark.e2e
@pytest.mark.skipif(sys.platform == "win32", reason="a pty is Unix's")
def test_single_keys_on_a_real_terminal(home: tuple[Path, list[tuple[Trial, bool]]]) -> None:
    import pty
    import subprocess

    folder, _ = home
    code = "import typer; from evalkit.commands.label import label; typer.run(label)"
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-c", code, "r1", "--out", str(folder), "--rater", "ann"],
        stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True,
    )  # fmt: skip
    os.close(theirs)
    shown, keys = b"", [b"y", b"n", b"u", b"q"]
    try:
        while True:
            try:
                shown += (part := os.read(ours, 65536))
            except OSError:  # the terminal's other end is closed
                break
            if not part:
                break
            if keys and b"q quit" in shown:
                for key in keys:
                    os.write(ours, key)
                keys = []
        assert child.wait(60) == 0, shown
    finally:
        child.kill()
        child.wait()
        os.close(ours)
    (line,) = (folder / "labels" / "r1.jsonl").read_text().splitlines()
    assert json.loads(line)["label"] is True
