"""Every attack is contained, and leaves the pool as it was: as whoever runs this and as nobody.

Where a sandbox does not work on this machine its tests are skipped with the reason. That the same attacks get
through without the protections is in test_sandbox_protections.py.
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
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from judges.sandbox import NoSandbox
from judges.sandbox.choose import SANDBOXES, tried

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
pytestmark = pytest.mark.timeout(900)  # a quiet machine needs half a minute for each table


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


@pytest.mark.e2e
def test_mixed_programs_leave_nothing_and_do_not_grow() -> None:
    """The short form of tests/bench/sandbox_soak.py, which runs ten thousand."""
    path = ROOT / "tests" / "bench" / "sandbox_soak.py"
    spec = importlib.util.spec_from_file_location("sandbox_soak", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    try:
        soaked = asyncio.run(module.soak(150))
    except NoSandbox as error:
        pytest.skip(str(error))
    assert (soaked.escaped, soaked.misjudged, soaked.processes, soaked.files) == ([], [], 0, [])
    assert soaked.done == 150
    pool = [pool for pool, _ in soaked.memory]
    # What an attack takes comes and goes with it: growth would show in the least of later samples, too.
    assert min(pool[5:]) <= 1.5 * min(pool[:5]) + 20
