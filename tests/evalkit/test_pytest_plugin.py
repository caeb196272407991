"""The pytest plugin, run as a user runs it: pytest in a folder of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from evalkit.pytest_plugin import Judged
from guardrails.testing import Profile, simulate_process
from judges.judge import Score

INI = "[pytest]\naddopts = --strict-markers\nasyncio_default_fixture_loop_scope = function\n"
TEST = """
import pytest

@pytest.mark.golden("golden.jsonl"{more})
def test_answers(sample, endpoint, judge):
    answer = endpoint.ask_now(sample)
    assert judge.now(sample, answer)
"""
LINES = [
    {"id": f"s{i}", "input": f"question {i}", "reference": "yes" if i else "never", "tags": [f"t{i % 2}"]}
    for i in range(4)
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "golden.jsonl").write_text("".join(json.dumps(x) + "\n" for x in LINES), encoding="utf-8")
    (tmp_path / "test_golden.py").write_text(TEST.format(more=""), encoding="utf-8")
    (tmp_path / "pytest.ini").write_text(INI, encoding="utf-8")
    return tmp_path


def pytest_in(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    # Not by its entry point: the plugin may be run from a checkout that was installed before it had one.
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", *arguments]
    if not _installed():
        command += ["-p", "evalkit.pytest_plugin"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=100)


def _installed() -> bool:
    from importlib.metadata import entry_points

    return any(each.value == "evalkit.pytest_plugin" for each in entry_points(group="pytest11"))


@pytest.mark.e2e
@pytest.mark.parametrize("workers", [(), ("-n", "2")])
def test_every_sample_is_a_test_and_the_session_is_summed_up(folder: Path, workers: tuple[str, ...]) -> None:
    with simulate_process(Profile(answers="fixed:oh yes")) as server:
        done = pytest_in(
            folder, "--evalkit-endpoint", f"{server.url}/v1", "--evalkit-model", "m", *workers, "-rf"
        )

    said = done.stdout
    assert done.returncode == 1, said + done.stderr
    assert "test_answers[s0]" in said
    assert "1 failed, 3 passed" in said
    assert "pass rate 75.0% [30.1, 95.4] (n = 4, 95% interval)" in said
    assert "TTFT p50" in said
    assert "tokens" in said
    assert "cost unknown" in said


@pytest.mark.parametrize("ask", ["endpoint.ask_now(sample)", "await endpoint.ask(sample)"])
def test_a_call_that_fails_counts_and_is_told_shortly(folder: Path, ask: str) -> None:
    head = "async def" if "await" in ask else "def"
    mark = "@pytest.mark.asyncio\n" if "await" in ask else ""
    (folder / "test_golden.py").write_text(
        f"import pytest\n@pytest.mark.golden('golden.jsonl')\n{mark}"
        f"{head} test_answers(sample, endpoint):\n    if sample.id != 's0':\n        {ask}\n",
        encoding="utf-8",
    )

    done = pytest_in(folder, "--evalkit-endpoint", "http://127.0.0.1:1/v1", "--evalkit-model", "m")

    said = done.stdout
    assert "3 failed, 1 passed" in said
    assert "pass rate 0.0% [0.0, 56.1] (n = 3, 95% interval); failed calls: 3×connect" in said
    assert "refuses connections" in said
    assert "endpoints/http.py" not in said, "where in our code it was raised helps nobody"


def test_a_value_without_a_verdict_has_not_passed() -> None:
    yes, value, lost = Score.verdict(True, ""), Score(0.4, None, ""), Score.unjudged("timeout", "")

    assert bool(Judged({}))
    assert bool(Judged({"a": yes, "b": value}))
    assert not Judged({"b": value})
    assert not Judged({"a": yes, "b": lost})


def test_samples_are_chosen_by_tag_and_limit(folder: Path) -> None:
    (folder / "test_golden.py").write_text(TEST.format(more=", where='t1', limit=1"), encoding="utf-8")

    done = pytest_in(folder, "--collect-only")

    assert "test_answers[s1]" in done.stdout
    assert "s0" not in done.stdout
    assert "s3" not in done.stdout


@pytest.mark.parametrize(
    ("test", "part"),
    [
        ("@pytest.mark.golden('gone.jsonl')\ndef test_a(sample): pass", "gone.jsonl: there is no such file"),
        ("@pytest.mark.golden('golden.jsonl')\ndef test_a(): pass", "takes no argument `sample`"),
        ("@pytest.mark.golden\ndef test_a(sample): pass", "write @pytest.mark.golden('set.jsonl')"),
        ("@pytest.mark.golden('golden.jsonl')\ndef test_a(sample, endpoint): pass", "no endpoint: give"),
        (
            "@pytest.mark.golden('golden.jsonl')\ndef test_a(sample, judge): assert judge.now(sample, 'x')",
            "<not passed – contains:",
        ),
    ],
)
def test_what_is_wrong_is_said(folder: Path, test: str, part: str) -> None:
    (folder / "test_golden.py").write_text(f"import pytest\n{test}\n", encoding="utf-8")

    done = pytest_in(folder)

    assert done.returncode != 0
    assert part in done.stdout + done.stderr


def test_the_plugin_loads_nothing_heavy() -> None:
    code = (
        "import sys, evalkit.pytest_plugin\n"
        "print(sorted({'numpy', 'httpx', 'aiohttp', 'pydantic', 'sqlalchemy', 'jinja2'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
