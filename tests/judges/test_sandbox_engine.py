"""Docker and Podman, against an engine that is a script: no real one runs where these tests were written.

The script takes the same command line, checks that it shuts the container in, and runs the zygote here in
place of a container, with the mounted paths put back to where they come from.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from judges.sandbox import Interpreter, Pool, Program
from judges.sandbox.choose import tried
from judges.sandbox.engine import Engine

ENGINE = """#!{python}
import json, os, sys
words = sys.argv[1:]
with open({log!r}, "a") as log:
    log.write(json.dumps(words) + "\\n")
if words == ["info"]:
    sys.exit({answers})
if words[0] == "kill":
    sys.exit(0)
wanted = [("--network", "none"), ("--cap-drop", "ALL"), ("--security-opt", "no-new-privileges"),
          ("--ipc", "none"), ("--user", "65534:65534"), ("--pids-limit", "64"), ("--pull", "never")]
assert words[:2] == ["run", "--rm"] and "--read-only" in words
assert "--memory" in words and "--memory-swap" in words and "--privileged" not in words
for name, value in wanted:
    assert words[words.index(name) + 1] == value, name
mounts = [words[at + 1].split(":") for at, word in enumerate(words) if word == "--volume"]
assert all(mount[2] == "ro" for mount in mounts)
at = words.index("an-image")
command = words[at + 1:]
text = " ".join(words)
assert os.environ["SECRET_KEY"] not in text
for host, inside, _ in mounts:
    command = [word.replace(inside, host) for word in command]
command = [word.replace("/evalkit'", os.path.dirname(mounts[0][0]) + "'") for word in command]
setup = json.loads(command[-1])
setup.update(scratch=None, read=[*setup["read"], {library!r}])
command[-1] = json.dumps(setup)
os.execv({python!r}, [{python!r}, *command[1:]])
"""


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder at the head of PATH with `docker` and `podman`; their calls are in `log`."""
    here = Interpreter.here()
    for name, answers in (("docker", 0), ("podman", 1)):
        path = tmp_path / name
        path.write_text(
            ENGINE.format(
                python=here.python, log=str(tmp_path / "log"), answers=answers, library=here.library
            )
        )
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("SECRET_KEY", "sk-never-in-a-container")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


RIGHT = Program("def f(x): return x + 1", ("assert f(1) == 2",), names=("f",))


@pytest.mark.asyncio
async def test_programs_run_in_containers_that_are_shut(engine: Path) -> None:
    async with Pool(Engine("docker", image="an-image"), workers=1) as pool:
        assert (await pool.run(RIGHT)).passed
        assert (await pool.run(Program("def f(x): return x", RIGHT.tests, names=("f",)))).kind == "wrong"
        fork = Program("import os\ndef f(x): os.fork()", RIGHT.tests, names=("f",))
        assert "PermissionError" in (await pool.run(fork)).message
    calls = (engine / "log").read_text()
    assert calls.count('"run"') == 2
    assert calls.count('"kill"') == 2


@pytest.mark.asyncio
async def test_an_engine_that_does_not_answer_is_not_used(engine: Path) -> None:
    finding = await tried(Engine("podman", image="an-image"))
    assert (finding.works, finding.reason) == (False, "no engine of podman answers")


@pytest.mark.asyncio
async def test_an_engine_that_is_not_installed_says_so() -> None:
    finding = await tried(Engine("no-such-engine"))
    assert (finding.works, finding.reason) == (False, "no-such-engine is not installed")


@pytest.mark.asyncio
async def test_a_container_that_does_not_start_gives_its_last_words(engine: Path) -> None:
    finding = await tried(Engine("docker", image="another-image"))
    assert not finding.works
    assert "another-image" in finding.reason or "an-image" in finding.reason


@pytest.mark.asyncio
async def test_what_a_container_cannot_do_is_said(engine: Path) -> None:
    numpy = Interpreter.here(packages=[("numpy", "/somewhere")])
    finding = await tried(Engine("docker", image="an-image"), numpy)
    assert "packages are not mounted" in finding.reason
