"""The golden sets travel: a wheel, an sdist and an editable install show the same."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def build(kind: str, project: Path, out: Path) -> Path:
    command = [
        sys.executable,
        "-m",
        "build",
        f"--{kind}",
        "--no-isolation",
        "--outdir",
        str(out),
        str(project),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = out.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return built


def listed(cwd: Path, installed: Path | None = None) -> str:
    command = [sys.executable, "-P", "-m", "evalkit", "datasets", "list"]
    # An installed copy is put before everything else; PYTHONSAFEPATH keeps the working folder out.
    env = {"COLUMNS": "120", "PATH": "/usr/bin:/bin"} | ({"PYTHONPATH": str(installed)} if installed else {})
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    where = subprocess.run(
        [sys.executable, "-P", "-c", "import evalkit; print(evalkit.__file__)"],
        cwd=cwd, capture_output=True, text=True, env=env, check=True,
    ).stdout  # fmt: skip
    assert str(installed or ROOT) in where
    return done.stdout


@pytest.mark.e2e
def test_the_sets_are_the_same_from_wheel_sdist_and_checkout(tmp_path: Path) -> None:
    wheel = build("wheel", ROOT, tmp_path / "wheel")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "from-wheel")
    assert not any(name.startswith("datasets/") for name in names), "Hugging Face's name stays free"
    for needed in ("guardrails/py.typed", "judges/py.typed", "evalkit/py.typed", "guardrails/prices.toml"):
        assert needed in names

    sdist = build("sdist", ROOT, tmp_path / "sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    (project,) = (tmp_path / "unpacked").iterdir()
    second = build("wheel", project, tmp_path / "second")
    with zipfile.ZipFile(second) as archive:
        archive.extractall(tmp_path / "from-sdist")

    checkout = listed(tmp_path)
    assert "support-desk" in checkout
    assert listed(tmp_path, tmp_path / "from-wheel") == checkout
    assert listed(tmp_path, tmp_path / "from-sdist") == checkout
