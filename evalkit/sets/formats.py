"""The rows of every format that a set may have, and which format a file has."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from evalkit import rows
from evalkit.rows import Problems, Row

SUFFIXES = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".parquet": "parquet",
    ".yaml": "promptfoo",
    ".yml": "promptfoo",
}
SAID = ".jsonl, .json or .csv (each also with .gz), .parquet, or .yaml for promptfoo's tests"


def suffix_of(path: Path) -> str | None:
    """The suffix that says how to read a file, without `.gz`; None when none of ours is there."""
    name = path.name.lower()
    suffix = Path(name.removesuffix(".gz")).suffix
    packable = SUFFIXES.get(suffix) in ("jsonl", "json", "csv")
    return suffix if suffix in SUFFIXES and (packable or not name.endswith(".gz")) else None


def read(path: Path, kind: str, problems: Problems, *, own: bool) -> Iterator[Row | str]:
    """The rows of a file, and last of all the sha256 of its (unpacked) bytes. Raises OSError.

    `own`: whether the columns of a CSV file have to be those of our samples, and the question of a test that
    of the file's prompt.
    """
    if kind == "parquet":
        from evalkit.sets import parquet

        return parquet.read(path, problems)
    if kind == "promptfoo":
        from evalkit.sets import promptfoo

        return promptfoo.read(path, problems, own=own)
    return rows.read(path, problems, "jsonl" if kind == "openai-evals" else kind, own=own)
