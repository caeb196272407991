"""A simulated endpoint in a process of its own, so that client and server do not share an event loop."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from guardrails.errors import ConfigError
from guardrails.testing.profile import Profile, load

READY = "serving on "


@dataclass(frozen=True, slots=True)
class SimulatedProcess:
    """A simulator that runs elsewhere. `GET {url}/stats` tells its counts."""

    url: str
    pid: int


@contextmanager
def simulate_process(profile: Profile | str = "instant", *, port: int = 0) -> Generator[SimulatedProcess]:
    """Start `guardrails simulate` and wait until it says that it is ready; terminate it on leaving.

    Raises `ConfigError` with its complaint when it does not start.
    """
    chosen = load(profile) if isinstance(profile, str) else profile
    with tempfile.TemporaryDirectory(prefix="guardrails-simulate-") as folder:
        path = Path(folder, "profile.json")
        path.write_text(chosen.to_json(), encoding="utf-8")
        command = [sys.executable, "-m", "guardrails.cli", "simulate", "--port", str(port)]
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [*command, "--profile", str(path), "--quiet"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,  # a Ctrl-C is for us: the calls in flight end in good order
        )
        with process:
            try:
                assert process.stdout is not None
                line = process.stdout.readline()
                if not line.startswith(READY):
                    _, complaint = process.communicate(timeout=10)
                    raise ConfigError(f"the simulator did not start: {complaint.strip()}", kind="simulate")
                yield SimulatedProcess(line.removeprefix(READY).strip(), process.pid)
            finally:
                process.terminate()
