"""The XML that CI services read: well-formed whatever anybody wrote, and true to the rows."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.ci import junit
from evalkit.columns import Columns
from evalkit.files import Ended
from evalkit.gate import parse
from evalkit.trial import Failure, Trial
from evalkit.verdict import decide_all
from guardrails.errors import ConfigError
from judges.judge import Answer, Score

Made = Callable[..., Trial]


def written(path: Path, *arguments: Any, **options: Any) -> ElementTree.Element:
    junit.write(path, *arguments, **options)
    root = ElementTree.fromstring(path.read_bytes())
    check(root)
    return root


def check(root: ElementTree.Element) -> None:
    """What the schema that Jenkins and GitHub's readers use asks for, by hand."""
    assert root.tag == "testsuites"
    totals = {"tests": 0, "failures": 0, "errors": 0, "skipped": 0}
    for suite in root:
        assert suite.tag == "testsuite"
        assert suite.attrib.keys() == {"name", "tests", "failures", "errors", "skipped", "time"}
        assert {child.tag for child in suite} <= {"testcase", "system-out"}
        counted = {"tests": 0, "failures": 0, "errors": 0, "skipped": 0}
        seconds = 0.0
        assert "system-out" not in [child.tag for child in suite][:-1], "after the cases, if at all"
        for case in suite.findall("testcase"):
            assert case.attrib.keys() == {"name", "classname", "time"}
            assert len(case) <= 1
            assert {child.tag for child in case} <= {"failure", "error", "skipped"}
            for child in case:
                expected = {"message"} if child.tag == "skipped" else {"message", "type"}
                assert child.attrib.keys() == expected
            counted["tests"] += 1
            counted["failures"] += any(child.tag == "failure" for child in case)
            counted["errors"] += any(child.tag == "error" for child in case)
            counted["skipped"] += any(child.tag == "skipped" for child in case)
            seconds += float(case.attrib["time"])
        assert {name: int(suite.attrib[name]) for name in counted} == counted
        assert float(suite.attrib["time"]) == pytest.approx(seconds, abs=1e-3 * (1 + counted["tests"]))
        totals = {name: totals[name] + counted[name] for name in totals}
    assert {name: int(root.attrib[name]) for name in totals} == totals


def test_a_suite_for_each_set_and_arm_and_a_case_for_each_answer(made: Made, tmp_path: Path) -> None:
    rows = [
        made("s1", True, set="x"),
        made("s1", False, arm="b", set="x"),
        made("s2", "timeout", set="x"),
        made("s2", None, arm="b", set="x"),
        made("s1", True, set="y", k=1),
    ]
    root = written(tmp_path / "deep" / "junit.xml", iter(rows), name="run-1")

    assert [suite.attrib["name"] for suite in root] == ["x.a", "x.b", "y.a"]
    cases = {(c.attrib["classname"], c.attrib["name"]): c for suite in root for c in suite}
    assert cases["x.a", "s1"].attrib["time"] == "0.5000"
    assert len(cases["x.a", "s1"]) == 0
    assert cases["x.b", "s1"][0].attrib == {"message": "contains: a reason", "type": "not passed"}
    assert cases["x.a", "s2"][0].attrib == {"message": "timeout: it broke", "type": "timeout"}
    assert (cases["x.b", "s2"][0].tag, cases["x.b", "s2"][0].attrib["type"]) == ("error", "timeout")
    assert ("y.a", "s1 #2") in cases
    assert root.attrib["name"] == "run-1"


def test_marks_without_a_verdict_are_skipped_and_no_failure(made: Made, tmp_path: Path) -> None:
    graded = made(1, scores={"rubric": Score(0.4, None, "a grade")})
    root = written(tmp_path / "junit.xml", [graded])

    assert root.attrib["skipped"] == "1"
    assert root[0][0][0].attrib["message"] == "rubric gave no verdict"


def test_gates_are_a_suite_of_their_own_and_undecided_is_no_pass(made: Made, tmp_path: Path) -> None:
    rows = [made(n) for n in range(40)]
    gates = [parse("pass_rate >= 50%"), parse("pass_rate <= 50%"), parse("pass_rate >= 99%")]
    root = written(tmp_path / "junit.xml", rows, decide_all(gates, Columns.of(rows)))

    suite = root[-1]
    assert (suite.attrib["name"], suite.attrib["tests"], suite.attrib["failures"]) == ("gates", "3", "1")
    *cases, printed = suite
    assert [case[0].tag if len(case) else "pass" for case in cases] == ["pass", "failure", "skipped"]
    assert (printed.text or "").startswith("pass_rate >= 0.5 (a): pass: pass_rate is 100% [")
    assert "fail" not in (printed.text or ""), "the others say it themselves"
    assert suite[1][0].attrib["type"] == "fail"
    assert suite[2][0].attrib["message"].startswith("undecided: ")
    assert "about" in suite[2][0].attrib["message"]


def test_a_gate_that_passed_says_of_how_many_rows_of_the_baseline_it_is(made: Made, tmp_path: Path) -> None:
    earlier = [made(n if n < 60 else f"<other> {n}") for n in range(120)]
    rows = [made(n) for n in range(120)]
    decided = decide_all([parse("pass_rate >= baseline - 10%")], Columns.of(rows), Columns.of(earlier))
    case, printed = written(tmp_path / "junit.xml", rows, decided)[-1]

    assert (case.tag, len(case), printed.tag) == ("testcase", 0, "system-out")
    assert printed.text == f"{case.attrib['name']}: {decided[0].verdict.sentence}"
    assert "(of 60 of 120 samples, those that are the same in both)" in printed.text


def test_a_gate_that_is_undecided_fails_only_where_the_suite_says_so(made: Made, tmp_path: Path) -> None:
    rows = [made(n) for n in range(40)]
    gates = decide_all([parse("pass_rate >= 99%"), parse("pass_rate <= 50%")], Columns.of(rows))
    for undecided, counts in (("report", ("1", "1")), ("value", ("1", "1")), ("fail", ("2", "0"))):
        suite = written(tmp_path / "junit.xml", rows, gates, undecided=undecided)[-1]
        assert (suite.attrib["failures"], suite.attrib["skipped"]) == counts


@pytest.mark.parametrize(("failed", "tag"), [(True, "error"), (False, "skipped")])
def test_a_run_that_is_not_complete_has_passed_nothing(
    made: Made, tmp_path: Path, failed: bool, tag: str
) -> None:
    rows = [made(n) for n in range(40)]
    gates = decide_all([parse("pass_rate >= 50%"), parse("pass_rate <= 50%")], Columns.of(rows))
    root = written(tmp_path / "junit.xml", rows, gates, ended=Ended("cut short", failed))

    (end,) = root.findall("./testsuite[@name='run']/testcase")
    assert (end.attrib["name"], end[0].tag, end[0].attrib["message"]) == ("run complete", tag, "cut short")
    passed, fails = root[-1]
    assert passed[0].tag == "skipped"
    assert passed[0].attrib["message"].startswith("cut short; of what was asked: pass")
    assert fails[0].tag == "failure", "the exit code would be no better"


def test_neither_answers_nor_prompts_are_quoted(made: Made, tmp_path: Path) -> None:
    path = tmp_path / "junit.xml"
    junit.write(path, [made(1, False, text="a secret answer")])
    assert "secret" not in path.read_text(encoding="utf-8")


ANY = st.text(st.characters(), max_size=20)


@given(name=ANY, sample=ANY, reason=ANY, kind=ANY)
def test_the_file_is_well_formed_whatever_anybody_wrote(
    tmp_path_factory: pytest.TempPathFactory, name: str, sample: str, reason: str, kind: str
) -> None:
    path = tmp_path_factory.mktemp("xml") / "junit.xml"
    rows = [
        Trial("r", sample, name, "k", "now", answer=Answer(""), scores={name: Score.verdict(False, reason)}),
        Trial("r", sample, name, "k", "now", error=Failure(kind, reason)),
    ]
    root = written(path, rows, name=name)
    assert len(root[0]) == 2


def test_what_xml_forbids_is_replaced_and_lines_are_kept(made: Made, tmp_path: Path) -> None:
    root = written(tmp_path / "j.xml", [made('a\x00\x1b\ud800\ufffe\nb\t<&">')])
    assert root[0][0].attrib["name"] == 'a\ufffd\ufffd\ufffd\ufffd\nb\t<&">'


def test_long_reasons_are_cut(made: Made, tmp_path: Path) -> None:
    root = written(tmp_path / "j.xml", [made(1, False, scores={"x": Score.verdict(False, "y" * 10_000)})])
    assert len(root[0][0][0].attrib["message"]) == junit.MAX_TEXT + 1


def test_no_rows_make_a_file_too(tmp_path: Path) -> None:
    assert len(written(tmp_path / "j.xml", [])) == 0


def test_memory_does_not_grow_with_the_rows(made: Made, tmp_path: Path) -> None:
    row = made("s", False)

    def peak(count: int) -> int:
        rows: Iterator[Trial] = (row for _ in range(count))
        tracemalloc.start()
        junit.write(tmp_path / "j.xml", rows)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(10)
    assert peak(4_000) < peak(400) + 200_000, "4,000 cases are 800 kB of XML"


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(ConfigError, match="cannot be written"):
        junit.write(tmp_path / "file" / "j.xml", [])


def test_who_leaves_while_it_is_written_leaves_no_half_of_it(tmp_path: Path, made: Made) -> None:
    path = tmp_path / "j.xml"
    path.write_text("before", encoding="utf-8")

    def rows() -> Iterator[Trial]:
        yield made("q")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        junit.write(path, rows())

    assert {each.name: each.read_text(encoding="utf-8") for each in tmp_path.iterdir()} == {"j.xml": "before"}


def test_warnings_are_cases_that_everybody_sees_and_nobody_takes_for_failures(
    tmp_path: Path, made: Made
) -> None:
    said = ["Judge rubric agrees too little with people: kappa 0.10 [-0.20, 0.35] on 60 labels, below 0.6."]
    root = written(tmp_path / "j.xml", [made("q")], warnings=said)
    (suite,) = root.findall("./testsuite[@name='warnings']")
    (case,) = suite
    assert case.attrib["name"] == "Judge rubric agrees too little with people"
    assert case[0].attrib["message"] == said[0]
    assert (root.attrib["failures"], root.attrib["skipped"]) == ("0", "1")
