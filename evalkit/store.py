"""Where runs are kept: a folder each, `run.json` with where it comes from, `trials.jsonl` with its rows.

Rows are written as they are finished, one write each, so that a kill loses what was in flight and nothing
else. A line that was cut by a crash is dropped when the run is opened again.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

from evalkit.trial import Trial
from guardrails.errors import ConfigError

TRIALS = "trials.jsonl"
RUN = "run.json"


class Run:
    """One run's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.id = folder.name
        self._file: BinaryIO | None = None

    @classmethod
    def create(cls, out: Path, golden: str, at: datetime) -> Run:
        """A new, empty run under `out/runs`. Raises `ConfigError` when it cannot be written there."""
        stem = f"{at:%Y%m%d-%H%M%S}-{re.sub(r'[^A-Za-z0-9._-]+', '-', golden)[:40]}"
        for number in range(1, 1000):
            folder = out / "runs" / (stem if number == 1 else f"{stem}-{number}")
            try:
                folder.mkdir(parents=True, exist_ok=False)
            except FileExistsError:
                continue
            except OSError as error:
                raise ConfigError(
                    f"{out} cannot be written to: {error.strerror}", hint="choose another folder with --out"
                ) from None
            return cls(folder)
        raise ConfigError(f"{out / 'runs'} holds too many runs of this second")

    @classmethod
    def find(cls, out: Path, name: str) -> Run:
        """An earlier run, by its id or its folder. Raises `ConfigError` naming the runs that there are."""
        for folder in (out / "runs" / name, Path(name)):
            if (folder / RUN).is_file():
                return cls(folder)
        known = sorted(path.parent.name for path in (out / "runs").glob(f"*/{RUN}"))
        latest = ", ".join(known[-5:]) or "none"
        raise ConfigError(
            f"there is no run {name[:80]!r} in {out / 'runs'}", hint=f"the latest are: {latest}"
        )

    @property
    def trials_path(self) -> Path:
        """The rows' file."""
        return self.folder / TRIALS

    # --- rows

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the rows open for appending, against every other process."""
        with self.trials_path.open("ab") as file:
            _lock(file, self.id)
            _drop_torn_line(self.trials_path)
            self._file = file
            try:
                yield
            finally:
                self._file = None

    def add(self, trial: Trial) -> None:
        """Append a row and hand it to the operating system."""
        assert self._file is not None, "rows are added inside `writing()`"
        try:
            self._file.write(trial.line())
            self._file.flush()
        except OSError as error:
            raise ConfigError(
                f"{self.trials_path} cannot be written: {error.strerror}",
                hint="make room, then go on with --resume",
            ) from None

    def trials(self) -> list[Trial]:
        """All rows, oldest first; a cut last line is none. Raises `ConfigError` for an unreadable one."""
        if not self.trials_path.exists():
            return []
        rows = []
        lines = self.trials_path.read_bytes().split(b"\n")[:-1]  # what follows the last newline was cut
        for number, line in enumerate(lines, start=1):
            try:
                rows.append(Trial.read(line))
            except (ValueError, KeyError, TypeError, AttributeError):
                raise ConfigError(
                    f"{self.trials_path}:{number}: is not a row of a run",
                    hint="remove that line to go on without it",
                ) from None
        return rows

    # --- where it comes from

    def write_info(self, info: Mapping[str, Any]) -> None:
        """Write `run.json`, whole or not at all."""
        import orjson

        path = self.folder / RUN
        draft = path.with_suffix(".tmp")
        draft.write_bytes(orjson.dumps(info, default=str, option=orjson.OPT_INDENT_2) + b"\n")
        draft.replace(path)

    def info(self) -> dict[str, Any]:
        """What `run.json` says; empty when it cannot be read."""
        import orjson

        try:
            info = orjson.loads((self.folder / RUN).read_bytes())
        except (OSError, ValueError):
            return {}
        return info if isinstance(info, dict) else {}


def _drop_torn_line(path: Path) -> None:
    content = path.read_bytes()
    if content and not content.endswith(b"\n"):
        os.truncate(path, content.rfind(b"\n") + 1)


def _lock(file: BinaryIO, name: str) -> None:
    if sys.platform == "win32":
        return
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise ConfigError(f"the run {name} is being written by another process", hint="wait for it") from None
