"""The files in `examples/ci` are what the services read, and run on what `evalkit init` writes."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import typer.main
import yaml

from evalkit.cli import app

EXAMPLES = Path(__file__).parents[2] / "examples" / "ci"


def loaded(name: str) -> dict[Any, Any]:
    found: dict[Any, Any] = yaml.safe_load((EXAMPLES / name).read_text(encoding="utf-8"))
    return found


def script(name: str) -> list[str]:
    """What the job runs, without what installs it."""
    (job,) = loaded(name)["jobs"].values() if name.startswith("github") else loaded(name).values()
    lines = job["script"] if "script" in job else [step["run"] for step in job["steps"] if "run" in step]
    return [line for line in lines if not line.startswith("pip ")]


def kept(name: str) -> list[str]:
    """The paths that the job uploads."""
    (job,) = loaded(name)["jobs"].values() if name.startswith("github") else loaded(name).values()
    if "artifacts" in job:
        return [*job["artifacts"]["paths"], *job["artifacts"]["reports"].values()]
    upload = job["steps"][-1]["with"]
    assert upload["include-hidden-files"] is True, "or the service leaves out .evalkit"
    return list(upload["path"].split())


def commands(text: str) -> Iterator[list[str]]:
    for line in text.splitlines():
        if line.startswith("evalkit "):
            yield shlex.split(line)[1:]


def parsed(arguments: list[str]) -> dict[str, Any]:
    """The parameters of a command line of `evalkit`, which is not run. Raises for an option that is none."""
    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands"):
        name, *arguments = arguments
        command = command.commands[name]
    context = command.make_context(command.name, list(arguments))
    params: dict[str, Any] = context.params
    return params


def test_the_github_workflow_is_one() -> None:
    workflow = loaded("github-actions.yml")

    assert workflow[True] == {"pull_request": None, "workflow_dispatch": None}  # YAML 1.1 reads `on` as true
    assert workflow["permissions"] == {"contents": "read"}
    (job,) = workflow["jobs"].values()
    assert job["runs-on"]
    assert all(("uses" in step) != ("run" in step) for step in job["steps"])
    assert all("@v" in step["uses"] for step in job["steps"] if "uses" in step)
    upload = job["steps"][-1]
    assert upload["if"] == "always()"
    assert "report.html" in upload["with"]["path"]
    (run,) = [step for step in job["steps"] if step.get("name") == "Evaluate"]
    assert all(value.startswith("${{ secrets.") for value in run["env"].values())
    assert run["run"].startswith("exec "), "or the shell alone is told to end"
    assert run["timeout-minutes"] < job["timeout-minutes"], "or nothing is kept of a run that takes too long"


def test_the_gitlab_job_is_one() -> None:
    (job,) = loaded("gitlab-ci.yml").values()

    assert job["allow_failure"] == {"exit_codes": [3]}
    assert job["artifacts"]["reports"] == {"junit": "junit.xml"}
    assert job["artifacts"]["when"] == "always"
    assert all(isinstance(line, str) for line in job["script"])
    ended = re.match(r"timeout --foreground --preserve-status (\d+)m evalkit run ", job["script"][-1])
    assert ended is not None
    assert int(ended[1]) < int(job["timeout"].split()[0]), "or nothing is kept of a run that takes too long"


@pytest.mark.skipif(shutil.which("timeout") is None, reason="the services' images have it")
@pytest.mark.parametrize("name", ["github-actions.yml", "gitlab-ci.yml"])
def test_the_job_passes_on_what_init_writes_and_keeps_all_of_it(name: str, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    programs = tmp_path / "bin"
    programs.mkdir()
    for program, module in (("evalkit", "evalkit"), ("guardrails", "guardrails.cli")):
        file = programs / program
        file.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m {module} "$@"\n', encoding="utf-8")
        file.chmod(0o755)
    here = tmp_path / "project"
    lines = "\n".join(["set -e", "evalkit init .", f"sed -i s/8010/{port}/ suite.yaml", *script(name)])
    environment = {name: value for name, value in os.environ.items() if name != "GITHUB_STEP_SUMMARY"}
    here.mkdir()
    job = subprocess.Popen(
        ["bash", "-c", lines.replace("8010 ", f"{port} ")],
        cwd=here,
        env=environment | {"PATH": f"{programs}:{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # the simulator ends with it, as with the machine of a service
    )
    try:
        said, _ = job.communicate(timeout=100)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(job.pid, signal.SIGKILL)

    assert job.returncode == 0, said
    patterns = kept(name)
    assert all(any(here.glob(each)) for each in patterns), patterns
    (here / ".evalkit" / "runs.db-wal").touch()
    found = {path.name for each in patterns for path in here.glob(each)}
    assert {"runs.db", "runs.db-wal", "junit.xml", "report.html", "numbers.json"} <= found
    assert ElementTree.parse(here / "junit.xml").getroot().attrib["failures"] == "0"


@pytest.mark.parametrize("name", ["github-actions.yml", "gitlab-ci.yml"])
def test_every_command_is_one_of_ours_and_writes_what_is_kept(name: str) -> None:
    text = "\n".join(
        line.strip().removeprefix("- ").removeprefix("run: ").removeprefix("exec ")
        for line in (EXAMPLES / name).read_text(encoding="utf-8").splitlines()
    )
    found = list(commands(text))

    assert [arguments[0] for arguments in found] == ["datasets", "run"]
    params = [parsed(arguments) for arguments in found]
    assert params[1]["junit"] == Path("junit.xml")
    assert params[1]["html"] == Path("report.html")


def test_an_option_that_we_do_not_have_would_be_found() -> None:
    with pytest.raises(Exception, match="--frobnicate"):
        parsed(["run", "suite.yaml", "--frobnicate"])
