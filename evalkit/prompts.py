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
the first call, and so is `{input}` in single braces where nothing else shows the sample. A prompt that asks
several samples the same is a doubt: it may be meant, to see what a model says without the question.
References are not in reach: a prompt cannot leak an answer by a slip.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from evalkit.sample import Sample, with_context
from evalkit.sets.template import MAX_SOURCE, Template, TemplateError
from guardrails.call import Message, Request, Sampling
from guardrails.errors import ConfigError
from guardrails.source import Source, explain, load_yaml, parse_yaml

PLAIN = (".txt", ".md", ".j2", ".jinja", ".jinja2")
"""Suffixes of files that are the text of `user`, but for those that hold nothing but `FIELDS` in YAML."""

FIELDS = frozenset({"name", "system", "user", "few_shot"})

_MOST = 4 * MAX_SOURCE + 4  # bytes: more than a template may have characters
_IN_A_FILE = f"it has to have `system` or `user`; a file that is all of `user` is named {', '.join(PLAIN)}"
_FORMATTED = re.compile(r"(?<!\{)\{(input|context)\}(?!\})")
"""A question as f-strings have it, which in a template is plain text."""


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
    return not _asked_for(user) and not _asked_for(system)


def _slip(user: str, system: str | None) -> str:
    """The field that `user` was to show: it has it in single braces, and no field in double ones. What is
    written in an expression, as `{{ '{input}' }}`, is meant as it is."""
    from jinja2 import Environment, nodes

    plain = Environment().parse(user).find_all(nodes.TemplateData)  # noqa: S701 - nothing is rendered
    meant = _FORMATTED.search("".join(each.data for each in plain))
    return meant[1] if meant and not _asked_for(user) and meant[1] not in _asked_for(system) else ""


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
        text = _text(file)
        return _listed(text, file) or Source(str(file), {"user": text})
    try:
        source = load_yaml(file)
    except ConfigError as error:
        raise ConfigError(error.message, hint=_IN_A_FILE if file.is_file() else error.hint) from None
    if not isinstance(source.data, dict):
        raise ConfigError(f"{file} is no prompt", hint=_IN_A_FILE)
    return source


def _listed(text: str, file: Path) -> Source | None:
    """The fields that a text lists in YAML, if it holds nothing else."""
    try:
        source = parse_yaml(text, str(file))
    except ConfigError:
        return None
    return source if isinstance(source.data, dict) and source.data and source.data.keys() <= FIELDS else None


def _text(file: Path) -> str:
    """What is in a plain file. The newline that editors put at its end is none of the prompt."""
    if not file.is_file():  # a pipe may never end
        raise ConfigError(f"{file} {'is no regular file' if file.exists() else 'does not exist'}")
    try:
        with file.open("rb") as opened:
            read = opened.read(_MOST)
        if len(read) == _MOST:  # it may end within a character
            raise ConfigError(f"{file} is too long: a template has at most {MAX_SOURCE:,} characters")
        text = read.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file} is not UTF-8 (byte {error.start})", hint="save it as UTF-8") from None
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from None
    return text.replace("\r\n", "\n").removesuffix("\n")


@dataclass(frozen=True, slots=True)
class Prompt:
    """A variant, ready to make requests. `sha256` is that of all its texts, in hex; `tagged` says whether
    they may show a sample's tags, `fixed` whether they show nothing of it in the question's place, and
    `slip` is a field that was meant to stand there."""

    name: str
    sha256: str
    system: Template | None = None
    user: Template | None = None
    shots: tuple[Message, ...] = ()
    tagged: bool = False
    fixed: bool = False
    slip: str = ""

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
            "" if spec.user is None else _slip(spec.user, spec.system),
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
        the question was to be shown and is not."""
        if self.slip:
            yield ConfigError(
                f"prompt {self.name}: `{{{self.slip}}}` in single braces is plain text, "
                "and `user` shows nothing else of a sample",
                hint=f"did you mean `{{{{ {self.slip} }}}}`? "
                f"For the braces themselves write `{{{{ '{{{self.slip}}}' }}}}`",
            )
        for template in (self.system, self.user):
            if template is not None:
                try:
                    self._filled(template, sample, None)
                except ConfigError as error:
                    yield error

    def doubts(self, samples: Iterable[Sample]) -> Iterator[str]:
        """A question that shows nothing of the samples may be meant, as one to hold the others against."""
        alike = (sample for sample in samples if not _sends_more(sample)) if self.fixed else iter(())
        if len(list(islice(alike, 2))) == 2:
            yield (
                f"prompt {self.name}: `user` shows nothing of a sample, so that they are asked the same "
                "– if that is not meant, write `{{ input }}` where the question belongs"
            )

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
