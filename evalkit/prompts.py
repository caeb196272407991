"""Prompts: what stands around a sample's question, in variants that a run compares.

prompts:
  - name: plain                      # the question as it is
  - name: careful
    system: "You work for {{ metadata.company }}. Say so when you do not know."
    user: "{% for passage in context %}[{{ loop.index }}] {{ passage }}\\n{% endfor %}{{ input }}"
    few_shot:
      - {user: "Where is my parcel?", assistant: "May I have its number?"}
  - file: prompts/long.yaml          # the same fields, in a file of their own
  - file: prompts/terse.txt          # or a text, which is all of `user`: .txt, .md, .j2, .jinja

Templates see `input`, `context`, `tags`, `metadata` and `id`; a name that a sample lacks is an error before
the first call, and so is a prompt that would ask every sample the same. References are not in reach: a prompt
cannot leak an answer by a slip.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from evalkit.sample import Sample, with_context
from evalkit.sets.template import MAX_SOURCE, Template, TemplateError
from guardrails.call import Message, Request, Sampling
from guardrails.errors import ConfigError
from guardrails.source import Source, explain, load_yaml

PLAIN = (".txt", ".md", ".j2", ".jinja", ".jinja2")
"""Suffixes of files that are the text of `user`."""

_MOST = 4 * MAX_SOURCE + 4  # bytes: more than a template may have characters
_IN_A_FILE = f"it has to have `system` or `user`; a file that is all of `user` is named {', '.join(PLAIN)}"
_FORMATTED = re.compile(r"(?<!\{)\{((?:input|context|tags|metadata|id)(?:[.\[][^{}\s]*)?)\}(?!\})")
"""A field as f-strings have it, which in a template is plain text."""


def valid_template(text: str | None) -> str | None:
    """For fields of models: the text, which must be a template."""
    if text is not None:
        try:
            Template(text)
        except TemplateError as error:
            raise ValueError(str(error)) from None
    return text


def _asked_for(text: str | None) -> set[str]:
    """The names that a valid template asks for."""
    from jinja2 import Environment, meta

    return meta.find_undeclared_variables(Environment().parse(text or ""))  # noqa: S701 - nothing is rendered


def _is_fixed(user: str, system: str | None) -> bool:
    """Whether `user` shows nothing of a sample, and `system` does not in its stead."""
    return not _asked_for(user) and (_FORMATTED.search(user) is not None or not _asked_for(system))


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

    @field_validator("user")
    @classmethod
    def _some(cls, text: str | None) -> str | None:
        if text is not None and not text.strip():
            raise ValueError("is empty: leave it out to ask the question as it is, or write `{{ input }}`")
        return text

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

        source = _read(folder / self.file)
        try:
            made = PromptSpec.model_validate(source.data)
        except ValidationError as error:
            raise explain(error, source, PromptSpec) from None
        if made.file is not None:
            raise ConfigError(f"{source.name}: a prompt's file cannot name another file")
        return made.model_copy(update={"name": self.name or made.name or self.file.stem})


def _read(file: Path) -> Source:
    """The fields in a prompt's file."""
    if file.suffix.lower() in PLAIN:
        return Source(str(file), {"user": _text(file)})
    try:
        source = load_yaml(file)
    except ConfigError as error:
        raise ConfigError(error.message, hint=_IN_A_FILE if file.is_file() else error.hint) from None
    if not isinstance(source.data, dict):
        raise ConfigError(f"{file} is no prompt", hint=_IN_A_FILE)
    return source


def _text(file: Path) -> str:
    """What is in a plain file. The newline that editors put at its end is none of the prompt."""
    if not file.is_file():  # a pipe may never end
        raise ConfigError(f"{file} {'is no regular file' if file.exists() else 'does not exist'}")
    try:
        with file.open("rb") as opened:
            text = opened.read(_MOST).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file} is not UTF-8 (byte {error.start})", hint="save it as UTF-8") from None
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from None
    return text.replace("\r\n", "\n").removesuffix("\n")


@dataclass(frozen=True, slots=True)
class Prompt:
    """A variant, ready to make requests. `sha256` is that of all its texts, in hex; `tagged` says whether
    they may show a sample's tags, `fixed` whether they show nothing of it in the question's place."""

    name: str
    sha256: str
    system: Template | None = None
    user: Template | None = None
    shots: tuple[Message, ...] = ()
    tagged: bool = False
    fixed: bool = False

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
            spec.user is not None and _is_fixed(spec.user, spec.system),
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
        """Fill the templates in: the errors that come of it, which name the sample. It is one, too, if
        nothing of the sample would be sent."""
        if self.user is not None and self.fixed:
            meant = _FORMATTED.search(self.user.source)
            if meant or not _sends_more(sample):
                yield self._without_question(meant[1] if meant else None)
        for template in (self.system, self.user):
            if template is not None:
                try:
                    self._filled(template, sample, None)
                except ConfigError as error:
                    yield error

    def _without_question(self, meant: str | None) -> ConfigError:
        hint = "write `{{ input }}` where the question belongs"
        if meant is not None:
            hint = f"did you mean `{{{{ {meant} }}}}`? In single braces it is plain text"
        said = "`user` shows nothing of a sample, so that all of them are asked the same"
        return ConfigError(f"prompt {self.name}: {said}", hint=hint)

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


def _sends_more(sample: Sample) -> bool:
    """Whether more of a sample is sent than what a prompt's `user` stands for: its last question."""
    return len(sample.messages) > 1 or bool(sample.attachments or sample.turns or sample.user)
