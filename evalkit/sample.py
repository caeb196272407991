"""Samples, and the golden sets that hold them.

A golden set is loaded whole or not at all: every bad line is reported at once, with its place, its field and
the reason, and nothing runs. The reports never quote a sample's text, which may hold personal data.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import MISSING, dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalkit.rows import Problem, Problems, shown
from guardrails.call import Image, Message, Request, Sampling, Tool, ToolResult, ToolUse
from guardrails.errors import ConfigError
from judges.judge import Question

if TYPE_CHECKING:
    from evalkit.sets.spec import GoldenSpec

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


MAX_ATTACHMENT = 20 * 2**20
"""Bytes of one attached file."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """An image that goes with the question: a `url`, or a file at `path` inside of `folder`.

    The file is read when it is sent, so that a set of many images stays small in memory.
    """

    media_type: str = ""
    url: str = field(default="", repr=False)
    path: str = ""
    folder: Path | None = field(default=None, repr=False, compare=False)

    def bytes(self) -> bytes:
        """The file's content. Raises `ConfigError` when it lies outside, is missing or is too large."""
        file = located(self.path, self.folder)
        with file.open("rb") as stream:
            content = stream.read(MAX_ATTACHMENT + 1)
        if len(content) > MAX_ATTACHMENT:
            raise ConfigError(f"is larger than {MAX_ATTACHMENT // 2**20} MiB")
        return content

    def part(self) -> Image:
        """As a part of a message: a file becomes a `data:` URL."""
        if self.url:
            return Image(self.url)
        return Image(f"data:{self.media_type};base64,{base64.b64encode(self.bytes()).decode()}")

    def plain(self) -> dict[str, str]:
        """What it is, for keys: a file is named by its content, wherever it lies."""
        if self.url:
            return {"url": self.url}
        return {"media_type": self.media_type, "sha256": hashlib.sha256(self.bytes()).hexdigest()}


def located(path: str, folder: Path | None) -> Path:
    """The file that a set names, which must lie in the set's folder. Raises `ConfigError`; opens nothing."""
    if folder is None:
        raise ConfigError("cannot be a file here: this set has no folder; give a URL")
    if Path(path).is_absolute() or "\\" in path or ".." in Path(path).parts:
        raise ConfigError("must be a relative path inside of the set's folder")
    try:
        file = (folder / path).resolve()
        if not file.is_relative_to(folder.resolve()):
            raise ConfigError("leads out of the set's folder")
        if not file.is_file():
            raise ConfigError("is not a file in the set's folder")
        if file.stat().st_size > MAX_ATTACHMENT:
            raise ConfigError(f"is larger than {MAX_ATTACHMENT // 2**20} MiB")
    except (OSError, ValueError, RuntimeError) as error:  # a name too long, a NUL byte, a loop of links
        raise ConfigError(f"cannot be used as a path ({type(error).__name__})") from None
    return file


@dataclass(frozen=True, slots=True)
class Sample:
    """One case of a golden set: either `input` (a user's text) or `messages` (a conversation), never both.

    `references` are right answers, any of which will do; `context` are passages to answer from; `weight` is
    how much the sample counts. `turns` are the user's further texts, each sent after the answer to the one
    before; `user` describes somebody who makes them up instead (`goal`, `persona`, `max_turns`). `tools` may
    be called; `attachments` go with the last message of the user. No repr shows the texts.
    """

    id: str
    input: str | None = field(default=None, repr=False)
    messages: tuple[Message, ...] = field(default=(), repr=False)
    references: tuple[str, ...] = field(default=(), repr=False)
    context: tuple[str, ...] = field(default=(), repr=False)
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict, repr=False, hash=False)
    weight: float = 1.0
    turns: tuple[str, ...] = field(default=(), repr=False)
    user: Mapping[str, Any] | None = field(default=None, repr=False, hash=False)
    tools: tuple[Tool, ...] = field(default=(), hash=False)
    attachments: tuple[Attachment, ...] = ()

    def __post_init__(self) -> None:
        if (self.input is None) == (not self.messages):
            raise ValueError("a sample has either input or messages")
        if not 0 < self.weight < math.inf:
            raise ValueError("a weight is positive and finite")
        if self.turns and self.user is not None:
            raise ValueError("a sample has either turns or a simulated user")

    def request(
        self, *, model: str = "", system: str | None = None, prompt: Prompt = with_context, **sampling: Any
    ) -> Request:
        """What is asked of the model first. `prompt` puts the context into the last user message.

        `system` becomes the first message; `sampling` are fields of `guardrails.call.Sampling`. Reads the
        attached files; raises `ConfigError` when one of them cannot be used any more.
        """
        turns = list(self.messages) if self.input is None else [Message.of("user", self.input)]
        last = max(number for number, turn in enumerate(turns) if turn.role == "user")
        asked = Message.of("user", prompt(self.context, turns[last].text))
        if self.attachments:
            asked = Message("user", (*asked.parts, *(each.part() for each in self.attachments)))
        turns[last] = asked
        head = [] if system is None else [Message.of("system", system)]
        return Request((*head, *turns), model=model, tools=self.tools, sampling=Sampling(**sampling))

    def question(self) -> Question:
        """The sample as a judge sees it; a conversation is written one `role: text` after another."""
        if self.input is not None:
            text = self.input
        else:
            text = "\n\n".join(f"{turn.role}: {_said(turn)}" for turn in self.messages)
        # A judge's own copy: a sample that it changed would have another key when it is asked the next time.
        return Question(text, self.references, self.context, deepcopy(dict(self.metadata)))

    def plain(self) -> dict[str, Any]:
        """What the sample is, in plain values, for keys: fields at their defaults are left out.

        So a field that a later version adds changes no key, and a moved folder of images changes none either.
        """
        values = ((name, default, getattr(self, name)) for name, default in _defaults())
        made: dict[str, Any] = {name: value for name, default, value in values if value != default}
        if self.messages:
            made["messages"] = [_plain(turn) for turn in self.messages]
        if self.tools:
            made["tools"] = [[tool.name, tool.description, tool.parameters] for tool in self.tools]
        if self.attachments:
            made["attachments"] = [each.plain() for each in self.attachments]
        return made


def _said(turn: Message) -> str:
    pieces = [turn.text] if turn.text else []
    for part in turn.parts:
        if isinstance(part, ToolUse):
            pieces.append(f"[calls {part.name}({part.arguments})]")
        elif isinstance(part, ToolResult):
            pieces += [inner.text for inner in part.parts if hasattr(inner, "text")]
    return " ".join(pieces)


def _plain(turn: Message) -> list[Any]:
    made: list[Any] = [turn.role]
    for part in turn.parts:
        if isinstance(part, ToolUse):
            made.append([part.id, part.name, part.arguments])
        elif isinstance(part, ToolResult):
            made.append([part.id, _said(turn)])
        else:
            made.append(getattr(part, "text", ""))
    return made


@cache
def _defaults() -> Sequence[tuple[str, Any]]:
    """A sample's fields, each with what it is if it is not given."""
    return [
        (each.name, each.default if each.default_factory is MISSING else each.default_factory())
        for each in fields(Sample)
    ]


@dataclass(frozen=True, slots=True)
class GoldenSet:
    """Samples with unique ids, in the order of the file, read from it one by one when they are asked for.

    `sha256` is that of the file's unpacked bytes, `digest` that of what is in use of them: the bytes, how
    their fields are mapped and which rows were chosen. `about` is the lineage that a run writes down;
    `doubts` are sentences on what the spec may not have meant.
    """

    name: str
    path: Path
    samples: Sequence[Sample] = field(repr=False)
    sha256: str
    version: str | None = None
    digest: str = ""
    about: Mapping[str, Any] = field(default_factory=dict, repr=False, hash=False)
    doubts: tuple[str, ...] = field(default=(), repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.samples)


class GoldenSetError(ConfigError):
    """A golden set that cannot be used. The message has a line for each of the first 50 problems.

    `problems` are those; `count` is the number of all; `name` is the file's.
    """

    default_kind = "golden_set"

    def __init__(self, path: Path, problems: Problems, *, hint: str = "") -> None:
        self.problems: tuple[Problem, ...] = tuple(
            sorted(problems.kept, key=lambda problem: (problem.file, problem.line))
        )
        self.count = problems.count
        self.name = path.name
        super().__init__("\n".join(self._said(path)), hint=hint)

    def _said(self, path: Path) -> Iterator[str]:
        name = shown(path.name) if len(path.name) <= 40 else "…" + shown(path.name[-39:])
        if self.count == 1 and self.problems[0].line == 0:
            yield f"{shown_path(path)}: {self.problems[0].reason}"
            return
        plural = "1 problem" if self.count == 1 else f"{self.count:,} problems"
        yield f"{shown_path(path)} cannot be used: {plural}, nothing was run"
        for problem in self.problems:
            file = shown(problem.file) or name
            place = f"{file}:{problem.line}" if problem.line else file
            yield f"{place}: {problem.field or 'a column without a name'}: {problem.reason}"
        if self.count > len(self.problems):
            yield f"… and {self.count - len(self.problems):,} more"


def shown_path(path: Path) -> str:
    """A path as it may go to a terminal."""
    return "".join(character if character.isprintable() else "?" for character in str(path))


def load(spec: str | Path | Mapping[str, Any] | GoldenSpec, folder: Path | None = None) -> GoldenSet:
    """Load a golden set: a file, several of them, or a built-in set by its name (see `evalkit.sets.spec`).

    Paths are relative to `folder`. Raises `GoldenSetError` with every problem that the files have.
    """
    from evalkit.sets.loading import load as loaded

    return loaded(spec, folder)
