"""Every attack is contained, and leaves the pool as it was: as whoever runs this and as nobody.

Where a sandbox does not work on this machine its tests are skipped with the reason.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from judges.sandbox import Interpreter, NoSandbox, Pool, Program
from judges.sandbox.choose import SANDBOXES, tried
from judges.sandbox.tiers import INSIDE, Launched, Role, start

ROOT = Path(__file__).parents[2]


def _module(name: str) -> ModuleType:
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


attacks = _module("sandbox_attacks")
report = _module("sandbox_report")
pytestmark = pytest.mark.timeout(400)


@cache
def attempts(name: str) -> Mapping[str, Any]:
    finding = asyncio.run(tried(SANDBOXES[name]))
    if not finding.works:
        pytest.skip(f"{name} does not work here: {finding.reason}")
    return {each.attack.name: each for each in asyncio.run(report.attacked(name))}


def test_there_are_enough_attacks_and_each_has_its_own_name() -> None:
    names = [each.name for each in attacks.ATTACKS]
    assert len(set(names)) == len(names) >= 60


@pytest.mark.parametrize("attack", attacks.ATTACKS, ids=lambda each: each.name.replace(" ", "-"))
@pytest.mark.parametrize("sandbox", ["bubblewrap", "landlock"])
def test_an_attack_is_contained_and_leaves_the_pool_healthy(sandbox: str, attack: Any) -> None:
    each = attempts(sandbox)[attack.name]
    assert each.contained, (each.result, each.result.message)
    assert each.healthy


def somebodys_python() -> str:
    """An interpreter that an unprivileged user can run, with this project in their reach."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user; as this one, the tests above have run")
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv is not here to become another user")
    for python in (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}", "/usr/bin/python3"):
        said = as_nobody(
            python, "-c", "import sys; sys.path.insert(0, sys.argv[1]); import judges.sandbox", str(ROOT)
        )
        if said.returncode == 0:
            return python
    pytest.skip("no interpreter here can be run by an unprivileged user and read this project")


def as_nobody(*command: str) -> subprocess.CompletedProcess[str]:
    become = [
        "setpriv",
        "--reuid",
        "65534",
        "--regid",
        "65534",
        "--clear-groups",
        "env",
    ]  # as it execs, it is root yet
    clean = {"PATH": "/usr/bin:/bin", "HOME": "/tmp"}
    try:
        return subprocess.run([*become, *command], capture_output=True, text=True, env=clean, cwd="/tmp")
    except PermissionError:
        return subprocess.CompletedProcess(command, 126, "", "")


@pytest.mark.e2e
@pytest.mark.parametrize("sandbox", ["bubblewrap", "landlock"])
def test_an_unprivileged_user_contains_all_of_them_too(sandbox: str) -> None:
    said = as_nobody(somebodys_python(), str(ROOT / "tests/judges/sandbox_report.py"), "--json", sandbox)
    if "not tried" in said.stderr:
        pytest.skip(said.stderr.strip())
    found = json.loads(said.stdout)
    assert found["uid"] == 65534
    assert [each for each in found["sandboxes"][sandbox] if not (each[2] and each[3])] == []


# --- each protection is needed: without it, something gets through


@dataclass(frozen=True)
class Weak:
    """Landlock's tier without some of what it has."""

    without: str
    name: str = "weak"
    title: str = "weak"

    def launch(self, role: Role, interpreter: Interpreter, /) -> Launched:
        interpreter = interpreter.for_anybody() if os.geteuid() == 0 else interpreter
        read = [interpreter.library, *interpreter.shared, "/dev/urandom"]
        setup = {
            "role": role,
            "shut": True,
            "seccomp": True,
            "landlock": "always",
            "packages": [],
            "read": read,
            **({"uid": 65534} if os.geteuid() == 0 and self.without != "uid" else {"shared_uid": True}),
        }
        off = {"seccomp": {"seccomp": False}, "landlock": {"landlock": "never"}, "shut": {"shut": False}}
        return start([], {**setup, **off.get(self.without, {})}, interpreter, str(INSIDE.parent))


def _one(sandbox: Any, name: str) -> bool:
    attack = next(each for each in attacks.ATTACKS if each.name == name)

    async def run() -> bool:
        with attacks.battlefield() as field:
            async with Pool(sandbox, workers=1) as pool:
                contained: bool = attack.contained(await pool.run(field.program(attack), attacks.LIMITS))
                return contained

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("without", "attack"),
    [
        ("seccomp", "fork"),
        ("seccomp", "send by UDP"),
        ("seccomp", "leave its session as a daemon"),
        ("seccomp", "lower the parent's limits"),
        ("seccomp", "let the kernel signal the zygote"),
        ("seccomp", "share memory by System V"),
        ("landlock", "read a key in a file"),
        ("landlock", "read /etc/passwd"),
        ("landlock", "overwrite a file"),
        ("landlock", "read /proc/1/environ" if os.geteuid() else "list the root folder"),
    ],
)
def test_without_a_protection_the_attack_gets_through(without: str, attack: str) -> None:
    finding = asyncio.run(tried(SANDBOXES["landlock"]))
    if not finding.works:
        pytest.skip(f"landlock does not work here: {finding.reason}")
    if without == "landlock" and os.geteuid() != 0 and attack.startswith("read /proc"):
        pytest.skip("process 1 is another user's")
    assert _one(Weak(""), attack), "the full tier contains it"
    assert not _one(Weak(without), attack)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can stay root")
def test_without_a_user_of_its_own_a_program_of_roots_is_root() -> None:
    assert _one(Weak(""), "be root")
    assert not _one(Weak("uid"), "be root")


NAIVE = """
import sys
program, tests = sys.argv[1:]
space = {}
exec(program, space)
exec(tests, space)
"""


@pytest.mark.parametrize(
    "name",
    [
        "end with exit code 0",
        "leave by SystemExit",
        "equal everything",
        "equal everything, as an int",
        "equal everything, as a class in a function's place",
        "contain everything",
        "answer any method",
        "define the tests' own functions",
        "define the problem's helper",
        "patch unittest and pytest",
    ],
)
def test_in_one_process_with_its_tests_the_forgery_passes(name: str) -> None:
    attack = next(each for each in attacks.ATTACKS if each.name == name)
    program: Program = attack.program
    tests = "\n".join(program.tests)
    if name == "define the tests' own functions":
        tests = "check(solve)"  # the harness that looks the name up is the one that is fooled
    source = f"{program.setup}\n{program.source}" if program.setup else program.source
    done = subprocess.run([sys.executable, "-c", NAIVE, source, tests], capture_output=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.e2e
def test_hundreds_of_mixed_programs_leave_nothing_and_do_not_grow() -> None:
    """The short form of tests/bench/sandbox_soak.py, which runs ten thousand."""
    path = ROOT / "tests" / "bench" / "sandbox_soak.py"
    spec = importlib.util.spec_from_file_location("sandbox_soak", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    try:
        soaked = asyncio.run(module.soak(300))
    except NoSandbox as error:
        pytest.skip(str(error))
    assert (soaked.escaped, soaked.misjudged, soaked.processes, soaked.files) == ([], [], 0, [])
    assert soaked.done == 300
    pool = [pool for pool, _ in soaked.memory]
    # What an attack takes comes and goes with it: growth would show in the least of later samples, too.
    assert min(pool[5:]) <= 1.5 * min(pool[:5]) + 20
