"""What the files of a run say is what its exit code says, however it ended."""

from __future__ import annotations

import json
import signal
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from rich.console import Console
from typer.testing import CliRunner

from evalkit.cli import app
from evalkit.config import Suite
from evalkit.files import Files
from evalkit.interrupt import terminable
from evalkit.plan import Plan, Target
from evalkit.runner import Hopeless
from evalkit.session import Session
from evalkit.stores import open_store
from guardrails.call import Call
from guardrails.client import Llm
from guardrails.errors import ConfigError, GuardrailsError, Refused
from guardrails.testing import ScriptedEndpoint


def session(folder: Path, handler: ScriptedEndpoint, **fields: Any) -> Session:
    lines = ({"id": f"s{i}", "input": f"q{i}", "reference": "yes"} for i in range(20))
    (folder / "g.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines), encoding="utf-8")
    suite = Suite.model_validate(
        {
            "golden": str(folder / "g.jsonl"),
            "endpoints": [{"name": "e", "url": "http://x/v1"}],
            "out": folder,
            "concurrency": 1,
            "gates": ["pass_rate >= 10%"],
            **fields,
        }
    )
    made = Plan.of(suite, [Target(Llm(handler, name="e"), "e", price=lambda *_: Decimal(1))])
    consoles = Console(file=StringIO()), Console(file=StringIO())
    return Session(made, open_store(suite.database), None, *consoles)


def files(folder: Path) -> Files:
    return Files(*(folder / name for name in ("report.html", "numbers.json", "junit.xml", "summary.md")))


def junit(folder: Path) -> ElementTree.Element:
    return ElementTree.parse(folder / "junit.xml").getroot()


def kinds(folder: Path, suite: str) -> list[str]:
    cases = junit(folder).findall(f"./testsuite[@name='{suite}']/testcase")
    return [case[0].tag if len(case) else "pass" for case in cases]


def interrupting() -> ScriptedEndpoint:
    """It is interrupted once its gate is passed, by the rows that there are."""
    asked: list[Call] = []

    def answer(call: Call) -> str:
        asked.append(call)
        if len(asked) == 10:
            signal.raise_signal(signal.SIGTERM)
        return "yes"

    return ScriptedEndpoint(answer)


def test_an_interrupted_run_is_not_green(tmp_path: Path) -> None:
    assert session(tmp_path, interrupting()).run(files(tmp_path)) == 130

    assert kinds(tmp_path, "run") == ["error"]
    assert kinds(tmp_path, "gates") == ["skipped"]


def test_a_run_that_reached_its_cap_is_undecided(tmp_path: Path) -> None:
    code = session(tmp_path, ScriptedEndpoint("yes"), budget={"max_usd": 10}).run(files(tmp_path))

    assert code == 3
    assert (kinds(tmp_path, "run"), kinds(tmp_path, "gates")) == (["skipped"], ["skipped"])
    assert junit(tmp_path).attrib["errors"] == "0"


@pytest.mark.parametrize(
    ("gate", "code", "tagged"),
    [("pass_rate >= 10%", 0, True), ("pass_rate <= 10%", 1, False), ("pass_rate >= 99%", 3, False)],
    ids=["pass", "fail", "undecided"],
)
def test_a_tag_is_moved_to_a_run_that_passes_and_to_no_other(
    tmp_path: Path, gate: str, code: int, tagged: bool
) -> None:
    before = session(tmp_path, ScriptedEndpoint("yes"))
    assert before.run(tags=["main", "green"]) == 0
    first = open_store(tmp_path / "runs.db").find("main")

    assert session(tmp_path, ScriptedEndpoint("yes"), gates=[gate]).run(tags=["main"]) == code

    store = open_store(tmp_path / "runs.db")
    assert (store.find("main").id != first.id) is tagged
    assert store.find("green").id == first.id


def test_a_run_that_is_interrupted_or_broken_takes_no_tag(tmp_path: Path) -> None:
    assert session(tmp_path, interrupting()).run(tags=["main"]) == 130
    with pytest.raises(GuardrailsError, match="no call brought an answer"):
        session(tmp_path, ScriptedEndpoint(TimeoutError("late"))).run(tags=["main"])

    assert not open_store(tmp_path / "runs.db").runs(tag="main")


def test_what_cannot_be_a_tag_is_said_before_the_first_call(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be a tag"):
        session(tmp_path, endpoint := ScriptedEndpoint("yes")).run(tags=["latest"])

    assert not endpoint.calls


def test_a_complete_run_has_passed(tmp_path: Path) -> None:
    assert session(tmp_path, ScriptedEndpoint("yes")).run(files(tmp_path)) == 0

    assert (kinds(tmp_path, "run"), kinds(tmp_path, "gates")) == ([], ["pass"])


def test_a_run_of_too_many_failures_has_passed_nothing(tmp_path: Path) -> None:
    asked: list[Call] = []

    def answer(call: Call) -> str:
        asked.append(call)
        if len(asked) % 2:
            return "yes"
        raise GuardrailsError("no", kind="server")

    with pytest.raises(GuardrailsError, match=r"50\.0% of the calls"):
        session(tmp_path, ScriptedEndpoint(answer)).run(files(tmp_path))

    assert (kinds(tmp_path, "run"), kinds(tmp_path, "gates")) == (["error"], ["skipped"])


@pytest.mark.parametrize("undecided", ["report", "fail", "value"])
def test_a_run_of_too_many_failures_has_failed_nothing(tmp_path: Path, undecided: str) -> None:
    """Its exit code is not that of a failed gate."""
    asked: list[Call] = []

    def answer(call: Call) -> str:
        asked.append(call)
        if len(asked) % 2:
            return "yes"
        raise GuardrailsError("no", kind="server")

    gates = ["error_rate <= 1%", "pass_rate >= 50%"]
    made = session(tmp_path, ScriptedEndpoint(answer), gates=gates, undecided=undecided)
    with pytest.raises(GuardrailsError, match=r"50\.0% of the calls"):
        made.run(files(tmp_path))

    assert kinds(tmp_path, "gates") == ["skipped", "skipped"]
    page = (tmp_path / "summary.md").read_text(encoding="utf-8")
    assert "❌ fail" not in page
    assert "2 undecided" in page
    assert "exit code counts" not in page


@pytest.mark.parametrize(
    ("undecided", "counts"), [("fail", "1 as failed."), ("value", "1 as passed, by its")]
)
def test_what_becomes_of_undecided_gates_is_said(tmp_path: Path, undecided: str, counts: str) -> None:
    made = session(tmp_path, ScriptedEndpoint("yes"), gates=["pass_rate >= 95%"], undecided=undecided)

    assert made.run(files(tmp_path)) == (undecided == "fail")

    said = f"The exit code counts undecided gates too (`undecided: {undecided}` in the suite): {counts}"
    assert isinstance(made.out.file, StringIO)
    assert said in " ".join(made.out.file.getvalue().split())
    assert "exit code counts undecided gates" in (tmp_path / "summary.md").read_text(encoding="utf-8")
    shown = CliRunner().invoke(app, ["runs", "show", "latest", f"--out={tmp_path}"])
    assert said in " ".join(shown.output.split())


def test_gates_of_which_the_suite_says_nothing_have_no_such_line(tmp_path: Path) -> None:
    made = session(tmp_path, ScriptedEndpoint("yes"), gates=["pass_rate >= 95%"])
    assert made.run(files(tmp_path)) == 3
    assert "exit code counts" not in (tmp_path / "summary.md").read_text(encoding="utf-8")


def test_what_a_cap_ended_says_what_was_spent_and_how_to_go_on(tmp_path: Path) -> None:
    made = session(tmp_path, ScriptedEndpoint("yes"), budget={"max_usd": 10})
    code = made.run(files(tmp_path), command=["evalkit", "run", "suite.yaml"])

    assert code == 3
    assert isinstance(made.err.file, StringIO)
    said = made.err.file.getvalue()
    assert " of $10.00 is spent" in said
    assert "Set `sampling.max_tokens`: without it, an answer is taken for 4,096 tokens" in said
    (run,) = made.store.runs()
    assert f"Raise the cap, and go on with:\n  evalkit run suite.yaml --resume {run.id}\n" in said


@pytest.mark.parametrize("n", [1, 2])
def test_an_answer_is_called_the_same_everywhere(tmp_path: Path, n: int) -> None:
    made = session(tmp_path, ScriptedEndpoint("no"), gates=[], sampling={"n": n}, limit=1)
    made.run(files(tmp_path))

    (id_,) = {row.sample for row in made.store.trials(made.store.runs()[0].id)}
    names = [id_] if n == 1 else [f"{id_} #1", f"{id_} #2"]
    assert [case.attrib["name"] for case in junit(tmp_path).iter("testcase")] == names
    page = (tmp_path / "summary.md").read_text(encoding="utf-8").replace("&#35;", "#")
    shown = CliRunner().invoke(app, ["runs", "show", "latest", "--failing", f"--out={tmp_path}"]).output
    for name in names:
        assert f"| {name} |" in page
        assert f"g {name} e\n" in shown


@pytest.mark.parametrize("name", ["html", "json", "junit", "markdown"])
def test_no_file_is_called_by_the_sign_of_the_output(name: str) -> None:
    with pytest.raises(ConfigError, match="- is no name of a file"):
        Files(**{name: Path("-")})


@pytest.mark.parametrize("name", ["html", "json", "junit", "markdown"])
def test_two_kinds_of_results_are_not_one_file(tmp_path: Path, name: str) -> None:
    other = "json" if name == "html" else "html"
    (tmp_path / "link").symlink_to(tmp_path / "x.out")
    for path in (tmp_path / "x.out", tmp_path / "." / "x.out", tmp_path / "link"):
        with pytest.raises(ConfigError, match="is named for two kinds of results"):
            Files(**{name: path, other: tmp_path / "x.out"})
    Files(**{name: Path("/dev/stdout"), other: Path("/dev/stdout")})


# --- summaries ---------------------------------------------------------------------------------------------


def test_a_summary_that_is_named_is_made_anew(tmp_path: Path) -> None:
    made = stale(tmp_path)
    (tmp_path / "now").mkdir()

    session(tmp_path / "now", ScriptedEndpoint("yes")).run(made)

    page = (tmp_path / "summary.md").read_text(encoding="utf-8")
    assert page.count("## g") == 1
    made.refuse("the suite is wrong")
    page = (tmp_path / "summary.md").read_text(encoding="utf-8")
    assert "the suite is wrong" in page
    assert "## g" not in page
    (tmp_path / "summary.md").write_text("# Mine\n", encoding="utf-8")
    made.refuse("the suite is wrong")
    assert (tmp_path / "summary.md").read_text(encoding="utf-8") == "# Mine\n", "it is no summary"


def test_a_steps_summary_is_added_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is that of all commands of the step; also where somebody names it."""
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    (tmp_path / "summary.md").write_text("# Mine\n", encoding="utf-8")
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        session(tmp_path / name, ScriptedEndpoint("yes")).run(files(tmp_path))

    page = (tmp_path / "summary.md").read_text(encoding="utf-8")
    assert page.startswith("# Mine\n")
    assert page.count("## g") == 2


# --- runs that an error ends -------------------------------------------------------------------------------


def stale(folder: Path) -> Files:
    """The files of an earlier run, which passed."""
    (folder / "before").mkdir(exist_ok=True)
    assert session(folder / "before", ScriptedEndpoint("yes")).run(files(folder)) == 0
    assert kinds(folder, "gates") == ["pass"]
    return files(folder)


def test_an_endpoint_that_never_answers_is_said_in_every_file(tmp_path: Path) -> None:
    def answer(call: Call) -> str:
        raise Refused("the key is wrong", kind="auth")

    with pytest.raises(Hopeless):
        session(tmp_path, ScriptedEndpoint(answer)).run(stale(tmp_path))

    said = "e: the first 5 calls failed (auth): the key is wrong"
    assert kinds(tmp_path, "run") == ["error"]
    assert kinds(tmp_path, "g.e") == ["error"] * 5
    assert (
        junit(tmp_path).findall("./testsuite/testcase/error[@type='incomplete']")[0].attrib["message"] == said
    )
    assert "pass" not in kinds(tmp_path, "gates")
    numbers = json.loads((tmp_path / "numbers.json").read_bytes())
    assert (numbers["status"], numbers["verdict"], numbers["info"]["error"]) == ("stopped", "errors", said)
    assert said in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "the key is wrong" in (tmp_path / "summary.md").read_text(encoding="utf-8").rpartition("## ")[2]


def test_a_run_that_does_not_begin_leaves_no_results_of_another(tmp_path: Path) -> None:
    made = stale(tmp_path)
    (tmp_path / "now").mkdir()

    with pytest.raises(ConfigError, match="there is no run 'gone'"):
        session(tmp_path / "now", ScriptedEndpoint("yes"), baseline="gone").run(made)

    assert not (tmp_path / "report.html").exists()
    assert not (tmp_path / "numbers.json").exists()
    (case,) = junit(tmp_path).findall(".//testcase")
    assert case[0].attrib["message"].startswith("there is no run 'gone'")
    assert "there is no run" in (tmp_path / "summary.md").read_text(encoding="utf-8").rpartition("## ")[2]


def test_a_suite_that_cannot_be_read_is_no_green_report(tmp_path: Path) -> None:
    stale(tmp_path)
    options = [f"--junit={tmp_path / 'junit.xml'}", f"--html={tmp_path / 'report.html'}"]

    done = CliRunner().invoke(app, ["run", str(tmp_path / "gone.yaml"), *options])

    assert isinstance(done.exception, ConfigError)
    assert not (tmp_path / "report.html").exists()
    assert kinds(tmp_path, "run") == ["error"]


def test_judging_again_what_is_not_there_is_no_green_report(tmp_path: Path) -> None:
    stale(tmp_path)
    options = [f"--junit={tmp_path / 'junit.xml'}", f"--out={tmp_path / 'nowhere'}"]

    done = CliRunner().invoke(app, ["rescore", "latest", *options])

    assert isinstance(done.exception, ConfigError)
    assert kinds(tmp_path, "run") == ["error"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("words", [["run"], ["rescore", "latest", "--suite"]], ids=["run", "rescore"])
def test_leaving_while_the_plan_is_made_leaves_no_results_of_another(
    tmp_path: Path, words: list[str], number: signal.Signals
) -> None:
    """Large sets take a while to read."""
    stale(tmp_path)
    (tmp_path / "mine.py").write_text(
        f"import signal\nsignal.raise_signal({int(number)})\n", encoding="utf-8"
    )
    suite = {
        "golden": str(tmp_path / "before" / "g.jsonl"),
        "endpoints": [{"name": "e", "url": "http://x/v1"}],
        "scorers": [{"python": "mine.py:f"}],
    }
    (tmp_path / "suite.yaml").write_text(json.dumps(suite), encoding="utf-8")
    made = files(tmp_path)
    options = [
        f"--html={made.html}",
        f"--json={made.json}",
        f"--junit={made.junit}",
        f"--markdown={made.markdown}",
    ]

    with terminable():
        words = [*words, str(tmp_path / "suite.yaml"), f"--out={tmp_path / 'before'}", *options]
        done = CliRunner().invoke(app, words)

    assert done.exit_code == 130
    assert "interrupted" in done.stderr
    assert not (tmp_path / "report.html").exists()
    assert not (tmp_path / "numbers.json").exists()
    assert kinds(tmp_path, "run") == ["error"]
    assert "interrupted" in (tmp_path / "summary.md").read_text(encoding="utf-8").rpartition("## ")[2]


def test_an_empty_file_says_too_that_nothing_was_run(tmp_path: Path) -> None:
    (tmp_path / "junit.xml").touch()

    Files(junit=tmp_path / "junit.xml").refuse("the suite is wrong")

    (case,) = junit(tmp_path).findall(".//testcase")
    assert case[0].attrib["message"] == "the suite is wrong"


@pytest.mark.parametrize("option", ["--limit=0", "-n=0", "--concurrency=0"])
def test_a_wrong_number_is_said_in_the_files_too(tmp_path: Path, option: str) -> None:
    stale(tmp_path)
    suite = {"golden": str(tmp_path / "before" / "g.jsonl"), "endpoints": [{"name": "e", "url": "http://x"}]}
    (tmp_path / "suite.yaml").write_text(json.dumps(suite), encoding="utf-8")
    words = ["run", str(tmp_path / "suite.yaml"), *option.split("="), f"--junit={tmp_path / 'junit.xml'}"]

    done = CliRunner().invoke(app, words)

    assert isinstance(done.exception, ConfigError)
    assert kinds(tmp_path, "run") == ["error"]


@pytest.mark.parametrize("option", ["--json", "--html", "--junit", "--markdown"])
def test_a_file_that_is_no_result_is_not_removed(tmp_path: Path, option: str) -> None:
    """`evalkit run --json suite.yaml` asks for JSON, as another command does, and names the suite instead."""
    (tmp_path / "suite.yaml").write_text("golden: short-facts\n", encoding="utf-8")

    done = CliRunner().invoke(app, ["run", option, str(tmp_path / "suite.yaml")])

    assert isinstance(done.exception, ConfigError)
    assert (tmp_path / "suite.yaml").read_text(encoding="utf-8") == "golden: short-facts\n"
