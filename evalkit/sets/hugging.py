"""Rows of a Hugging Face data set: a folder that was saved, or a name on the hub.

Needs `datasets`: `pip install 'evalkit-guardrails[hf]'`. A name is looked up on the hub only because the
suite says it, and `HF_HUB_OFFLINE=1` forbids even that; a data set's own code is never run. A label that is
stored as a number is read as its name; lm-eval's doc maps are written for the numbers, and see those.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from evalkit.rows import Problems, Row, shown
from evalkit.sets.parquet import plain, twice
from evalkit.sets.spec import GoldenSpec
from guardrails.errors import ConfigError

INSTALL = "pip install 'evalkit-guardrails[hf]'"


def read(spec: GoldenSpec, folder: Path, problems: Problems) -> Iterator[Row | str]:
    """The rows, numbered from 1, and last of all a sha256 of them. Raises `ConfigError`."""
    digest = hashlib.sha256()
    table = _table(spec, folder)
    if names := twice(getattr(table, "column_names", None) or ()):
        raise ConfigError(f"{spec.hf} has two columns of the name {shown(names[0])!r}", hint="rename one")
    numbers = any(name.startswith("doc_to_") for name in spec.fields)
    features = None if numbers else getattr(table, "features", None)
    for number, fields in enumerate(_rows(spec, table), start=1):
        row = plain(fields if features is None else _labelled(features, fields))
        digest.update(json.dumps(row, sort_keys=True, default=repr).encode())
        digest.update(b"\n")
        yield Row(number, row)
    yield digest.hexdigest()


def _labelled(feature: Any, value: Any) -> Any:
    """The value with its labels' names for their numbers; a number without a name (-1) is no label."""
    if isinstance(value, dict):
        parts = feature if isinstance(feature, dict) else getattr(feature, "feature", None)
        parts = parts if isinstance(parts, dict) else {}
        if parts is not feature:  # older versions give a sequence of objects as an object of sequences
            parts = {name: [part] for name, part in parts.items()}
        return {name: _labelled(parts.get(name), each) for name, each in value.items()}
    if isinstance(value, list):
        inner = feature[0] if isinstance(feature, list) and feature else getattr(feature, "feature", None)
        return value if inner is None else [_labelled(inner, each) for each in value]
    names = feature.names if type(feature).__name__ == "ClassLabel" else None
    if not names or not isinstance(value, int):
        return value
    return names[value] if 0 <= value < len(names) else None


def _rows(spec: GoldenSpec, table: Any) -> Iterator[Any]:
    rows = iter(table)
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return
        except Exception as error:  # an image without a decoder, say
            raise ConfigError(
                f"a row of {spec.hf} cannot be read: {_said(error)}",
                hint="leave out columns that are no text (`remove_columns`) and save it again",
            ) from None
        yield row


def _said(error: Exception) -> str:
    """The error's kind; its words only where they cannot quote a row."""
    kind = type(error).__name__
    if isinstance(error, FileNotFoundError | ConnectionError):
        return f"{kind}: {next(iter(str(error).splitlines()), '')[:200]}"
    return kind


def library() -> Any:
    """The `datasets` package of Hugging Face. Raises `ConfigError` when another thing has its name.

    A folder `datasets/` in the working directory (ours, for one) is imported as an empty package when the
    library is missing; where it is installed, it comes first.
    """
    try:
        datasets: Any = import_module("datasets")
    except ImportError:
        raise ConfigError("Hugging Face's `datasets` is not installed", hint=INSTALL) from None
    if not hasattr(datasets, "load_from_disk"):
        found = getattr(datasets, "__file__", None) or next(iter(getattr(datasets, "__path__", [])), "?")
        raise ConfigError(
            f"`import datasets` finds {found}, which is not Hugging Face's library", hint=INSTALL
        )
    return datasets


def _table(spec: GoldenSpec, folder: Path) -> Any:
    assert spec.hf is not None, "only called for such sets"
    datasets = library()
    local = folder / spec.hf
    try:
        if (local / "dataset_info.json").is_file() or (local / "dataset_dict.json").is_file():
            table = datasets.load_from_disk(str(local))
        else:
            name = str(local) if local.is_dir() else spec.hf
            table = datasets.load_dataset(name, spec.subset, revision=spec.revision)
    except Exception as error:  # the library raises what it likes
        raise ConfigError(
            f"the data set {spec.hf} cannot be loaded: {_said(error)}",
            hint="is it a folder of `save_to_disk`, or a name on the hub that this machine may reach?",
        ) from None
    if not isinstance(table, dict):
        if spec.split is not None and str(table.split) != spec.split:
            only = f"the split {str(table.split)[:40]!r} alone" if table.split else "one table without splits"
            raise ConfigError(
                f"{spec.hf} has no split {spec.split[:40]!r}: it is {only}", hint="leave out `split`"
            )
        return table
    splits = sorted(table)
    chosen = spec.split or (splits[0] if len(splits) == 1 else None)
    if chosen not in table:
        said = f"no split {chosen[:40]!r}" if chosen else f"{len(splits)} splits"
        raise ConfigError(f"{spec.hf} has {said}", hint=f"write `split`: one of {', '.join(splits)[:200]}")
    return table[chosen]
