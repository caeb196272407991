"""Rows of a Parquet file, a batch at a time. Needs pyarrow: `pip install 'evalkit-guardrails[parquet]'`.

A small file can unpack to any amount: one with a row group that says of itself to unpack to more than
`MAX_GROUP` is refused before anything of it is unpacked.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from evalkit.rows import Problems, Row, shown
from guardrails.errors import ConfigError

BATCH = 256
MAX_GROUP = 2 * 2**30  # bytes, unpacked
_CHUNK = 2**20


def read(path: Path, problems: Problems, *, most: int = MAX_GROUP) -> Iterator[Row | str]:
    """The rows, numbered from 1, and last of all the sha256 of the file. Raises OSError."""
    try:
        arrow: Any = import_module("pyarrow")
        parquet: Any = import_module("pyarrow.parquet")
    except ImportError:
        raise ConfigError(
            f"{path} is a Parquet file, and pyarrow is not installed",
            hint="pip install 'evalkit-guardrails[parquet]'",
        ) from None
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            if (largest := _largest(file.metadata)) > most:
                said = f"has a row group that unpacks to {largest / 2**20:,.1f} MiB"
                problems.add(1, "file", f"{said}, more than {most / 2**20:,.0f}; write it with smaller ones")
            for name in (names := twice(file.schema_arrow.names)):
                problems.add(1, shown(name) or "a column without a name", "is the name of two columns")
            for batch in file.iter_batches(batch_size=BATCH) if largest <= most and not names else ():
                for fields in batch.to_pylist():
                    number += 1
                    yield Row(number, plain(fields))
    except (arrow.ArrowException, UnicodeDecodeError, ValueError, OverflowError) as error:
        problems.add(number + 1, "file", f"cannot be read as Parquet ({type(error).__name__})")
    yield digest.hexdigest()


def twice(names: Iterable[str]) -> list[str]:
    """The names that are there more than once: a row could hold only one of their values."""
    return sorted(name for name, count in Counter(names).items() if count > 1)


def _largest(metadata: Any) -> int:
    """Bytes that a row group unpacks to, by the file's own account: of its columns, or as a whole."""
    largest = 0
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        columns = sum(group.column(n).total_uncompressed_size for n in range(group.num_columns))
        largest = max(largest, columns, group.total_byte_size)
    return largest


def plain(value: Any) -> Any:
    """A table's value as JSON has it: moments and decimals as text; bytes stay, and are refused later."""
    if isinstance(value, dict):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if value is None or isinstance(value, str | bool | int | float | bytes):
        return value
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
