"""What is written reaches its reader whole, wherever it goes: files, pipes, devices, a full disk."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import stat
import subprocess
import sys
import threading
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any, cast

import pytest
from rich.console import Console
from typer.testing import CliRunner

from evalkit import passk, whole
from evalkit.config import Suite
from evalkit.evaluate import evaluate
from evalkit.files import Files
from evalkit.plan import Plan, Target
from evalkit.runs import app
from evalkit.session import Session
from evalkit.stores import Run, open_store
from evalkit.trial import Trial
from evalkit.whole import opened
from guardrails.client import Llm
from guardrails.errors import ConfigError
from guardrails.testing import ScriptedEndpoint
from judges.judge import Answer
from judges.sandbox import Result

posix = pytest.mark.skipif(sys.platform == "win32", reason="no such files there")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A run of one row, whose lineage holds what the quick JSON library has no word for."""
    store = open_store(tmp_path / "runs.db")
    odd = {"huge": 10**30, "half": "a\ud800", "none": [None, 1.5]}
    run = store.create(Run("r", "r", "d", "complete", datetime(2026, 1, 1, tzinfo=UTC), planned=1, info=odd))
    store.append([Trial(run.id, "s", "e", "k", "2026", answer=Answer("yes"))])
    store.close()
    return tmp_path


# --- JSON


def test_a_lineage_of_odd_values_is_shown_as_json(home: Path) -> None:
    result = CliRunner().invoke(app, ["show", "r", "--out", str(home), "--json"])
    assert result.exception is None
    assert json.loads(result.stdout)["info"] == {"huge": 10**30, "half": "a\ud800", "none": [None, 1.5]}


@pytest.mark.asyncio
async def test_the_numbers_of_a_suite_of_odd_values_are_written(tmp_path: Path) -> None:
    """With what JSON itself has no word for beside them: an open side of an interval."""
    (tmp_path / "g.jsonl").write_text('{"id": "a", "input": "q", "reference": "1"}\n', encoding="utf-8")
    suite = Suite.model_validate(
        {
            "golden": str(tmp_path / "g.jsonl"),
            "endpoints": [{"name": "e", "url": "http://x/v1"}],
            "scorers": [{"numeric": {"tolerance": 10**30}}],
            "out": tmp_path,
        }
    )
    plan = Plan.of(suite, [Target(Llm(ScriptedEndpoint("2"), name="e"), "e")])
    outcome = await evaluate(plan)
    path = tmp_path / "numbers.json"
    session = Session(plan, outcome.store, None, Console(file=StringIO()), Console(file=StringIO()))

    session.finish(outcome, Files(json=path))

    written = json.loads(path.read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert written["info"]["suite"]["scorers"] == [{"numeric": {"tolerance": 10**30}}]


# --- special files


@posix
def test_rows_go_through_a_pipe_and_leave_it_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    with opened(pipe) as file:
        file.write(b"rows")
    reader.join()
    assert read == [b"rows"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert [each.name for each in tmp_path.iterdir()] == ["pipe"]


@posix
def test_results_of_programs_go_through_a_pipe_and_leave_it_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    whole.check(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()), daemon=True)
    reader.start()
    program, outcome = cast(Any, None), Result("passed", "passed")
    passk.write(pipe, [(passk.Job({"task_id": "T/0"}, "T/0", program), outcome)])
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    reader.join()
    assert json.loads(read[0])["passed"] is True


@posix
def test_a_link_still_leads_to_the_file_that_was_written(tmp_path: Path) -> None:
    (tmp_path / "rows").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "rows")
    with opened(tmp_path / "link") as file:
        file.write(b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "rows").read_bytes() == b"new"


def test_a_draft_takes_nobodys_name_and_is_gone_when_writing_fails(tmp_path: Path) -> None:
    (tmp_path / "rows.part").write_bytes(b"mine")
    (tmp_path / "rows").write_bytes(b"old")
    with pytest.raises(TypeError), opened(tmp_path / "rows") as file:
        file.writelines([b"half", None])  # type: ignore[list-item]
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == {
        "rows": b"old",
        "rows.part": b"mine",
    }


@posix
def test_a_pipe_for_results_is_not_opened_before_there_are_any(tmp_path: Path) -> None:
    """Opening it would wait for a reader, and closing it would tell the reader that this was all."""
    os.mkfifo(tmp_path / "pipe")
    Files(json=tmp_path / "pipe").check()
    Files(html=Path(os.devnull)).check()
    with pytest.raises(ConfigError, match="cannot be written"):
        Files(json=tmp_path).check()


# --- a full disk


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no such device")
@pytest.mark.parametrize("words", [["list"], ["show", "r", "--json"], ["export", "r", "--dir", "."]])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_behind_the_output_is_said(home: Path, words: list[str], unbuffered: str) -> None:
    with Path("/dev/full").open("wb") as full:
        env = {**os.environ, "EVALKIT_STORE": "runs.db", "PYTHONUNBUFFERED": unbuffered}
        where: dict[str, Any] = {"cwd": home, "env": env}
        command = [sys.executable, "-m", "evalkit", "runs", *words]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, **where)
    assert done.returncode == 2
    assert "the output cannot be written: No space left on device" in done.stderr
    assert "unexpected" not in done.stderr
    assert "Exception ignored" not in done.stderr


# --- nobody listens


@pytest.mark.skipif(sys.platform == "win32", reason="there, shells do not close what a command writes to")
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("words", [["list"], ["show", "r", "--json"], ["export", "r", "--dir", "."]])
def test_what_is_closed_is_no_error(home: Path, words: list[str], closed: str) -> None:
    env = {**os.environ, "EVALKIT_STORE": "runs.db"}
    command = shlex.join([sys.executable, "-m", "evalkit", "runs", *words])

    done = subprocess.run(["sh", "-c", f"{command} {closed}"], cwd=home, env=env, capture_output=True)

    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no such device")
@pytest.mark.parametrize(("stream", "code"), [("stdout", 2), ("stderr", 1)])
def test_a_full_disk_behind_the_output_leaves_the_files_of_results(
    tmp_path: Path, stream: str, code: int
) -> None:
    """What they say was paid for."""
    (tmp_path / "g.jsonl").write_text('{"id": "a", "input": "q", "reference": "yes"}\n', encoding="utf-8")
    endpoints = [{"name": "e", "url": "http://x/v1"}]
    suite = Suite.model_validate(
        {"golden": str(tmp_path / "g.jsonl"), "endpoints": endpoints, "out": tmp_path}
    )
    asyncio.run(evaluate(Plan.of(suite, [Target(Llm(ScriptedEndpoint("no"), name="e"), "e")])))
    words = ["rescore", "latest", "--out", str(tmp_path), "--gate", "pass_rate >= 90%"]
    junit = tmp_path / "junit.xml"
    with Path("/dev/full").open("wb") as full:
        where: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, stream: full}
        done = subprocess.run([sys.executable, "-m", "evalkit", *words, "--junit", str(junit)], **where)

    assert done.returncode == code
    assert 'failures="1"' in junit.read_text(encoding="utf-8")
