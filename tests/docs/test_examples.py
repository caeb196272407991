"""The code in the README and in docs/ runs as it stands."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from evalkit import datasets
from evalkit.config import Suite
from guardrails.config import Policy, build
from guardrails.prices import PriceBook
from guardrails.source import parse_yaml
from guardrails.testing import Profile, simulate_process

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
GROUPS = ("datasets", "judge", "runs")  # their commands are words of their own
FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[object]:
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in FENCE.finditer(text):
            if match[1] == language:
                line = text.count("\n", 0, match.start()) + 2
                found.append(pytest.param(match[2], id=f"{page.name}:{line}"))
    return found


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with simulate_process(Profile(answers="fixed:Sent to jane@example.com, as you asked.")) as running:
        yield running.url.removesuffix("/v1")


@pytest.mark.parametrize("code", blocks("python"))
def test_python_examples_run(code: str, server: str, tmp_path: Path) -> None:
    code = code.replace("http://localhost:8000", server)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    assert "jane@example.com" not in done.stdout, "the examples that filter do filter"


@pytest.mark.parametrize("text", blocks("yaml"))
def test_yaml_examples_are_valid(text: str, tmp_path: Path) -> None:
    data = parse_yaml(text).data
    if "golden" in data:
        Suite.model_validate(data)
    else:
        Policy.model_validate(data)
        file = tmp_path / "policy.yaml"
        file.write_text(text)
        build(file)


@pytest.mark.parametrize("text", blocks("toml"))
def test_toml_examples_are_price_lists(text: str, tmp_path: Path) -> None:
    file = tmp_path / "prices.toml"
    file.write_text(text)
    assert PriceBook.load(file).find("my-model") is not None


@pytest.mark.parametrize("text", blocks("console"))
def test_commands_and_their_options_exist(text: str) -> None:
    for line in text.replace("\\\n", " ").splitlines():
        words = line.partition("#")[0].removeprefix("$ ").split()
        if words[0] == "make":
            assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
        elif words[0] in ("evalkit", "guardrails"):
            command = words[1:3] if words[1] in GROUPS else words[1:2]
            helped = subprocess.run(
                [sys.executable, "-m", f"{words[0]}.cli", *command, "--help"],
                capture_output=True, text=True, timeout=60, env={"COLUMNS": "200", "NO_COLOR": "1"},
            )  # fmt: skip
            assert helped.returncode == 0, helped.stderr
            for option in (word for word in words if word.startswith("--")):
                assert option in helped.stdout, f"{words[0]} {' '.join(command)} knows no {option}"


def run_readme(url: str, folder: Path) -> subprocess.CompletedProcess[str]:
    (suite,) = (match[2] for match in FENCE.finditer(PAGES[0].read_text()) if match[1] == "yaml")
    file = folder / "suite.yaml"
    file.write_text(suite.replace("http://localhost:8000/v1", url))
    command = [sys.executable, "-m", "evalkit", "run", str(file), "--html", str(folder / "report.html")]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100)


def test_the_suite_of_the_readme_runs(server: str, tmp_path: Path) -> None:
    done = run_readme(f"{server}/v1", tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "pass_rate" in done.stdout
    assert (tmp_path / "report.html").stat().st_size > 1000


def test_the_suite_of_the_readme_passes_whoever_answers_it_all(tmp_path: Path) -> None:
    """Each of its gates can be decided by as many answers as it asks for."""
    with simulate_process(Profile(answers=f"golden:{datasets.path('short-facts')}")) as running:
        done = run_readme(running.url, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
