"""The texts of a training corpus, document by document, and what of its files could not be read.

A corpus is large and was made by somebody else: one bad line ends nothing. Each is counted, and a comparison
that left something out says so.
"""

from __future__ import annotations

import codecs
import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

from evalkit.rows import Problems
from guardrails.errors import ConfigError

SUFFIXES = (".txt", ".md", ".jsonl", ".ndjson", ".parquet")
_PIECE = 2**20  # bytes
_ROW = 64 * _PIECE
_BOM = "\ufeff"


@dataclass(slots=True)
class Bad:
    """The lines of a file with one flaw: how many, and the first of them."""

    count: int = 0
    first: int = 0

    def at(self, line: int) -> None:
        """One more of them; a line that is read in pieces counts once for each."""
        self.count += 1
        self.first = self.first or line

    def said(self, what: str) -> str:
        """What is wrong with them; only the first has its number in the place."""
        return f"{what}; the file has {self.count:,} such lines" if self.count > 1 else what


@dataclass(slots=True)
class Health:
    """What could not be read of a file. `good` lines hold a text, whole or in part."""

    file: Path
    good: int = 0
    binary: Bad = field(default_factory=Bad)
    broken: Bad = field(default_factory=Bad)
    foreign: Bad = field(default_factory=Bad)

    @property
    def unread(self) -> bool:
        """Whether the file has lines, and not one of them could be read."""
        return not self.good and bool(self.binary.count or self.broken.count)

    def said(self) -> Iterator[tuple[str, str]]:
        """Each flaw: its place, and what was left out for it."""
        for bad, what in (
            (self.binary, "is no text in UTF-8 (but in UTF-16, or no text at all): the line was left out"),
            (self.broken, "is no JSON: compared as it stands, with its escapes"),
            (self.foreign, "holds bytes that are not UTF-8: words with them cannot be found"),
        ):
            if bad.count:
                yield f"{self.file}:{bad.first}", bad.said(what)


def files_of(corpus: Path) -> list[Path]:
    """The files of a corpus: itself, or those in a folder. Raises `ConfigError` when there are none."""
    if corpus.is_dir():
        found = sorted(file for file in corpus.rglob("*") if file.is_file() and _suffix(file) in SUFFIXES)
        if not found:
            raise ConfigError(
                f"{corpus} holds no corpus", hint=f"files end in {', '.join(SUFFIXES)} (or .gz)"
            )
        return found
    if not corpus.is_file():
        raise ConfigError(f"{corpus} does not exist, or is no regular file", hint="check the path")
    return [corpus]


def _suffix(file: Path) -> str:
    return Path(file.name.lower().removesuffix(".gz")).suffix


def texts_of(health: Health) -> Iterator[tuple[int, str, bool]]:
    """Line, text, and whether a document begins: each row of JSONL or Parquet is one, else the file is.

    What is wrong with the file goes to its `health`. Raises OSError, and `ConfigError` for a Parquet file
    that cannot be read.
    """
    file = health.file
    kind = _suffix(file)
    if kind == ".parquet":
        yield from _table(file)
        return
    rows = kind in (".jsonl", ".ndjson")
    begins = True
    for line, text in _lines(health, _ROW if rows else _PIECE):
        if not text.strip():
            continue
        yield line, _row(text, line, health) if rows else text, begins
        health.good += not rows
        begins = rows


def _table(file: Path) -> Iterator[tuple[int, str, bool]]:
    from evalkit.sets import parquet

    problems = Problems()
    for row in parquet.read(file, problems):
        if not isinstance(row, str):
            yield row.line, "\n".join(_strings(row.fields)), True
    if problems.count:
        problem = problems.kept[0]
        column = "" if problem.field == "file" else f"{problem.field} "
        raise ConfigError(f"{file}: {column}{problem.reason}")


def _lines(health: Health, most: int) -> Iterator[tuple[int, str]]:
    """The lines that are text, with their numbers; one that is longer than `most` bytes comes in pieces."""
    file = health.file
    decoder = codecs.getincrementaldecoder("utf-8")()
    with (
        cast("IO[bytes]", gzip.open(file)) if file.name.lower().endswith(".gz") else file.open("rb") as stream
    ):
        line = 1
        while raw := stream.readline(most):
            ends = raw.endswith(b"\n")
            bad = 0
            try:  # a piece may end within a character
                text = decoder.decode(raw, final=ends or len(raw) < most)
            except UnicodeDecodeError:
                decoder.reset()
                text = raw.decode("utf-8", "replace")
                bad = text.count("\ufffd")
            if "\0" in text or bad > len(text) // 3:
                health.binary.at(line)
            else:
                if bad:
                    health.foreign.at(line)
                yield line, text.removeprefix(_BOM) if line == 1 else text
            line += ends


def _row(text: str, line: int, health: Health) -> str:
    try:
        made = "\n".join(_strings(json.loads(text)))
    except (ValueError, RecursionError):
        health.broken.at(line)
        return text  # better compared as it stands than not at all
    health.good += 1
    return made


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from _strings(each)
    elif isinstance(value, list):
        for each in value:
            yield from _strings(each)
