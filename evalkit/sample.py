"""Samples, and the golden sets that hold them.

A golden set is loaded whole or not at all: every bad line is reported at once, with its place, its field and
the reason, and nothing runs. The reports never quote a sample's text, which may hold personal data.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from evalkit import rows
from evalkit.rows import Problem, Problems, shown
from guardrails.call import Message, Request, Sampling
from guardrails.errors import ConfigError
from judges.judge import Question

Prompt = Callable[[tuple[str, ...], str], str]
"""Joins a sample's context passages and its question into the text of one user message."""


def with_context(passages: tuple[str, ...], question: str) -> str:
    """The default prompt: the numbered passages first, then the question. Without passages, the question.

    ::

        Answer the question from the passages below. If they do not hold the answer, say so.

        [1] First passage.

        [2] Second passage.

        Question: …
    """
    if not passages:
        return question
    head = "Answer the question from the passages below. If they do not hold the answer, say so."
    numbered = (f"[{number}] {passage}" for number, passage in enumerate(passages, start=1))
    return "\n\n".join((head, *numbered, f"Question: {question}"))


@dataclass(frozen=True, slots=True)
class Sample:
    """One case of a golden set: either `input` (a user's text) or `messages` (a conversation), never both.

    `references` are right answers, any of which will do; `context` are passages to answer from; `weight` is
    how much the sample counts. No repr shows the texts.
    """

    id: str
    input: str | None = field(default=None, repr=False)
    messages: tuple[Message, ...] = field(default=(), repr=False)
    references: tuple[str, ...] = field(default=(), repr=False)
    context: tuple[str, ...] = field(default=(), repr=False)
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict, repr=False, hash=False)
    weight: float = 1.0

    def __post_init__(self) -> None:
        if (self.input is None) == (not self.messages):
            raise ValueError("a sample has either input or messages")
        if not 0 < self.weight < math.inf:
            raise ValueError("a weight is positive and finite")

    def request(
        self, *, model: str = "", system: str | None = None, prompt: Prompt = with_context, **sampling: Any
    ) -> Request:
        """What is asked of the model. `prompt` puts the context into the last user message.

        `system` becomes the first message; `sampling` are fields of `guardrails.call.Sampling`.
        """
        turns = list(self.messages) if self.input is None else [Message.of("user", self.input)]
        last = max(number for number, turn in enumerate(turns) if turn.role == "user")
        turns[last] = Message.of("user", prompt(self.context, turns[last].text))
        head = [] if system is None else [Message.of("system", system)]
        return Request((*head, *turns), model=model, sampling=Sampling(**sampling))

    def question(self) -> Question:
        """The sample as a judge sees it; a conversation is written one `role: text` after another."""
        if self.input is not None:
            text = self.input
        else:
            text = "\n\n".join(f"{turn.role}: {turn.text}" for turn in self.messages)
        return Question(text, self.references, self.context, self.metadata)


@dataclass(frozen=True, slots=True)
class GoldenSet:
    """Samples with unique ids, in the order of the file. `sha256` is that of the unpacked bytes, in hex."""

    name: str
    path: Path
    samples: tuple[Sample, ...] = field(repr=False)
    sha256: str

    def __len__(self) -> int:
        return len(self.samples)


class GoldenSetError(ConfigError):
    """A golden set that cannot be used. The message has a line for each of the first 50 problems.

    `problems` are those; `count` is the number of all.
    """

    default_kind = "golden_set"

    def __init__(self, path: Path, problems: Problems, *, hint: str = "") -> None:
        self.problems: tuple[Problem, ...] = tuple(sorted(problems.kept, key=lambda problem: problem.line))
        self.count = problems.count
        super().__init__("\n".join(self._said(path)), hint=hint)

    def _said(self, path: Path) -> Iterator[str]:
        name = shown(path.name) if len(path.name) <= 40 else "…" + shown(path.name[-39:])
        if self.count == 1 and self.problems[0].line == 0:
            yield f"{shown_path(path)}: {self.problems[0].reason}"
            return
        plural = "1 problem" if self.count == 1 else f"{self.count:,} problems"
        yield f"{shown_path(path)} cannot be used: {plural}, nothing was run"
        for problem in self.problems:
            place = f"{name}:{problem.line}" if problem.line else name
            yield f"{place}: {problem.field}: {problem.reason}"
        if self.count > len(self.problems):
            yield f"… and {self.count - len(self.problems):,} more"


def shown_path(path: Path) -> str:
    """A path as it may go to a terminal."""
    return "".join(character if character.isprintable() else "?" for character in str(path))


# --- loading -----------------------------------------------------------------------------------------------

_EXAMPLE = '{"id": "q1", "input": "What is 6 × 7?", "reference": "42"}'


def load(path: str | Path) -> GoldenSet:
    """Load a golden set from a JSONL, JSON or CSV file (`.gz` too), or a built-in one by its name.

    Raises `GoldenSetError` with every problem that the file has.
    """
    path = _located(Path(path))
    problems = Problems()
    samples: dict[str, Sample] = {}
    first_seen: dict[str, int] = {}
    digest = ""
    try:
        for row in rows.read(path, problems):
            if isinstance(row, str):
                digest = row
            elif (sample := _sample(row, problems)) is None:
                continue
            elif sample.id in first_seen:
                problems.add(row.line, "id", f'"{sample.id}" is the id of line {first_seen[sample.id]} too')
            else:
                samples[sample.id], first_seen[sample.id] = sample, row.line
    except OSError as error:
        raise _file_error(path, f"cannot be read: {error.strerror or type(error).__name__}") from None
    if not samples and not problems.count:
        raise _file_error(path, "holds no samples", hint=f"put one on each line, such as {_EXAMPLE}")
    if problems.count:
        raise GoldenSetError(path, problems)
    return GoldenSet(_name(path), path, tuple(samples.values()), digest)


def _located(path: Path) -> Path:
    from evalkit import datasets

    if not path.exists():
        builtin = datasets.names()
        if str(path) in builtin:
            return datasets.path(str(path))
        named = f"; the built-in sets are {', '.join(builtin)}" if builtin else ""
        raise _file_error(path, "there is no such file", hint=f"check the path{named}")
    if path.is_dir():
        raise _file_error(path, "is a folder", hint="name the file in it that holds the samples")
    if rows.format_of(path) is None:
        raise _file_error(path, "has no suffix that says its format", hint=f"name it {rows.FORMATS}")
    return path


def _file_error(path: Path, reason: str, *, hint: str = "") -> GoldenSetError:
    problems = Problems()
    problems.add(0, "file", reason)
    return GoldenSetError(path, problems, hint=hint)


def _name(path: Path) -> str:
    name = path.name
    for suffix in (".gz", rows.format_of(path) or ""):
        if suffix and name.lower().endswith(suffix):
            name = name[: -len(suffix)]
    # A built-in set is a folder with a samples.jsonl in it.
    return path.resolve().parent.name if name == "samples" else name


# --- a row's fields become a sample ------------------------------------------------------------------------


def _not_blank(text: str) -> str:
    if not text.strip():
        raise PydanticCustomError("blank", "must not be blank")
    return _encodable(text)


def _encodable(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise PydanticCustomError("surrogate", "holds half of a surrogate pair, which is not text") from None
    return text


def _printable(text: str) -> str:
    if not text.isprintable():
        raise PydanticCustomError("unprintable", "must not hold control characters")
    return text


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _storable(value: dict[str, Any]) -> dict[str, Any]:
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):  # UnicodeEncodeError is one of the former
        raise PydanticCustomError("unstorable", "holds what JSON cannot store") from None
    return value


def _has_user(turns: list[_Turn]) -> list[_Turn]:
    if not any(turn.role == "user" for turn in turns):
        raise PydanticCustomError("no_user", "must hold a message of the user")
    return turns


Words = Annotated[str, AfterValidator(_not_blank)]
Listed = Annotated[list[Words], BeforeValidator(_listed)]


class _Turn(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    role: Literal["system", "developer", "user", "assistant"]
    content: Words


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    id: Annotated[Words, AfterValidator(_printable), Field(max_length=200)]
    input: Words | None = None
    messages: Annotated[list[_Turn], AfterValidator(_has_user)] | None = None
    reference: Listed = []
    references: Listed = []
    context: Listed = []
    tags: Listed = []
    metadata: Annotated[dict[str, Any], AfterValidator(_storable)] = {}
    weight: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0


_REASONS = {
    "missing": "is missing",
    "extra_forbidden": "is not a field of a sample; fields of your own go under metadata",
    "string_type": "must be text, is {kind}",
    "too_long": "must not be longer than 200 characters",
    "list_type": "must be a list, is {kind}",
    "dict_type": "must be an object, is {kind}",
    "model_type": "must be an object, is {kind}",
    "float_type": "must be a number, is {kind}",
    "greater_than": "must be greater than 0",
    "finite_number": "must be finite",
    "literal_error": "must be system, developer, user or assistant",
    "string_unicode": "holds half of a surrogate pair, which is not text",
}
_KINDS = {
    str: "text",
    bool: "true or false",
    int: "a number",
    float: "a number",
    list: "a list",
    dict: "an object",
    type(None): "null",
}


def _kind(value: Any) -> str:
    return _KINDS.get(type(value), "something else")


def _sample(row: rows.Row, problems: Problems) -> Sample | None:
    if not isinstance(row.fields, dict):
        hint = "; a file that is one JSON array is named .json" if isinstance(row.fields, list) else ""
        reason = f"must be an object such as {_EXAMPLE}, is {_kind(row.fields)}{hint}"
        problems.add(row.line, "line", reason)
        return None
    present = {name: value for name, value in row.fields.items() if value is not None}
    try:
        read = _Row.model_validate(present)
    except ValidationError as error:
        for each in error.errors(include_url=False):
            problems.add(row.line, _place(each["loc"]), _why(each))
        return None
    if (read.input is None) == (read.messages is None):
        said = "is missing, and so is messages" if read.input is None else "is given, and so is messages"
        problems.add(row.line, "input", f"{said}: a sample has one of the two")
        return None
    if read.reference and read.references:
        problems.add(row.line, "references", "is given, and so is reference: write one of the two")
        return None
    return Sample(
        id=read.id,
        input=read.input,
        messages=tuple(Message.of(turn.role, turn.content) for turn in read.messages or ()),
        references=tuple(read.reference or read.references),
        context=tuple(read.context),
        tags=tuple(read.tags),
        metadata=read.metadata,
        weight=read.weight,
    )


def _place(location: tuple[int | str, ...]) -> str:
    text = ""
    for step in location:
        text += f"[{step}]" if isinstance(step, int) else f"{'.' if text else ''}{shown(step)}"
    return text or "line"


def _why(error: ErrorDetails) -> str:
    # Only our own sentences: pydantic's may hold a piece of the value in a later version.
    if error["type"] in _REASONS:
        return _REASONS[error["type"]].format(kind=_kind(error["input"]))
    own = {"blank", "surrogate", "unprintable", "unstorable", "no_user"}
    return error["msg"] if error["type"] in own else f"is not valid ({error['type']})"
