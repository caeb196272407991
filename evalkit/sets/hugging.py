"""Rows of a Hugging Face data set: a folder that was saved, or a name on the hub.

Needs `datasets`: `pip install 'evalkit-guardrails[hf]'`. A name is looked up on the hub only because the
suite says it, and `HF_HUB_OFFLINE=1` forbids even that; a data set's own code is never run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from evalkit.rows import Problems, Row
from evalkit.sets.parquet import plain
from evalkit.sets.spec import GoldenSpec
from guardrails.errors import ConfigError

INSTALL = "pip install 'evalkit-guardrails[hf]'"


def read(spec: GoldenSpec, folder: Path, problems: Problems) -> Iterator[Row | str]:
    """The rows, numbered from 1, and last of all a sha256 of them. Raises `ConfigError`."""
    digest = hashlib.sha256()
    for number, fields in enumerate(_rows(spec, folder), start=1):
        row = plain(fields)
        digest.update(json.dumps(row, sort_keys=True, default=repr).encode())
        digest.update(b"\n")
        yield Row(number, row)
    yield digest.hexdigest()


def _rows(spec: GoldenSpec, folder: Path) -> Iterator[Any]:
    rows = iter(_table(spec, folder))
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
            raise ConfigError(f"{spec.hf} has no splits to choose from", hint="leave out `split`")
        return table
    splits = sorted(table)
    chosen = spec.split or (splits[0] if len(splits) == 1 else None)
    if chosen not in table:
        said = f"no split {chosen[:40]!r}" if chosen else f"{len(splits)} splits"
        raise ConfigError(f"{spec.hf} has {said}", hint=f"write `split`: one of {', '.join(splits)[:200]}")
    return table[chosen]
