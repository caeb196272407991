"""What somebody meant who wrote a name that there is not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from itertools import islice
from typing import Any, get_args

from pydantic import BaseModel

Model = type[BaseModel]

MOST = 1_000
"""Names that are compared: each takes a while."""


def near(name: str, names: Iterable[str], *, least: float = 0.6) -> str | None:
    """The most similar of the names, whatever their case; None when none is. `least`: 1 is the same."""
    folded = {each[:100].casefold(): each for each in islice(names, MOST)}
    found = get_close_matches(name[:100].casefold(), folded, n=1, cutoff=least)
    return folded[found[0]] if found else None


def hint(loc: Sequence[str | int], models: Sequence[Model]) -> str:
    """` – did you mean …?`: a field that stands there, else one of a part of it (`sampling.seed`), if any.

    `loc` is where the unknown field stands in data that is all of these models at once.
    """
    at = list(models)
    for step in loc[:-1]:
        if isinstance(step, str):
            at = [inner for part, inner in _parts(at) if part == step]
    name = str(loc[-1])
    inside = [f"{part}.{field}" for part, inner in _parts(at) for field in _names([inner])]
    return closest(name, _names(at)) or closest(name, inside)


def closest(name: str, names: Sequence[str]) -> str:
    """` – did you mean …?`, where a name is nearly one of these; of dotted ones the end counts."""
    by_end = {each.rpartition(".")[2]: each for each in reversed(names)}
    found = near(name, by_end)
    return "" if found is None else f" – did you mean `{by_end[found]}`?"


def _names(models: Sequence[Model]) -> list[str]:
    return [field.alias or name for model in models for name, field in model.model_fields.items()]


def _parts(models: Sequence[Model]) -> Iterator[tuple[str, Model]]:
    """The fields of models that are, or are lists of, a model."""
    for model in models:
        for name, field in model.model_fields.items():
            for inner in _models(field.annotation):
                yield field.alias or name, inner


def _models(annotation: Any) -> Iterator[Model]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for each in get_args(annotation):
        yield from _models(each)
