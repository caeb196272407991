"""Files that appear when they are whole; pipes and devices are written to as they are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import IO

from guardrails.errors import ConfigError


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """A file that takes its name when it is whole. Raises `ConfigError` when it cannot be written.

    Pipes and devices are written to as they are.
    """
    place = path.resolve()  # where a link leads: it stays
    draft = place.with_name(f".evalkit-{token_hex(8)}.part")
    try:
        if path.exists() and not path.is_file():
            with path.open("wb") as file:
                yield file
            return
        place.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("xb") as file:
            yield file
        draft.replace(place)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written: {error.strerror}", hint="choose another --out"
        ) from None
    finally:
        with suppress(OSError):  # it has its name, or was never made
            draft.unlink()


def check(path: Path, hint: str = "choose another --out") -> None:
    """Raises `ConfigError` for a file that could not be written. What is there stays as it is."""
    there = path.exists()
    if there and not path.is_file() and not path.is_dir() and os.access(path, os.W_OK):
        return  # a pipe's reader would take the closing for the end
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab"):
            pass
        if not there:  # an empty file would be taken for a result
            path.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}", hint=hint) from None
