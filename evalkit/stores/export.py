"""Rows for other tools: JSONL holds all of a row, CSV and Parquet a table of it that is flat.

All three are written as the rows are read, in flat memory.

CSV opens in spreadsheets, and a model's answer may be written to act there: text that begins with `=`, `+`,
`-`, `@` or the like gets an apostrophe before it. Numbers stay numbers. In CSV and Parquet, half a surrogate
pair (which no file can hold) is a question mark; JSONL has an escape for it. A whole number of more than 64
bits is null in Parquet.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import IO, TYPE_CHECKING, Any, Literal

from evalkit.trial import Trial
from guardrails.errors import ConfigError

if TYPE_CHECKING:
    import pyarrow as pa  # type: ignore[import-untyped] # it carries no type information

Format = Literal["jsonl", "csv", "parquet"]
Kind = Literal["text", "int", "float", "bool"]
Rows = Callable[[], Iterable[Trial]]

MOST = 2**63 - 1
"""The largest whole number of a column."""

GROUP = 500
"""Rows that are turned into a Parquet row group at a time."""

_ACTING = (
    "=",
    "+",
    "-",
    "@",
    "\t",
    "\r",
    "\n",
    "＝",
    "＋",
    "－",
    "＠",
)  # what spreadsheets take for a formula


@dataclass(frozen=True, slots=True)
class Field:
    """A column of the flat forms."""

    name: str
    kind: Kind
    of: Callable[[Trial], Any]


def write(rows: Rows, format_: Format, target: IO[bytes]) -> int:
    """Write what `rows()` gives; how many there were. The flat forms call it twice: columns, then rows.

    Raises `ConfigError` when Parquet's library is missing.
    """
    if format_ == "jsonl":
        return _jsonl(rows(), target)
    judges: set[str] = set()
    paid: set[str] = set()
    for row in rows():
        for name, score in row.scores.items():
            judges.add(name)
            if score.cost_usd is not None or score.tokens is not None:
                paid.add(name)
    fields = flat(sorted(judges), paid)
    return (_csv if format_ == "csv" else _parquet)(rows(), fields, target)


# --- columns -----------------------------------------------------------------------------------------------

_MEASURED: tuple[tuple[Kind, tuple[str, ...]], ...] = (
    ("text", ("model", "model_reported", "outcome")),
    ("float", ("queue_ms", "connect_ms", "headers_ms", "ttft_ms", "ttfot_ms", "released_ms", "decode_ms")),
    ("float", ("tpot_ms", "e2e_ms")),
    ("int", ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens")),
    ("text", ("token_source",)),
    ("float", ("cost_usd", "wasted_usd")),
    ("text", ("price_version",)),
    ("bool", ("cached", "cold")),
)


def flat(judges: Sequence[str], paid: Collection[str] = ()) -> list[Field]:
    """The columns of CSV and Parquet: what was asked, the answer, each judge's score, what was measured.

    Of the judges that were `paid`, what judging cost and its tokens too.
    """
    fields = [
        *(_plain(name, "text") for name in ("run", "key", "set", "sample", "endpoint", "prompt")),
        *(_plain(name, "int") for name in ("k", "place")),
        *(_plain(name, "text") for name in ("ask", "content", "started_at")),
        Field("tags", "text", lambda row: _json(row.tags)),
        _plain("weight", "float"),
        _plain("passed", "bool"),
        _plain("done", "bool"),
        *(_answered(name) for name in ("text", "finish_reason", "refusal")),
        Field(
            "answer.tool_calls", "text", lambda row: row.answer and _json(row.answer.as_dict()["tool_calls"])
        ),
        *(_failed(name) for name in ("kind", "message", "hint")),
    ]
    for judge in judges:
        fields += [_scored(judge, "value", "float"), _scored(judge, "passed", "bool")]
        fields += [_scored(judge, name, "text") for name in ("reason", "error")]
        if judge in paid:
            fields += [_scored(judge, "cost_usd", "float"), _scored(judge, "tokens", "int")]
    return [*fields, *(_measured(name, kind) for kind, names in _MEASURED for name in names)]


def _plain(name: str, kind: Kind) -> Field:
    return Field(name, kind, lambda row: getattr(row, name))


def _answered(name: str) -> Field:
    return Field(f"answer.{name}", "text", lambda row: row.answer and getattr(row.answer, name))


def _failed(name: str) -> Field:
    return Field(f"error.{name}", "text", lambda row: row.error and getattr(row.error, name))


def _scored(judge: str, name: str, kind: Kind) -> Field:
    return Field(f"scores.{judge}.{name}", kind, lambda row: getattr(row.scores.get(judge), name, None))


def _measured(name: str, kind: Kind) -> Field:
    read: dict[Kind, Callable[[Any], Any]] = {"text": str, "int": int, "float": float, "bool": bool}

    def of(row: Trial) -> Any:
        value = None if row.record is None else row.record.get(name)
        return None if value is None else read[kind](value)

    return Field(name, kind, of)


# --- forms -------------------------------------------------------------------------------------------------


def _json(value: Any) -> str:
    from evalkit.stores.codec import dumped

    return dumped(value).strip()


def _whole(value: Any) -> Any:
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def _held(value: Any) -> Any:
    """What a column holds: a number that is too large for it, as a server may count tokens, is not known."""
    return None if isinstance(value, int) and not -MOST - 1 <= value <= MOST else _whole(value)


def _jsonl(rows: Iterable[Trial], target: IO[bytes]) -> int:
    count = 0
    for row in rows:
        target.write(_json(row.as_dict()).encode() + b"\n")
        count += 1
    return count


def _csv(rows: Iterable[Trial], fields: Sequence[Field], target: IO[bytes]) -> int:
    text = io.TextIOWrapper(target, encoding="utf-8", errors="replace", newline="", write_through=True)
    try:
        writer = csv.writer(text)
        writer.writerow([guarded(field.name) for field in fields])
        count = 0
        for row in rows:
            writer.writerow([guarded(field.of(row)) for field in fields])
            count += 1
    finally:
        text.detach()
    return count


def guarded(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"'{value}" if isinstance(value, str) and value.startswith(_ACTING) else value


def _parquet(rows: Iterable[Trial], fields: Sequence[Field], target: IO[bytes]) -> int:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise ConfigError(
            "Parquet needs its library, which is not installed",
            hint="pip install 'evalkit-guardrails[parquet]', or use --format jsonl",
        ) from None
    types = {"text": pa.string(), "int": pa.int64(), "float": pa.float64(), "bool": pa.bool_()}
    schema = pa.schema([(_whole(field.name), types[field.kind]) for field in fields])
    count = 0
    with parquet.ParquetWriter(target, schema, compression="zstd") as writer:
        pending = iter(rows)
        while group := list(islice(pending, GROUP)):
            writer.write_table(_table(group, fields, schema))
            count += len(group)
    return count


def _table(rows: Sequence[Trial], fields: Sequence[Field], schema: pa.Schema) -> pa.Table:
    import pyarrow as pa

    arrays = [
        pa.array([_held(field.of(row)) for row in rows], type=column.type)
        for field, column in zip(fields, schema, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=schema)
