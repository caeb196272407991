"""The files that a run's results are written to, beside the store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from evalkit import whole
from guardrails.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Files:
    """Where results are written besides the store."""

    html: Path | None = None
    json: Path | None = None
    junit: Path | None = None
    markdown: Path | None = None

    def __post_init__(self) -> None:
        if Path("-") in tuple(self):
            raise ConfigError(
                "- is no name of a file, and results are written to files",
                hint="/dev/stdout is one, where the table goes too",
            )

    def __iter__(self) -> Iterator[Path]:
        """Those that are wanted."""
        return (path for path in (self.html, self.json, self.junit, self.markdown) if path is not None)

    def check(self) -> None:
        """Raises `ConfigError` for one that could not be written: better before the first call than after."""
        for path in self:
            whole.check(path, hint="nothing was run; name another file")


NOTHING = Files()
