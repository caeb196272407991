"""Each protection is needed: with it the attack is contained, and with it alone taken away it gets through.

Taken away by what starts the sandbox: a stand-in for bubblewrap drops one of its arguments, a variant of the
Landlock tier leaves out one of its steps, and a limit is set high. Only what is safe to let through is.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from judges.sandbox import Interpreter, Limits, Pool, Program, Result
from judges.sandbox.choose import SANDBOXES, tried
from judges.sandbox.tiers import INSIDE, Bubblewrap, Launched, Role, Sandbox, spare_uid, start

sys.path.insert(0, str(Path(__file__).parent))
import sandbox_attacks as attacks

pytestmark = pytest.mark.timeout(300)
ROOT = os.geteuid() == 0


def works(name: str) -> None:
    finding = asyncio.run(tried(SANDBOXES[name]))
    if not finding.works:
        pytest.skip(f"{name} does not work here: {finding.reason}")


def attack_named(name: str) -> Any:
    return next(each for each in attacks.ATTACKS if each.name == name)


def ran(sandbox: Sandbox, program: Program, limits: Limits, interpreter: Interpreter | None = None) -> Result:
    async def run() -> Result:
        async with Pool(sandbox, interpreter=interpreter, workers=1) as pool:
            return await pool.run(program, limits)

    return asyncio.run(run())


# --- Landlock, seccomp and a user of its own, in the tier that has nothing else


@dataclass(frozen=True)
class Weak:
    """Landlock's tier without some of what it has."""

    without: str
    name: str = "weak"
    title: str = "weak"

    def launch(self, role: Role, interpreter: Interpreter, /) -> Launched:
        interpreter = interpreter.for_anybody() if ROOT else interpreter
        read = [interpreter.library, *interpreter.shared, "/dev/urandom"]
        setup = {
            "role": role,
            "shut": True,
            "seccomp": True,
            "landlock": "always",
            "packages": [],
            "read": read,
            # Of nobody else, such as a test's database: their processes would count, and a fork be refused.
            **({"uid": spare_uid()} if ROOT and self.without != "uid" else {"shared_uid": True}),
        }
        off = {"seccomp": {"seccomp": False}, "landlock": {"landlock": "never"}}
        return start([], {**setup, **off.get(self.without, {})}, interpreter, str(INSIDE.parent))


def contained(sandbox: Sandbox, attack: Any) -> bool:
    with attacks.battlefield() as field:
        held: bool = attack.contained(ran(sandbox, field.program(attack), attack.limits))
        return held


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
        ("landlock", "list the root folder"),
    ],
)
def test_without_a_layer_the_attack_gets_through(without: str, attack: str) -> None:
    works("landlock")
    assert contained(Weak(""), attack_named(attack)), "the full tier contains it"
    assert not contained(Weak(without), attack_named(attack))


@pytest.mark.skipif(not ROOT, reason="only root can stay root")
def test_without_a_user_of_its_own_a_program_of_roots_is_root() -> None:
    works("landlock")
    assert contained(Weak(""), attack_named("be root"))
    assert not contained(Weak("uid"), attack_named("be root"))


# --- namespaces and mounts, with neither Landlock nor seccomp behind them

STAND_IN = """\
import json, os, sys
change = json.loads({change!r})
*args, setup = sys.argv[1:]
kept = []
while args:
    word = args.pop(0)
    if word in change["drop"]:
        del args[: change["drop"][word]]
        continue
    if word == "--remount-ro":
        kept += change["add"]
    kept.append(change["swap"].get(word, word))
setup = json.dumps({{**json.loads(setup), "seccomp": False, "landlock": "never", **change["setup"]}})
os.execv({bwrap!r}, [{bwrap!r}, *kept, setup])
"""


@dataclass(frozen=True)
class Change:
    """What the stand-in does differently: arguments it drops (with how many values), replaces and adds."""

    drop: tuple[tuple[str, int], ...] = ()
    swap: tuple[tuple[str, str], ...] = ()
    add: tuple[str, ...] = ()
    setup: tuple[tuple[str, Any], ...] = ()

    def sandbox(self, folder: Path) -> Sandbox:
        bwrap = shutil.which("bwrap")
        assert bwrap is not None
        change = {
            "drop": dict(self.drop),
            "swap": dict(self.swap),
            "add": self.add,
            "setup": dict(self.setup),
        }
        script = folder / "bwrap"
        text = STAND_IN.format(change=json.dumps(change), bwrap=bwrap)
        script.write_text(f"#!{sys.executable}\n{text}")
        script.chmod(0o755)
        return Bubblewrap(program=str(script))


NOTHING = Change()
CONNECT = "socket.create_connection(('127.0.0.1', @PORT@), 5)"
ABSTRACT = "socket.socket(socket.AF_UNIX).connect(bytes([0]) + b'@ABSTRACT@')"
HOST_NAME = "if os.uname().nodename == 'sandbox': raise OSError"
SHARED = "if libc.shmget(@SHARED@, 0, 0) == -1: raise OSError"
WRITE = "open('/packages/open/evil', 'w').close()"
ONE_USER = "if int(open('/proc/self/uid_map').read().split()[-1]) == 1: raise OSError"


@pytest.mark.parametrize(
    ("body", "change"),
    [
        pytest.param(CONNECT, Change(drop=(("--unshare-net", 0),)), id="network"),
        pytest.param(ABSTRACT, Change(drop=(("--unshare-net", 0),)), id="abstract-sockets"),
        pytest.param(
            "os.stat('/proc/@HOST@')", Change(drop=(("--unshare-pid", 0), ("--as-pid-1", 0))), id="processes"
        ),
        pytest.param(HOST_NAME, Change(drop=(("--unshare-uts", 0), ("--hostname", 1))), id="host-name"),
        pytest.param(SHARED, Change(drop=(("--unshare-ipc", 0),)), id="shared-memory"),
        pytest.param(
            ONE_USER,
            Change(setup=(("namespace", False),)),
            id="users",
            marks=pytest.mark.skipif(not ROOT, reason="without root there is no other way in"),
        ),
        pytest.param(
            "open('@SECRET@').read()",
            Change(add=("--perms", "0755", "--dir", "/tmp", "--ro-bind", "@FOLDER@", "@FOLDER@")),
            id="files",
        ),
        pytest.param(
            "open('/packages/open/evil', 'w').close()",
            Change(swap=(("--ro-bind", "--bind"),)),
            id="read-only",
        ),
        pytest.param(
            "if 'EVALKIT_TEST_KEY' not in os.environ: raise OSError",
            Change(add=("--setenv", "EVALKIT_TEST_KEY", "1")),
            id="environment",
        ),
    ],
)
def test_without_a_namespace_or_a_mount_the_attack_gets_through(
    body: str, change: Change, tmp_path: Path, shared_memory: int
) -> None:
    works("bubblewrap")
    opened = tmp_path / "open"
    opened.mkdir()
    opened.chmod(0o777)
    interpreter = Interpreter.here(packages=[("open", str(opened))])
    with attacks.battlefield() as field:
        field.values.update({"@SHARED@": str(shared_memory), "@FOLDER@": str(field.secret.parent)})
        added = tuple(field.values.get(word, word) for word in change.add)
        attack = attacks._attack("own", f"refused: {body}\n{body}")
        program = field.program(attack)
        for sandbox, kind in ((NOTHING, "passed"), (replace(change, add=added), "wrong")):
            result = ran(sandbox.sandbox(tmp_path), program, attack.limits, interpreter)
            assert result.kind == kind, (result, result.message)


@pytest.fixture
def shared_memory() -> Iterator[int]:
    """The key of a segment of System V's shared memory that anybody may attach."""
    libc = ctypes.CDLL(None, use_errno=True)
    create_exclusively, remove = 0o3000, 0
    key = 0x6576_0000 + os.getpid() % 0x10000
    number = libc.shmget(key, 4096, create_exclusively | 0o666)
    assert number != -1, os.strerror(ctypes.get_errno())
    yield key
    libc.shmctl(number, remove, None)


def test_without_its_size_the_scratch_folder_takes_more(tmp_path: Path) -> None:
    works("bubblewrap")
    attack = attack_named("files until the disk is full")
    assert contained(NOTHING.sandbox(tmp_path), attack)
    assert not contained(Change(drop=(("--size", 1),)).sandbox(tmp_path), attack)


# --- limits

LONG = Limits(cpu=60, wall=120.0)
BURN = "while time.process_time() < 3: pass"
THREADS = """
    done = threading.Event()
    threads = [threading.Thread(target=done.wait) for _ in range(10)]
    try:
        for each in threads: each.start()
    finally:
        done.set()
"""


@pytest.mark.parametrize(
    ("body", "limit", "kinds"),
    [
        pytest.param(BURN, {"cpu": 1}, ("timeout",), id="cpu"),
        pytest.param("time.sleep(1)", {"wall": 0.5}, ("timeout",), id="wall"),
        pytest.param("bytearray(300 << 20)", {"memory": 256 << 20}, ("memory",), id="memory"),
        pytest.param(THREADS, {"threads": 4}, ("exception",), id="threads"),
        pytest.param(
            "open('f', 'wb').write(bytes(2 << 20))", {"file": 1 << 20}, ("exception", "crash"), id="file"
        ),
        pytest.param("n = 'x' * (2 << 20)", {"output": 1 << 20}, ("protocol",), id="output"),
    ],
)
def test_without_a_limit_the_program_gets_what_it_takes(
    body: str, limit: dict[str, Any], kinds: tuple[str, ...]
) -> None:
    works("bubblewrap")
    program = Program(
        f"{attacks.HEAD}\ndef solve(n):\n    {body}\n    return n", ("solve(1)",), names=("solve",)
    )
    assert ran(SANDBOXES["bubblewrap"], program, replace(LONG, **limit)).kind in kinds
    assert ran(SANDBOXES["bubblewrap"], program, LONG).kind == "passed"


# --- the verdict: what fools the usual harnesses, which run program and tests in one process

EXIT_CODE = """
import sys
program, tests = sys.argv[1:]
space = {}
exec(program, space)
exec(tests, space)
"""
OUTPUT = """
import sys
program, tests = sys.argv[1:]
space = {}
try:
    exec(program, space)
    exec(tests, space)
    print("passed")
except BaseException:
    print("failed")
"""
MODULE = """
import sys, types
program, tests = sys.argv[1:]
sys.modules["tests"] = types.ModuleType("tests")
exec("def check(space, tests): exec(tests, space)", sys.modules["tests"].__dict__)
space = {}
exec(program, space)
sys.modules["tests"].check(space, tests)
"""
HARNESSES = {"exit code": EXIT_CODE, "output": OUTPUT, "module": MODULE}


@pytest.mark.parametrize(
    ("harness", "name"),
    [
        ("exit code", "end with exit code 0"),
        ("exit code", "end with exit code 0 when asked"),
        ("exit code", "leave by SystemExit"),
        ("exit code", "leave a thread that answers"),
        ("exit code", "equal everything"),
        ("exit code", "equal everything, as an int"),
        ("exit code", "equal everything, as a str"),
        ("exit code", "equal everything, as a list"),
        ("exit code", "equal everything, inside a list"),
        ("exit code", "equal everything, as a class in a function's place"),
        ("exit code", "be true without a value"),
        ("exit code", "contain everything"),
        ("exit code", "have any length"),
        ("exit code", "answer any method"),
        ("exit code", "compare by reflection"),
        ("exit code", "patch the interpreter's own functions"),
        ("exit code", "define the tests' built-ins"),
        ("exit code", "define the tests' own functions"),
        ("exit code", "define the problem's helper"),
        ("exit code", "look for the expected value in memory"),
        ("exit code", "patch unittest and pytest"),
        ("output", "print the expected line"),
        ("module", "rewrite the tests' module"),
    ],
)
def test_in_one_process_with_its_tests_the_forgery_passes(harness: str, name: str) -> None:
    attack = attack_named(name)
    tests = "\n".join(attack.program.tests)
    if name == "define the tests' own functions":
        tests = "check(solve)"  # the harness that looks the name up is the one that is fooled
    source = f"{attack.program.setup}\n{attack.program.source}"
    command = [sys.executable, "-c", HARNESSES[harness], source, tests]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert harness != "output" or "passed" in done.stdout.split()
