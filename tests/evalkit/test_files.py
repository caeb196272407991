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

from evalkit.config import Suite
from evalkit.files import Files
from evalkit.plan import Plan, Target
from evalkit.session import Session
from evalkit.stores import open_store
from guardrails.call import Call
from guardrails.client import Llm
from guardrails.errors import ConfigError, GuardrailsError
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


@pytest.mark.parametrize("name", ["html", "json", "junit", "markdown"])
def test_no_file_is_called_by_the_sign_of_the_output(name: str) -> None:
    with pytest.raises(ConfigError, match="- is no name of a file"):
        Files(**{name: Path("-")})
