"""Ways of shutting a process in, each as one small class that starts a zygote.

======================  =====================================================================================
`Bubblewrap`            namespaces (process, network, mount, IPC, host name, user), an own root with only the
                        interpreter, Landlock, seccomp, limits
`LandlockOnly`          where namespaces are forbidden: Landlock for reads too, seccomp, limits
`Engine`                a container of Docker or Podman, and inside it whatever of the above works
`UnsafeSubprocess`      limits only. It protects nothing, and is used when asked for by name
======================  =====================================================================================

None is taken on trust: `judges.sandbox.choose` tries forbidden things in each before it is used.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

Role = Literal["candidate", "grader", "command"]
INSIDE = Path(__file__).resolve().parent / "inside"
NOBODY = 65_534
SCRATCH = 64 << 20
"""Bytes of the scratch folder, in memory."""

ENVIRONMENT = {
    "PATH": "/nonexistent",
    "HOME": "/scratch",
    "LC_ALL": "C.UTF-8",
    "PYTHONHASHSEED": "0",  # the order of a set of words is the same in every run
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
"""All that a sandboxed process has as its environment."""
BIND_NOW = "LD_BIND_NOW"
"""Tells the loader to look up every symbol at the start: a zygote does it once, not each fork of it."""


class Unavailable(RuntimeError):
    """This way of shutting in does not work here. The message says why."""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """The Python that programs run in, and what it needs to read.

    `imports` are modules that a zygote imports before it forks; `packages` maps importable names to where
    they are (see `judges.sandbox.packages`); `tools` are folders that commands in other languages may
    read and execute.
    """

    python: str
    library: str
    shared: tuple[str, ...]
    imports: tuple[str, ...] = ()
    packages: tuple[tuple[str, str], ...] = ()
    tools: tuple[str, ...] = ()

    @classmethod
    def here(cls, imports: Sequence[str] = (), packages: Sequence[tuple[str, str]] = ()) -> Interpreter:
        """The interpreter that runs this, outside of any virtual environment."""
        python = os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)
        library = str(Path(os.__file__).resolve().parent)
        return cls(python, library, _shared(library), tuple(imports), tuple(packages))

    def for_anybody(self) -> Interpreter:
        """This one, or the system's of the same version where another user cannot reach this one."""
        if _reachable(self.python) and _reachable(self.library):
            return self
        name = f"python{sys.version_info.major}.{sys.version_info.minor}"
        for prefix in ("/usr", "/usr/local"):
            python, library = f"{prefix}/bin/{name}", f"{prefix}/lib/{name}"
            if os.access(python, os.X_OK) and _reachable(python) and _reachable(library):
                return Interpreter(python, library, _shared(library), self.imports, self.packages)
        raise Unavailable(
            f"no other user can read {self.python}, and there is no {name} under /usr: "
            "install Python where every user can read it"
        )


def _shared(library: str) -> tuple[str, ...]:
    """Where shared libraries are, with the loader's cache and the time zones."""
    triplet = sysconfig.get_config_var("MULTIARCH") or ""
    places = [f"/lib/{triplet}", f"/usr/lib/{triplet}"] if triplet and Path("/lib", triplet).is_dir() else []
    places = places or ["/lib", "/usr/lib", "/usr/lib64"]
    beside = [str(each) for each in Path(library).parent.glob("libpython*.so*")]
    return (*places, "/lib64", "/etc/ld.so.cache", "/usr/share/zoneinfo", *beside)


def _reachable(path: str) -> bool:
    """Whether a user who owns nothing can get to `path` and read it."""
    for each in (Path(path), *Path(path).parents):
        mode = each.stat().st_mode
        if not mode & 0o001 and each.is_dir():
            return False
    return bool(Path(path).stat().st_mode & 0o004)


@dataclass(slots=True)
class Launched:
    """A started zygote, not yet ready: its process, our end of its socket, what it says when it fails."""

    process: subprocess.Popen[bytes]
    control: socket.socket
    complaints: Callable[[], str]
    end: Callable[[], None] = lambda: None


class Sandbox(Protocol):
    """A way of shutting in."""

    @property
    def name(self) -> str:
        """One word, by which it is asked for."""

    @property
    def title(self) -> str:
        """What stands beside a score: what shuts the programs in."""

    def launch(self, role: Role, interpreter: Interpreter, /) -> Launched:
        """Start a zygote. Blocks for milliseconds. Raises `Unavailable`."""


def start(
    argv: Sequence[str],
    setup: dict[str, Any],
    interpreter: Interpreter,
    boot: str,
    python: str | None = None,
) -> Launched:
    """Start a zygote as a child process that has inherited its end of the control socket."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    complaints = os.memfd_create("complaints")
    try:
        given = {**setup, "control": theirs.fileno(), "imports": interpreter.imports, "boot": boot}
        process = subprocess.Popen(  # noqa: S603 (our own arguments)
            [*argv, *python_command(python or interpreter.python, boot, given)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=complaints,
            env={**ENVIRONMENT, BIND_NOW: "1"},
            cwd="/",
            pass_fds=(theirs.fileno(),),
            start_new_session=True,  # a group of its own, to be killed as one
        )
    except OSError as error:
        ours.close()
        os.close(complaints)
        raise Unavailable(f"{argv[0] if argv else interpreter.python}: {error.strerror}") from None
    finally:
        theirs.close()
    ours.setblocking(False)
    return Launched(process, ours, lambda: _read(complaints), lambda: os.close(complaints))


def python_command(python: str, boot: str, setup: dict[str, Any]) -> list[str]:
    """The command that becomes a zygote: no site, no user's folder, no current folder on the path."""
    code = f"import sys; sys.path.insert(0, {boot!r}); from inside.zygote import main; main()"
    return [python, "-P", "-s", "-S", "-B", "-X", "no_debug_ranges", "-c", code, json.dumps(setup)]


def _read(descriptor: int) -> str:
    return os.pread(descriptor, 4000, 0).decode("utf-8", "replace").strip()


# --- a user who owns nothing -------------------------------------------------------------------------------

_numbers = itertools.count()


def spare_uid() -> int:
    """A user id that nobody has, another one each time; `nobody` where the machine has no such ids."""
    wanted = 0x6000_0000 + os.getpid() % 0x8000 * 0x1000 + next(_numbers) % 0x1000
    for line in Path("/proc/self/uid_map").read_text().splitlines():
        first, _, count = (int(word) for word in line.split())
        if first <= wanted < first + count:
            return wanted
    return NOBODY


# --- the tiers ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Bubblewrap:
    """Namespaces by bubblewrap, then Landlock and seccomp. Works as root and, mostly, as anybody."""

    program: str = "bwrap"
    name: str = field(default="bubblewrap", init=False)
    title: str = field(default="bubblewrap + Landlock + seccomp", init=False)

    def launch(self, role: Role, interpreter: Interpreter, /) -> Launched:
        """Start a zygote as process 1 of its own namespaces."""
        program = shutil.which(self.program)
        if program is None:
            raise Unavailable("bubblewrap is not installed: apt-get install bubblewrap")
        root = os.geteuid() == 0
        tools = interpreter.tools if role == "command" else ()
        read = [interpreter.python, interpreter.library, *interpreter.shared, *tools]
        packages = [(f"/packages/{name}", place) for name, place in interpreter.packages]
        places = [*read, *(inside for inside, _ in packages), "/dev/null"]
        argv = [
            *(program, "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"),
            *("--unshare-cgroup-try", "--hostname", "sandbox", "--as-pid-1"),
            # Root maps a user who owns nothing from inside; anybody else becomes `nobody` here.
            *(() if root else ("--unshare-user", "--uid", str(NOBODY), "--gid", str(NOBODY))),
            *(word for path in _parents(*places) for word in ("--perms", "0755", "--dir", path)),
            *(word for path in read for word in ("--ro-bind-try", path, path)),
            *(word for hidden in self._hidden(interpreter) for word in ("--tmpfs", hidden)),
            *(word for inside, place in packages for word in ("--ro-bind", place, inside)),
            *("--ro-bind", str(INSIDE), "/evalkit/inside", "--proc", "/proc"),
            *("--dev-bind", "/dev/null", "/dev/null", "--dev-bind", "/dev/urandom", "/dev/urandom"),
            *("--size", str(SCRATCH), "--tmpfs", "/scratch", "--remount-ro", "/"),
        ]
        setup = {
            "role": role,
            "shut": True,
            "seccomp": True,
            "landlock": "always",
            "scratch": "/scratch",
            "read": [*read, "/packages", "/dev/urandom"],
            "packages": ["/packages"] if packages else [],
            "tools": list(tools),
            **({"uid": spare_uid(), "namespace": True} if root else {}),
        }
        return start(argv, setup, interpreter, "/evalkit")

    def _hidden(self, interpreter: Interpreter) -> list[str]:
        """Packages that nobody declared, by mounting nothing over them."""
        inside = [f"{interpreter.library}/{name}" for name in ("site-packages", "dist-packages")]
        return [path for path in (*inside, "/usr/lib/python3") if self._bound(path, interpreter)]

    def _bound(self, path: str, interpreter: Interpreter) -> bool:
        places = (interpreter.library, *interpreter.shared)
        return Path(path).is_dir() and any(Path(path).is_relative_to(each) for each in places)


def _parents(*paths: str) -> list[str]:
    """The folders above, outermost first: made open to all, where bubblewrap would close root's own."""
    return sorted({str(each) for path in paths for each in Path(path).parents if each != Path("/")})


@dataclass(frozen=True, slots=True)
class LandlockOnly:
    """No namespaces needed: Landlock for reads and writes, seccomp, limits, and as root a user of its own.

    Nothing can be written anywhere. What remains visible: that a file exists, and its size and owner.
    """

    name: str = field(default="landlock", init=False)
    title: str = field(default="Landlock + seccomp", init=False)

    def launch(self, role: Role, interpreter: Interpreter, /) -> Launched:
        """Start a zygote that shuts itself in."""
        from judges.sandbox.inside.landlock import abi

        if role == "command":
            raise Unavailable("without namespaces there is no folder for a command to write its files to")
        if abi() < 3:
            raise Unavailable(f"Landlock's version here is {abi()}; 3 (Linux 6.2) is needed")
        root = os.geteuid() == 0
        interpreter = interpreter.for_anybody() if root else interpreter
        library = [str(each) for each in Path(interpreter.library).iterdir() if "-packages" not in each.name]
        setup = {
            "role": role,
            "shut": True,
            "seccomp": True,
            "landlock": "always",
            "read": [
                *library,
                *interpreter.shared,
                *(place for _, place in interpreter.packages),
                "/dev/urandom",
            ],
            "packages": sorted({str(Path(place).parent) for _, place in interpreter.packages}),
            **({"uid": spare_uid()} if root else {"shared_uid": True}),
        }
        return start([], setup, interpreter, str(INSIDE.parent))


@dataclass(frozen=True, slots=True)
class UnsafeSubprocess:
    """Limits and nothing else: the programs can read, write and reach whatever you can. Only by name."""

    name: str = field(default="unsafe_subprocess", init=False)
    title: str = field(default="UNSAFE: not shut in", init=False)

    def launch(self, role: Role, interpreter: Interpreter, /) -> Launched:
        """Start a zygote that is shut in by nothing."""
        setup = {
            "role": role,
            "shut": False,
            "seccomp": False,
            "landlock": "never",
            "shared_uid": True,
            "packages": sorted({str(Path(place).parent) for _, place in interpreter.packages}),
        }
        return start([], setup, interpreter, str(INSIDE.parent))
