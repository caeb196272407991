"""Containers: Docker or Podman, when an engine answers and the image is already there.

The zygote inside cannot inherit a socket from us, so it connects to one in a folder that is mounted into its
container; descriptors pass over it as they do elsewhere, so the engine has to run on this very kernel.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from judges.sandbox.tiers import (
    ENVIRONMENT,
    INSIDE,
    NOBODY,
    SCRATCH,
    Interpreter,
    Launched,
    Role,
    Unavailable,
    python_command,
)

ANSWER = 10.0
"""Seconds for an engine to say that it is there."""
START = 30.0
"""Seconds for a container to start and connect."""


@dataclass(frozen=True, slots=True)
class Engine:
    """A container for each zygote: no network, read-only root, no capabilities, bounded processes and memory.

    `image` has Python 3.11 or later as `python3` and is never pulled. `memory` bounds a whole container.
    """

    name: str = "docker"
    image: str = "python:3.11-slim"
    memory: int = 2 << 30

    @property
    def title(self) -> str:
        """What stands beside a score."""
        return f"{self.name} ({self.image}) + seccomp"

    def launch(self, role: Role, interpreter: Interpreter, /) -> Launched:
        """Start a container and wait for its zygote to connect."""
        program = shutil.which(self.name)
        if program is None:
            raise Unavailable(f"{self.name} is not installed")
        if interpreter.packages:
            raise Unavailable("packages are not mounted into containers: use an image that has them")
        if role == "command":
            raise Unavailable("commands in other languages run under bubblewrap only")
        self._answers(program)
        place = tempfile.mkdtemp(prefix="evalkit-")  # open to its owner alone
        name = Path(place).name
        meeting = Path(place, "meet")
        meeting.mkdir(mode=0o755)
        complaints = os.memfd_create("complaints")
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
            listening.bind(str(meeting / "socket"))
            (meeting / "socket").chmod(0o666)  # the container's user is another one
            listening.listen(1)
            process = subprocess.Popen(  # noqa: S603 (our own arguments)
                self.command(program, name, meeting, role, interpreter),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=complaints,
                start_new_session=True,
            )
            control = _accepted(listening, process)

        def end() -> None:
            os.close(complaints)
            shutil.rmtree(place, ignore_errors=True)
            # Killing the client does not end the container; its zygote ends when our socket does.
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                subprocess.run([program, "kill", name], capture_output=True, timeout=ANSWER, check=False)  # noqa: S603

        if control is None:
            said = os.pread(complaints, 4000, 0).decode("utf-8", "replace").strip().splitlines()
            process.kill()
            process.wait()
            end()
            raise Unavailable(said[-1] if said else "the container did not start")
        control.setblocking(False)
        return Launched(process, control, lambda: "", end)

    def command(
        self, program: str, name: str, meeting: Path, role: Role, interpreter: Interpreter
    ) -> list[str]:
        """The engine's command line."""
        setup = {
            "role": role,
            "shut": True,
            "seccomp": True,
            "landlock": "if there",
            "scratch": "/scratch",
            "connect": "/evalkit/meet/socket",
            "boot": "/evalkit",
            "packages": [],
            "imports": list(interpreter.imports),
            "read": ["/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/dev/urandom"],
        }
        environment = (word for key, value in ENVIRONMENT.items() for word in ("--env", f"{key}={value}"))
        return [
            *(program, "run", "--rm", "--name", name, "--pull", "never", "--network", "none", "--read-only"),
            *("--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--ipc", "none"),
            *("--user", f"{NOBODY}:{NOBODY}", "--pids-limit", "64", "--memory", str(self.memory)),
            *("--memory-swap", str(self.memory), "--tmpfs", f"/scratch:size={SCRATCH},mode=1777"),
            *("--volume", f"{INSIDE}:/evalkit/inside:ro", "--volume", f"{meeting}:/evalkit/meet:ro"),
            *environment,
            self.image,
            *python_command("python3", "/evalkit", setup),
        ]

    def _answers(self, program: str) -> None:
        try:
            asked = subprocess.run(  # noqa: S603 (our own arguments)
                [program, "info"], capture_output=True, timeout=ANSWER, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            raise Unavailable(f"no engine of {self.name} answers") from None
        if asked.returncode != 0:
            raise Unavailable(f"no engine of {self.name} answers")


def _accepted(listening: socket.socket, process: subprocess.Popen[bytes]) -> socket.socket | None:
    listening.settimeout(0.1)
    until = time.monotonic() + START
    while process.poll() is None and time.monotonic() < until:
        with contextlib.suppress(TimeoutError):
            return listening.accept()[0]
    return None
