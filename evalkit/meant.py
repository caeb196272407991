"""What somebody meant who gave a file that is no suite."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

_TABLES = (".jsonl", ".ndjson", ".csv", ".parquet", ".gz")


def looks_like_a_set(path: Path, data: Any) -> bool:
    """Whether a file holds samples: by what it holds, or by its name where that is not known (None)."""
    if isinstance(data, Mapping):
        return "golden" not in data and ("input" in data or isinstance(data.get("samples"), list))
    if isinstance(data, list):
        return bool(data) and all(isinstance(each, Mapping) and "input" in each for each in data)
    return path.suffix.lower() in _TABLES
