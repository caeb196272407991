from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from guardrails._owners import clashes, sentence


@pytest.mark.parametrize(
    ("folder", "found"),
    [
        ("guardrails_ai-0.11.0.dist-info", ("guardrails-ai", "guardrails")),
        ("guardrails-ai-0.5.dist-info", ("guardrails-ai", "guardrails")),
        ("judges-0.1.0.dist-info", ("judges", "judges")),
        ("evalkit_guardrails-0.1.0.dist-info", None),
        ("openai_guardrails-1.0.dist-info", None),
        ("guardrails_ai-notes.txt", None),
    ],
)
def test_rivals_are_found_by_their_metadata(
    tmp_path: Path, folder: str, found: tuple[str, str] | None
) -> None:
    (tmp_path / folder).mkdir()
    assert clashes(tmp_path) == ([] if found is None else [found])


def test_no_folder_no_clash(tmp_path: Path) -> None:
    assert clashes(tmp_path / "absent") == []


def test_the_sentence_says_what_to_do() -> None:
    assert "pip uninstall guardrails-ai" in sentence("guardrails-ai", "guardrails")


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A `site-packages` of our own, to be spoiled."""
    root = Path(__file__).resolve().parents[2]
    for package in ("guardrails", "judges", "evalkit"):
        shutil.copytree(root / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def python(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(site)}
    return subprocess.run(
        [sys.executable, "-P", *arguments], env=env, cwd=site, capture_output=True, text=True
    )


@pytest.mark.parametrize("package", ["guardrails", "judges", "evalkit"])
def test_the_first_import_says_who_else_owns_a_name(site: Path, package: str) -> None:
    assert python(site, "-c", f"import {package}").stderr == ""
    (site / "guardrails_ai-0.11.0.dist-info").mkdir()
    assert "'guardrails-ai' also installs" in python(site, "-c", f"import {package}").stderr


def test_the_doctor_says_so_too(site: Path) -> None:
    (site / "judges-0.1.0.dist-info").mkdir()
    done = python(site, "-m", "evalkit", "doctor")
    assert "'judges' also installs an import package" in " ".join(done.stdout.split())
    assert done.returncode != 0


@pytest.mark.parametrize("theirs", ["", "import something_of_theirs\n"])
def test_an_overwritten_package_is_recognised(site: Path, theirs: str) -> None:
    (site / "guardrails_ai-0.11.0.dist-info").mkdir()
    (site / "guardrails" / "__init__.py").write_text(theirs)
    said = python(site, "-c", "import evalkit").stderr
    assert "guardrails-ai" in said
    assert "virtual environment" in said
