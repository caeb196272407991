"""What somebody meant who gave a file that is no suite, or a name that there is not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from guardrails.meant import near

LISTED = 20
"""Names in a hint."""


def did_you_mean(name: str, names: Iterable[str], *, least: float = 0.6) -> str:
    """` – did you mean `…`?`, to stand behind a sentence; empty when nothing is near."""
    found = near(name, names, least=least)
    return "" if found is None else f" – did you mean `{found}`?"


def there_are(names: Iterable[str], meant: str) -> str:
    """For hints: the names that there are, some of them, and the one that was meant."""
    known = sorted(names)
    more = ", …" if len(known) > LISTED else ""
    return f"there are {', '.join(known[:LISTED])}{more}{did_you_mean(meant, known)}"


_TABLES = (".jsonl", ".ndjson", ".csv", ".parquet", ".gz")


def looks_like_a_set(path: Path, data: Any) -> bool:
    """Whether a file holds samples: by what it holds, or by its name where that is not known (None)."""
    if isinstance(data, Mapping):
        return "golden" not in data and ("input" in data or isinstance(data.get("samples"), list))
    if isinstance(data, list):
        return bool(data) and all(isinstance(each, Mapping) and "input" in each for each in data)
    return path.suffix.lower() in _TABLES
