"""A golden set's file as rows of fields: JSONL, JSON or CSV, each also gzipped, read line by line.

Nothing here knows what a sample is. Whatever cannot be read becomes a `Problem` with its line, and reading
goes on where it can, so that one look at the output shows all that is to mend. No problem quotes the file's
text: it may hold personal data.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import re
import zlib
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

from evalkit.meant import did_you_mean

MAX_LINE = 64 * 2**20  # bytes
MAX_FILE = 2 * 2**30  # bytes, unpacked: a small .gz can hold any amount
MAX_JSON = 256 * 2**20  # characters
MAX_KEPT = 50

_BOM = b"\xef\xbb\xbf"
_OTHER_BOMS = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong, and where. `line` counts from 1; 0 is the file as a whole."""

    line: int
    field: str
    reason: str
    file: str = ""  # its name, where a set has several


@dataclass(frozen=True, slots=True)
class Row:
    """One sample's fields, the line that they start on, and in JSONL the bytes where they stand."""

    line: int
    fields: Any
    start: int = -1
    end: int = -1


@dataclass(slots=True)
class Problems:
    """The first problems and the number of all of them."""

    kept: list[Problem] = field(default_factory=list)
    count: int = 0
    file: str = ""  # the name that the next problems get

    def add(self, line: int, place: str, reason: str, *, file: str | None = None) -> None:
        """Count a problem, and keep it when it is among the first."""
        self.count += 1
        if len(self.kept) < MAX_KEPT:
            self.kept.append(Problem(line, place, reason, self.file if file is None else file))


class Stop(Exception):
    """Nothing after this can be read; the problem has been added."""


def shown(name: str) -> str:
    """A field's name as it may go to a terminal."""
    return "".join(character if character.isprintable() else "?" for character in name[:40])


class Source:
    """The lines of an open file: decoded, counted, hashed (unpacked, as stored), bounded."""

    def __init__(self, stream: IO[bytes], problems: Problems) -> None:
        self._stream = stream
        self._problems = problems
        self._digest = hashlib.sha256()
        self.line = 0
        self.start = self.end = 0  # of the line, in bytes

    @property
    def sha256(self) -> str:
        """Of the bytes read so far."""
        return self._digest.hexdigest()

    def lines(self) -> Iterator[tuple[str, bool]]:
        """Each line with its ending, and whether it is good. Bad bytes have been replaced and reported."""
        for raw in self._raw():
            offset = self.end
            start = len(_BOM) if self.line == 1 and raw.startswith(_BOM) else 0
            self.start, self.end = offset + start, offset + len(raw)
            good = True
            try:
                text = raw[start:].decode()
            except UnicodeDecodeError as error:
                at = start + error.start
                where = f"byte {at + 1} of the line, offset {offset + at} in the file"
                self._problems.add(self.line, "text", f"is not UTF-8 ({where}); save the file as UTF-8")
                text, good = raw[start:].decode(errors="replace"), False
            if "\0" in text:
                self._problems.add(
                    self.line, "text", f"holds a NUL byte (character {text.index(chr(0)) + 1})"
                )
                text, good = text.replace("\0", ""), False
            yield text, good

    def _raw(self) -> Iterator[bytes]:
        total = 0
        while raw := self._stream.readline(MAX_LINE + 1):
            self.line += 1
            total += len(raw)
            self._digest.update(raw)
            if self.line == 1 and raw.startswith(_OTHER_BOMS):
                self._stop("text", "is UTF-16; save the file as UTF-8")
            if len(raw) > MAX_LINE:
                self._stop("text", f"is longer than {MAX_LINE // 2**20} MiB; the rest was not read")
            if total > MAX_FILE:
                self._stop("text", f"is where the file passes {MAX_FILE // 2**30} GiB; the rest was not read")
            yield raw

    def _stop(self, place: str, reason: str) -> None:
        self._problems.add(self.line, place, reason)
        raise Stop


# --- JSON --------------------------------------------------------------------------------------------------


class _NotJsonError(ValueError):
    pass


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise _NotJsonError(f'gives the key "{shown(twice)}" twice')
    return made


def _constant(name: str) -> Any:
    raise _NotJsonError(f"holds {name}, which is not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant)
_SPACE = re.compile(r"[ \t\n\r]*")


def _value(text: str, at: int) -> tuple[Any, int]:
    """The JSON value at a place, and the place after it; every failure as a `JSONDecodeError`."""
    try:
        return _DECODER.raw_decode(text, at)
    except json.JSONDecodeError:
        raise
    except _NotJsonError as error:
        reason = str(error)
    except ValueError:
        reason = "holds a number with too many digits"
    except RecursionError:
        reason = "is nested too deeply"
    raise json.JSONDecodeError(reason, text, at)


def _only_value(text: str) -> Any:
    value, end = _value(text, _skip(text, 0))
    if end < len(text):
        raise json.JSONDecodeError("more than one value on the line", text, end)
    return value


def _said(error: json.JSONDecodeError) -> str:
    return f"is not usable JSON: {error.msg} (column {error.colno})"


def jsonl_rows(source: Source, problems: Problems) -> Iterator[Row]:
    """One JSON value a line; blank lines are skipped."""
    for text, good in source.lines():
        if not good or not text.strip():
            continue
        try:
            value = _only_value(text.rstrip())
        except json.JSONDecodeError as error:
            hint = "; a file that is one JSON array is named .json" if text.lstrip().startswith("[") else ""
            problems.add(source.line, "line", _said(error) + hint)
            continue
        yield Row(source.line, value, source.start, source.end)


def json_rows(source: Source, problems: Problems) -> Iterator[Row]:
    """An array of objects, or an object whose `samples` is one."""
    before, size = problems.count, 0
    lines = []
    for each, _ in source.lines():
        lines.append(each)
        size += len(each)
        if size > MAX_JSON:
            said = f"is where the file passes {MAX_JSON // 2**20} MiB, and JSON is parsed in memory"
            problems.add(source.line, "file", f"{said}; write one sample a line (.jsonl)")
            return
    if problems.count > before:
        return
    text = "".join(lines)
    line, before = 1, 0
    try:
        for start, value in _items(text):
            line += text.count("\n", before, start)
            before = start
            yield Row(line, value)
    except json.JSONDecodeError as error:
        problems.add(error.lineno, "file", f"{_said(error)}; nothing after it was read")


def _items(text: str) -> Iterator[tuple[int, Any]]:
    at = _skip(text, 0)
    if text[at : at + 1] == "[":
        end = yield from _array(text, at)
    elif text[at : at + 1] == "{":
        end = yield from _samples(text, at)
    else:
        raise json.JSONDecodeError('expecting an array, or {"samples": [...]}', text, at)
    if _skip(text, end) < len(text):
        hint = "more than one value; a file with one sample a line is named .jsonl"
        raise json.JSONDecodeError(hint, text, _skip(text, end))


def _array(text: str, at: int) -> Generator[tuple[int, Any], None, int]:
    at = _skip(text, at + 1)
    if text[at : at + 1] == "]":
        return at + 1
    while True:
        value, end = _value(text, at)
        yield at, value
        at = _skip(text, end)
        if text[at : at + 1] == "]":
            return at + 1
        at = _skip(text, _expect(text, at, ","))


def _samples(text: str, at: int) -> Generator[tuple[int, Any], None, int]:
    found = False
    at = _skip(text, at + 1)
    while text[at : at + 1] != "}":
        key, end = _value(text, at)
        at = _skip(text, _expect(text, _skip(text, end), ":"))
        if key == "samples" and text[at : at + 1] == "[" and not found:
            found = True
            end = yield from _array(text, at)
        else:
            _, end = _value(text, at)
        at = _skip(text, end)
        if text[at : at + 1] != "}":
            at = _skip(text, _expect(text, at, ","))
    if not found:
        hint = "the object has no list called samples (a file with one sample a line is named .jsonl)"
        raise json.JSONDecodeError(hint, text, at)
    return at + 1


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _expect(text: str, at: int, character: str) -> int:
    if text[at : at + 1] != character:
        raise json.JSONDecodeError(f"expecting {character!r}", text, at)
    return at + 1


# --- CSV ---------------------------------------------------------------------------------------------------

_SINGLE = ("id", "input", "reference", "weight")
_SPLIT = ("references", "tags")
_BAR = re.compile(r"(?<!\\)\|")
_COLUMNS = "id, input, reference, references, context, context.2, tags, weight, metadata.NAME"


def csv_rows(source: Source, problems: Problems, *, own: bool = True) -> Iterator[Row]:
    """Comma-separated, a header first. `references` and `tags` are split at `|` (written `\\|` to keep one),
    or hold a JSON list of texts.

    `reference` and each `context` column hold one whole text; `metadata.x` goes to metadata as text. An empty
    cell is an absent field. Columns that are not our `own` may have any names, and are passed on as text.
    """
    with _wide_fields():
        rows = csv.reader((text for text, _ in source.lines()), strict=True)
        header: list[str] | None = None
        while True:
            line = rows.line_num + 1
            try:
                cells = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                problems.add(line, "row", f"is not CSV: {error}; nothing after it was read")
                return
            if not any(cells):
                continue
            if header is None:
                header = [name.strip() for name in cells]
                if not _header_works(header, line, problems, own):
                    return
            elif len(cells) != len(header):
                problems.add(line, "row", f"has {len(cells)} cells, the header has {len(header)}")
            else:
                yield Row(line, _fields(header, cells) if own else _cells(header, cells))


@contextmanager
def _wide_fields() -> Iterator[None]:
    """The csv module's limit on a cell (128 KiB) is one for the whole process; set it only while reading."""
    before = csv.field_size_limit(MAX_LINE)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _header_works(header: list[str], line: int, problems: Problems, own: bool) -> bool:
    """Report what is wrong with the header; whether the rows can be read all the same."""
    if len(header) == 1 and any(mark in header[0] for mark in ";\t"):
        problems.add(line, "header", "is not separated by commas; save the file with commas")
        return False
    if own and any(name.startswith("__expected") for name in header):
        problems.add(line, "__expected", "is promptfoo's: read this file with `format: promptfoo`")
        return False
    for name in dict.fromkeys(header):
        kind, _, rest = name.partition(".")
        if not own or name in (*_SINGLE, *_SPLIT) or kind == "context" or (kind == "metadata" and rest):
            continue
        meant = did_you_mean(name, (*_SINGLE, *_SPLIT, "context"), least=0.75)
        problems.add(line, shown(name), f"is not a column of a golden set; the columns are {_COLUMNS}{meant}")
    for name in sorted(name for name, count in Counter(header).items() if count > 1):
        problems.add(line, shown(name), "is the name of two columns")
    missing = [name for name in ("id", "input") if own and name not in header]
    for name in missing:
        problems.add(line, name, f"is missing from the header; `fields: {{{name}: COLUMN}}` says which it is")
    return not missing


def _fields(header: list[str], cells: list[str]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name, cell in zip(header, cells, strict=True):
        kind, _, rest = name.partition(".")
        if cell == "":
            continue
        if name in _SPLIT:
            pieces = _listed(cell)
            made[name] = [piece.strip() for piece in pieces] if name == "tags" else pieces
        elif name == "weight":
            made[name] = _number(cell)
        elif kind == "context":
            made.setdefault("context", []).append(cell)
        elif kind == "metadata" and rest:
            made.setdefault("metadata", {})[rest] = cell
        elif name in _SINGLE:
            made[name] = cell
    return made


def _listed(cell: str) -> list[str]:
    """The texts in a cell: those of a JSON list of texts, else what stands between the bars."""
    if cell.lstrip().startswith("["):
        try:
            found = _only_value(cell.rstrip())
        except json.JSONDecodeError:
            found = None
        if found and all(isinstance(each, str) for each in found):
            return cast("list[str]", found)
    return [piece.replace("\\|", "|") for piece in _BAR.split(cell)]


def _cells(header: list[str], cells: list[str]) -> dict[str, Any]:
    return {name: cell for name, cell in zip(header, cells, strict=True) if cell != ""}


def _number(cell: str) -> float | str:
    try:
        return float(cell)
    except ValueError:
        return cell


# --- opening -----------------------------------------------------------------------------------------------


def read(path: Path, problems: Problems, kind: str, *, own: bool = True) -> Iterator[Row | str]:
    """The rows of a file, and last of all the sha256 of its unpacked bytes. Raises OSError.

    `kind` is jsonl, json or csv; a name that ends in `.gz` is unpacked. `own` as in `csv_rows`.
    """
    packed = path.name.lower().endswith(".gz")
    with cast("IO[bytes]", gzip.open(path)) if packed else path.open("rb") as stream:
        source = Source(stream, problems)
        try:
            if kind == "csv":
                yield from csv_rows(source, problems, own=own)
            elif kind == "json":
                yield from json_rows(source, problems)
            else:
                yield from jsonl_rows(source, problems)
        except Stop:
            pass
        except (gzip.BadGzipFile, EOFError, zlib.error):
            problems.add(source.line + 1, "text", "cannot be unpacked: the .gz file is damaged or cut off")
        yield source.sha256


def value_of(raw: bytes) -> Any:
    """The JSON value of a line that was read before."""
    return _DECODER.decode(raw.decode().rstrip())
