"""Prompts: what stands around a sample's question, in variants that a run compares.

prompts:
  - name: plain                      # the question as it is
  - name: careful
    system: "You work for {{ metadata.company }}. Say so when you do not know."
    user: "{% for passage in context %}[{{ loop.index }}] {{ passage }}\\n{% endfor %}{{ input }}"
    few_shot:
      - {user: "Where is my parcel?", assistant: "May I have its number?"}
  - file: prompts/long.yaml          # the same fields, in a file of their own

Templates see `input`, `context`, `tags`, `metadata` and `id`; a name that a sample lacks is an error before
the first call. References are not in reach: a prompt cannot leak an answer by a slip.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from evalkit.sample import Sample, with_context
from evalkit.sets.template import Template, TemplateError
from guardrails.call import Message, Request, Sampling
from guardrails.errors import ConfigError
from guardrails.source import explain, load_yaml


def valid_template(text: str | None) -> str | None:
    """For fields of models: the text, which must be a template."""
    if text is not None:
        try:
            Template(text)
        except TemplateError as error:
            raise ValueError(str(error)) from None
    return text


class Shot(BaseModel):
    """One example turn that the model is shown. Plain text: no template."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    user: str = Field(min_length=1)
    assistant: str = Field(min_length=1)


class PromptSpec(BaseModel):
    """A variant as the suite writes it."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    name: str = Field(default="", max_length=100, pattern=r"^[^/\x00-\x1f]*$")
    file: Path | None = None
    system: str | None = None
    user: str | None = None
    few_shot: tuple[Shot, ...] = ()

    @field_validator("system", "user")
    @classmethod
    def _templates(cls, text: str | None) -> str | None:
        return valid_template(text)

    @model_validator(mode="after")
    def _file_or_fields(self) -> Self:
        if self.file is not None and (self.system or self.user or self.few_shot):
            raise ValueError("a prompt is in a file or written here, not both")
        return self

    def resolved(self, folder: Path) -> PromptSpec:
        """The prompt with its file read, which is looked for in `folder`. Raises `ConfigError`."""
        if self.file is None:
            return self
        from pydantic import ValidationError

        source = load_yaml(folder / self.file)
        try:
            made = PromptSpec.model_validate(source.data)
        except ValidationError as error:
            raise explain(error, source, PromptSpec) from None
        if made.file is not None:
            raise ConfigError(f"{source.name}: a prompt's file cannot name another file")
        return made.model_copy(update={"name": self.name or made.name or self.file.stem})


@dataclass(frozen=True, slots=True)
class Prompt:
    """A variant, ready to make requests. `sha256` is that of all its texts, in hex; `tagged` says whether
    they may show a sample's tags."""

    name: str
    sha256: str
    system: Template | None = None
    user: Template | None = None
    shots: tuple[Message, ...] = ()
    tagged: bool = False

    @classmethod
    def of(cls, spec: PromptSpec) -> Prompt:
        """Compile it. Raises `ConfigError`."""
        texts = json.dumps(spec.model_dump(include={"system", "user", "few_shot"}), sort_keys=True)
        name = spec.name or "prompt"
        return cls(
            name,
            hashlib.sha256(texts.encode("utf-8", "surrogatepass")).hexdigest(),
            None if spec.system is None else Template(spec.system),
            None if spec.user is None else Template(spec.user),
            tuple(
                message
                for shot in spec.few_shot
                for message in (Message.of("user", shot.user), Message.of("assistant", shot.assistant))
            ),
            any("tags" in text for text in (spec.system, spec.user) if text is not None),
        )

    def request(self, sample: Sample, sampling: Sampling) -> Request:
        """What is asked of the model for a sample. Raises `ConfigError` naming the sample."""
        system = None if self.system is None else self._filled(self.system, sample, None)
        made = sample.request(system=system, prompt=self._worded(sample))
        if self.shots:
            head = 0 if system is None else 1
            turns = (*made.messages[:head], *self.shots, *made.messages[head:])
            made = replace(made, messages=turns)
        return replace(made, sampling=sampling)

    def check(self, sample: Sample) -> Iterator[ConfigError]:
        """Fill the templates in: the errors that come of it, which name the sample."""
        for template in (self.system, self.user):
            if template is not None:
                try:
                    self._filled(template, sample, None)
                except ConfigError as error:
                    yield error

    def _filled(self, template: Template, sample: Sample, question: str | None) -> str:
        asked = question if question is not None else sample.input
        values = {
            "input": asked if asked is not None else sample.question().prompt,
            "context": sample.context,
            "tags": sample.tags,
            "metadata": sample.metadata,
            "id": sample.id,
        }
        try:
            return template.render(values)
        except TemplateError as error:
            hint = error.hint or "templates see input, context, tags, metadata and id"
            said = f"prompt {self.name}, sample {sample.id}: the template {error.message}"
            raise ConfigError(said, hint=hint) from None

    def _worded(self, sample: Sample) -> Any:
        template = self.user
        if template is None:
            return with_context
        return lambda passages, question: self._filled(template, sample, question)
