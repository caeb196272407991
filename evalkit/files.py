"""The files that a run's results are written to, beside the store."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from evalkit import whole
from guardrails.errors import ConfigError, GuardrailsError

if TYPE_CHECKING:
    from rich.console import Console

INTERRUPTED = 130
LEFT = "interrupted: what was finished is kept"
GONE = "interrupted: the store did not answer, and what it had not kept by then is lost"

MARK = "<!-- evalkit -->"
"""What a summary begins with that has a file of its own; no service shows it."""

_HEADS = {
    "html": b"<!doctype html>",
    "json": b'{\n  "run": ',
    "junit": b"<testsuites ",
    "markdown": MARK.encode(),
}
"""By these a file is known as the results of an earlier run, and not as one that was named by mistake."""


@dataclass(frozen=True, slots=True)
class Ended:
    """Why a run is not complete and sound. `failed`: whether the exit code is one of failure for it."""

    why: str
    failed: bool = True


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
        places: dict[str, Path] = {}
        for path in self:
            if _stream(path):
                continue
            other = places.setdefault(os.path.realpath(path), path)
            if other is not path:
                raise ConfigError(
                    f"{path} is named for two kinds of results",
                    hint="one would replace the other: name two files",
                )

    def __iter__(self) -> Iterator[Path]:
        """Those that are wanted."""
        return (path for path in (self.html, self.json, self.junit, self.markdown) if path is not None)

    @property
    def adds(self) -> bool:
        """Whether the summary goes after what is there: where all steps of a job have one, and in a pipe."""
        if self.markdown is None or _stream(self.markdown):
            return True
        step = step_summary()
        return step is not None and os.path.realpath(step) == os.path.realpath(self.markdown)

    def check(self) -> None:
        """Raises `ConfigError` for one that could not be written: better before the first call than after."""
        for path in self:
            whole.check(path, hint="nothing was run; name another file")

    def clear(self) -> None:
        """Remove what an earlier run left there: it would be taken for this one's, if this one is killed."""
        for name, head in _HEADS.items():
            path: Path | None = getattr(self, name)
            if name == "markdown" and self.adds:
                continue
            if path is not None and _begins(path, head):
                with suppress(OSError):
                    path.resolve().unlink()  # where a link leads: it stays

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """Where nothing is measured yet: the files say what goes wrong, in place of earlier results."""
        try:
            yield
        except Exception as error:
            self.refuse(sentence(error))
            raise

    def refuse(self, why: str, *, clear: bool = True) -> None:
        """Say that there are no results. Files that cannot be written stay as they are.

        Without `clear` so do those that are there: they are this run's.
        """
        from evalkit.ci import junit, markdown

        if clear:
            self.clear()
        with suppress(ConfigError):
            if self.junit is not None and _blank(self.junit):
                junit.write(self.junit, (), ended=Ended(why))
        with suppress(ConfigError):
            if self.markdown is not None and (self.adds or _blank(self.markdown)):
                markdown.refuse(self.markdown, why, anew=not self.adds)


@contextmanager
def placed(path: Path) -> Iterator[IO[bytes]]:
    """A file of results, which is there when it is whole: who leaves meanwhile leaves no half of it.

    Raises `ConfigError` when it cannot be written.
    """
    try:
        with whole.opened(path) as file:
            yield file
    except ConfigError as error:
        raise ConfigError(error.message, hint="name another file") from None


def left(err: Console, files: Files, *, results: bool = False, why: str = LEFT) -> int:
    """Say that somebody left; the exit code. `results`: the run has an outcome, and files that are there its
    numbers."""
    files.refuse(why, clear=not results)
    err.print(why, highlight=False)
    return INTERRUPTED


def step_summary() -> Path | None:
    """Where GitHub wants a step's summary, if this runs there."""
    path = os.environ.get("GITHUB_STEP_SUMMARY")
    return Path(path) if path else None


def sentence(error: BaseException) -> str:
    """What to say of it. The message of an error that is not ours may quote a prompt or an answer."""
    return error.message if isinstance(error, GuardrailsError) else f"unexpected {type(error).__name__}"


def _blank(path: Path) -> bool:
    """Whether nothing is written there. What reserves a name, as `mktemp` does, leaves an empty file."""
    try:
        return not path.exists() or (path.is_file() and path.stat().st_size == 0)
    except OSError:
        return False


def _stream(path: Path) -> bool:
    """Whether it is no file of its own: a terminal, a pipe, or `/dev/stdout`, whatever that leads to."""
    try:
        return path.is_relative_to("/dev") or (path.exists() and not path.is_file())
    except OSError:
        return False


def _begins(path: Path, head: bytes) -> bool:
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return head in file.read(200)
    except OSError:
        return False


NOTHING = Files()
