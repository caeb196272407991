"""What somebody meant who wrote a field that there is not, or gave a file that is no suite."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from guardrails.source import Loc, Source, mistakes

_UNKNOWN = re.compile(r"(?:^|: )([^\s:.]+): is not a known field$")
_TABLES = (".jsonl", ".ndjson", ".csv", ".parquet", ".gz")


def hinted(error: ValidationError, source: Source, model: type[BaseModel]) -> list[str]:
    """A line for each mistake in data for `model`; for an unknown field the one that may have been meant."""
    said = []
    items = error.errors(include_input=False, include_url=False)
    for line, item in zip(mistakes(error, source), items, strict=True):
        unknown = item["type"] == "extra_forbidden"
        said.append(line + (_hint(item["loc"], model) if unknown else ""))
    return said


def of_endpoint(mistake: str) -> str:
    """A mistake in an endpoint's own fields, with the one that may have been meant."""
    from guardrails.config import HttpOptions, Policy

    found = _UNKNOWN.search(mistake)
    known = sorted({*Policy.model_fields, *HttpOptions.model_fields})
    return mistake + _closest(found[1], known) if found else mistake


def _hint(loc: Loc, model: type[BaseModel]) -> str:
    """What may have been meant: a field that stands there, else one of a part of it (`sampling.seed`)."""
    at = model
    for step in loc[:-1]:
        if isinstance(step, str):
            inner = dict(_parts(at)).get(step)
            if inner is None:
                return ""
            at = inner
    name = str(loc[-1])
    inside = [f"{part}.{field}" for part, inner in _parts(at) for field in _names(inner)]
    return _closest(name, _names(at)) or _closest(name, inside)


def _closest(name: str, names: Sequence[str]) -> str:
    by_end = {each.rpartition(".")[2]: each for each in reversed(names)}
    found = get_close_matches(name, by_end, n=1, cutoff=0.6)
    return f" – did you mean `{by_end[found[0]]}`?" if found else ""


def _names(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def _parts(model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    """The fields of a model that are, or are lists of, a model."""
    for name, field in model.model_fields.items():
        for inner in _models(field.annotation):
            yield field.alias or name, inner


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for each in get_args(annotation):
        yield from _models(each)


def looks_like_a_set(path: Path, data: Any) -> bool:
    """Whether a file holds samples: by what it holds, or by its name where that is not known (None)."""
    if isinstance(data, Mapping):
        return "golden" not in data and ("input" in data or isinstance(data.get("samples"), list))
    if isinstance(data, list):
        return bool(data) and all(isinstance(each, Mapping) and "input" in each for each in data)
    return path.suffix.lower() in _TABLES
