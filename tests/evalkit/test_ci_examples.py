"""The files in `examples/ci` are what the services read, and every command in them is one of ours."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from evalkit.cli import app

EXAMPLES = Path(__file__).parents[2] / "examples" / "ci"


def loaded(name: str) -> dict[Any, Any]:
    found: dict[Any, Any] = yaml.safe_load((EXAMPLES / name).read_text(encoding="utf-8"))
    return found


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


def test_the_gitlab_job_is_one() -> None:
    (job,) = loaded("gitlab-ci.yml").values()

    assert job["allow_failure"] == {"exit_codes": [3]}
    assert job["artifacts"]["reports"] == {"junit": "junit.xml"}
    assert job["artifacts"]["when"] == "always"
    assert all(isinstance(line, str) for line in job["script"])


@pytest.mark.parametrize("name", ["github-actions.yml", "gitlab-ci.yml"])
def test_every_command_is_one_of_ours_and_writes_what_is_kept(name: str) -> None:
    text = "\n".join(
        line.strip().removeprefix("- ").removeprefix("run: ")
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
