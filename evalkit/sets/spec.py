"""What a suite's `golden` may be: a name, a path, or a mapping that says how to read a set and what of it.

golden: support-desk                        # a built-in set, a file, or a pattern such as `sets/*.jsonl`
golden:
  path: exams/*.csv                         # or `hf: owner/name` (or a folder), or `builtin: short-facts`
  name: exams                               # what tables call it; left out: the file's name
  format: csv                               # left out: what the suffix says
  fields:                                   # sample field: column, dotted path, or template over the columns
    input: "{{ question.strip() }}"
    reference: answers.text.0
    metadata.level: difficulty
  tags: [exam]                              # added to each sample
  where: {any: [hard, medium], not: [draft]}
  sample: {n: 200, seed: 1, by: tag}        # a stratified draw; the same seed gives the same samples
  limit: 50                                 # the first so many of those
  version: "2026-11"
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from evalkit.meant import did_you_mean
from evalkit.rows import shown
from guardrails.errors import ConfigError
from guardrails.source import Source, explain

_NOT_USE = frozenset({"path", "hf", "builtin", "name", "version"})

Format = Literal["jsonl", "json", "csv", "parquet", "openai-evals", "promptfoo"]


_TEXTS = {"type": "array", "items": {"type": "string"}}


def _or(short: list[dict[str, Any]], core: Any, handler: Any) -> dict[str, Any]:
    """The schema that editors see: a short form, or the object."""
    return {"anyOf": [*short, handler.resolve_ref_schema(handler(core))]}


class Where(BaseModel):
    """Which samples to take by their tags: with one of `any`, with each of `all`, with none of `not`."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    any: tuple[str, ...] = ()
    all: tuple[str, ...] = ()
    not_: tuple[str, ...] = Field(default=(), alias="not")

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"any": value} if isinstance(value, str | list | tuple) else value

    @field_validator("any", "all", "not_", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @classmethod
    def __get_pydantic_json_schema__(cls, core: Any, handler: Any) -> dict[str, Any]:
        return _or([{"type": "string"}, _TEXTS], core, handler)

    def takes(self, tags: tuple[str, ...]) -> bool:
        """Whether a sample with these tags is taken."""
        return (
            (not self.any or any(tag in tags for tag in self.any))
            and all(tag in tags for tag in self.all)
            and not any(tag in tags for tag in self.not_)
        )


class Draw(BaseModel):
    """`n` samples, in the proportions of `by`: all of a sample's tags together, or a field of its metadata.

    Left out, everything is one stratum. The draw depends on the seed and the samples' ids alone.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    n: int = Field(ge=1)
    seed: int = 0
    by: str | None = None

    @field_validator("by")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        if value not in (None, "tag") and not (value or "").removeprefix("metadata."):
            raise ValueError("is `tag`, or a field such as `metadata.level`")
        if value not in (None, "tag") and not (value or "").startswith("metadata."):
            raise ValueError(f"is `tag`, or a field such as `metadata.{shown(value or '')}`")
        return value


class GoldenSpec(BaseModel):
    """One golden set of a suite; `path`, `hf` or `builtin` says where it is."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    path: str | None = Field(default=None, min_length=1)
    hf: str | None = Field(default=None, min_length=1)
    builtin: str | None = Field(default=None, min_length=1)
    name: str | None = Field(default=None, min_length=1, max_length=100)
    format: Format | None = None
    subset: str | None = None
    split: str | None = None
    revision: str | None = None
    fields: dict[str, Any] = Field(default_factory=dict)
    tags: tuple[str, ...] = ()
    where: Where = Where()
    sample: Draw | None = None
    limit: int | None = Field(default=None, ge=1)
    version: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"path": str(value)} if isinstance(value, str | Path) else value

    @field_validator("tags", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("format", mode="before")
    @classmethod
    def _known(cls, value: Any) -> Any:
        if isinstance(value, str) and value not in (known := get_args(Format)):
            raise ValueError(f"is one of {', '.join(known)}{did_you_mean(value, known)}")
        return value

    @field_validator("fields")
    @classmethod
    def _usable(cls, value: dict[str, Any]) -> dict[str, Any]:
        from evalkit.sets.mapping import Mapping

        try:
            Mapping.of(value)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return value

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        given = [name for name in ("path", "hf", "builtin") if getattr(self, name) is not None]
        if len(given) != 1:
            said = f"{' and '.join(given)} are given" if given else "none is given"
            raise ValueError(f"a golden set has one of path, hf and builtin: {said}")
        if self.hf is None and (odd := [n for n in ("subset", "split", "revision") if getattr(self, n)]):
            raise ValueError(f"{odd[0]} goes with hf only")
        if self.path is None and self.format is not None:
            raise ValueError("format goes with path only")
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, core: Any, handler: Any) -> dict[str, Any]:
        return _or([{"type": "string", "minLength": 1}], core, handler)

    @classmethod
    def of(cls, value: Any) -> GoldenSpec:
        """From a string, a path, a mapping or a spec. Raises `ConfigError` with every mistake."""
        if isinstance(value, GoldenSpec):
            return value
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            raise explain(error, Source("golden", value), GoldenSpec) from None

    @property
    def use(self) -> dict[str, Any]:
        """What is made of the rows, in plain values: part of the set's digest and of its lineage."""
        plain = self.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        return {name: value for name, value in plain.items() if name not in _NOT_USE}
