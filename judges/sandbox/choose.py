"""Which sandbox will do? Each is tried: a program attempts what must be impossible, in it and then for real.

A version number or a kernel option says what should work; containers, security modules and old kernels make
it untrue in both directions. So nothing is believed that was not seen to be refused.
"""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from guardrails.errors import ConfigError
from judges.sandbox.engine import Engine
from judges.sandbox.pool import Pool
from judges.sandbox.program import Limits, Program
from judges.sandbox.tiers import Bubblewrap, Interpreter, LandlockOnly, Sandbox, Unavailable, UnsafeSubprocess

SANDBOXES: Mapping[str, Sandbox] = {
    each.name: each
    for each in (Bubblewrap(), LandlockOnly(), Engine("docker"), Engine("podman"), UnsafeSubprocess())
}
"""All that there are, the strongest first."""

UNSAFE = UnsafeSubprocess().name


@dataclass(frozen=True, slots=True)
class Finding:
    """Whether a sandbox works here, and if not, why."""

    name: str
    works: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Chosen:
    """The sandbox to use, and what was found of each that was tried before it."""

    sandbox: Sandbox
    findings: tuple[Finding, ...] = ()


class NoSandbox(ConfigError):
    """Nothing here can shut programs in, so none is run."""

    default_kind = "no_sandbox"


async def choose(
    name: str | None = None,
    interpreter: Interpreter | None = None,
    among: Mapping[str, Sandbox] = SANDBOXES,
) -> Chosen:
    """The strongest sandbox that works here, or the one asked for by name. Raises `NoSandbox`.

    `unsafe_subprocess` is only ever taken by its name, and is not tried: it refuses nothing.
    """
    if name is not None and name not in among:
        raise NoSandbox(f"there is no sandbox {name[:40]!r}", hint=f"there are {', '.join(among)}")
    if name == UNSAFE:
        return Chosen(among[name])
    findings: list[Finding] = []
    for sandbox in among.values():
        if sandbox.name == UNSAFE or name not in (None, sandbox.name):
            continue
        findings.append(await tried(sandbox, interpreter))
        if findings[-1].works:
            return Chosen(sandbox, tuple(findings))
    raise NoSandbox(_sentence(findings), hint=HINT)


HINT = (
    "install bubblewrap (apt-get install bubblewrap), or use Linux 6.2 or later with Landlock, or start a "
    f"Docker engine; `{UNSAFE}` runs programs with your own rights, if you name it"
)


def _sentence(findings: Sequence[Finding]) -> str:
    reasons = "; ".join(f"{each.name}: {each.reason}" for each in findings)
    return f"no sandbox works here, so no program is run ({reasons})"


async def tried(sandbox: Sandbox, interpreter: Interpreter | None = None) -> Finding:
    """Try a sandbox: start it, run a right and a wrong program, and attempt what it has to refuse."""
    with _secret() as folder:
        call = f"leaks = {{}}({folder!r})\nif leaks: raise RuntimeError(', '.join(leaks))"
        probe = Program(
            PROBE, (call.format("probe"), call.format("here")), f"{PROBE}\nhere = probe", names=("probe",)
        )
        limits = Limits(cpu=5, wall=20)
        try:
            async with Pool(sandbox, interpreter=interpreter, workers=1) as pool:
                wrong = await pool.run(
                    Program("def f(): return 1", ("assert f() == 2",), names=("f",)), limits
                )
                result = await pool.run(probe, limits)
        except Unavailable as error:
            return Finding(sandbox.name, False, str(error))
    if wrong.kind != "wrong":
        return Finding(sandbox.name, False, "a wrong program was not found wrong")
    if result.passed:
        return Finding(sandbox.name, True)
    if result.kind != "exception":
        return Finding(sandbox.name, False, "the program that tries what is forbidden did not come back")
    return Finding(sandbox.name, False, f"it does not refuse {result.message.removeprefix('RuntimeError: ')}")


@contextmanager
def _secret() -> Iterator[str]:
    """A folder with a file that anybody may read and write: the sandbox has to keep it closed."""
    with tempfile.TemporaryDirectory(prefix="evalkit-probe-") as folder:
        Path(folder).chmod(0o777)
        secret = Path(folder, "secret")
        secret.write_text(secrets.token_hex())
        secret.chmod(0o666)
        yield folder


# Runs in the candidate's process, and then in the tests'. Returns what was not refused. Harmless even where
# nothing is: it asks, and changes nothing but its own files.
PROBE = """
import ctypes, errno, os, signal, socket


def probe(folder):
    libc = ctypes.CDLL(None, use_errno=True)
    parent = os.getppid()

    def call(name, *args):
        # Arguments that cannot work: all that matters is whether the call is refused before they are seen.
        if getattr(libc, name)(*args) == -1 and ctypes.get_errno() == errno.EPERM:
            raise OSError

    def environment():
        known = {"PATH", "HOME", "LC_ALL", "PYTHONHASHSEED", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"}
        if set(os.environ) <= known | {"PWD", "HOSTNAME", "container", "LC_CTYPE"}:
            raise OSError

    def fork():
        if os.fork() == 0:
            os._exit(0)

    def programs():
        try:
            os.execv("/", ["none"])
        except OSError as error:
            if error.errno == errno.EPERM:  # refused, and not for being a folder
                raise

    attempts = {
        "reading files": lambda: open(folder + "/secret").read(),
        "writing files": lambda: open(folder + "/secret", "a").close(),
        "making files": lambda: open(folder + "/made", "w").close(),
        "changing modes": lambda: os.chmod(folder + "/secret", 0o600),
        "files in /dev/shm": lambda: (open("/dev/shm/evalkit", "w").close(), os.unlink("/dev/shm/evalkit")),
        "reading /proc": lambda: open("/proc/self/environ").read(),
        "the environment": environment,
        "sockets": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM),
        "unix sockets": lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM),
        "processes": fork,
        "programs": programs,
        "signals to others": lambda: os.kill(parent, 0),
        "signals to the group": lambda: os.killpg(0, signal.SIGWINCH),
        "tracing": lambda: call("ptrace", 2, parent, 0, 0),
        "others' memory": lambda: call("process_vm_readv", parent, 0, 0, 0, 0, 0),
        "others' limits": lambda: call("prlimit", parent, 7, None, ctypes.create_string_buffer(16)),
        "user namespaces": lambda: call("unshare", 0x10000000),
        "mounts": lambda: call("mount", b"none", b"/nonexistent", b"tmpfs", 0, 0),
        "leaving the session": lambda: os.setsid(),
        "becoming root": lambda: os.setuid(0),
    }
    leaks = ["being root"] if os.getuid() == 0 else []
    for name, attempt in attempts.items():
        try:
            attempt()
        except OSError:
            continue
        leaks.append(name)
    return leaks
"""
