"""What is a judge told? A prompt: a Markdown file with front matter, versioned and hashed.

    ---
    name: politeness
    version: 1
    scale: [1, 5]
    schema:                      # JSON schema of the verdict: reasons come before what they lead to
      type: object
      properties:
        reasons: {type: string}
        score: {type: integer}
      required: [reasons, score]
    ---
    # system
    You judge how polite an answer is. {{ criteria }}
    # user
    {{ question }}
    {{ answer }}

`{{ name }}` is the whole of the template language: a name that the judge does not give is an error when the
file is read, and what is filled in is never looked at again. How the reply has to look is not part of a
prompt: it follows from the schema and is added when a model is asked.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from guardrails.errors import ConfigError
from guardrails.source import Source, parse_yaml

FOLDER = Path(__file__).resolve().parents[1] / "prompts"
MAX_PROMPT = 100_000

_HEAD = re.compile(r"\A---\n(.*?)\n---\n", re.DOTALL)
_PARTS = re.compile(r"\A\s*# system\n(.*?)\n# user\n(.*)\Z", re.DOTALL)
_NAME = re.compile(r"\{\{ *([a-z_]{1,40}) *\}\}")
_FIELDS = {"name", "version", "about", "scale", "schema"}


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt as it was read. `digest` is that of its text: rows that another wording judged are told apart.

    `scale` is `(lowest, highest)`, or labels and their values, or None. `schema` is that of the verdict.
    """

    name: str
    version: int
    system: str = field(repr=False)
    user: str = field(repr=False)
    schema: Mapping[str, Any] = field(repr=False, hash=False)
    scale: tuple[int, int] | Mapping[str, float] | None = field(default=None, hash=False)
    digest: str = ""

    @property
    def names(self) -> frozenset[str]:
        """What it wants to be given."""
        return frozenset(_NAME.findall(self.system + self.user))

    def fill(self, values: Mapping[str, str]) -> tuple[str, str]:
        """Its system and its user text. Raises `ConfigError` for a value that is missing."""
        if missing := sorted(self.names - values.keys()):
            raise ConfigError(f"the prompt {self.name!r} asks for {missing[0]!r}, which this judge has not")
        system, user = (
            _NAME.sub(lambda match: values[match[1]], text).strip() for text in (self.system, self.user)
        )
        return system, user


def load(
    name: str, given: Set[str], required: Set[str] = frozenset({"answer"}), *, like: str | None = None
) -> Prompt:
    """A prompt of ours by its name, or your own by the path of a `.md` file.

    `given` are the names that the judge fills in, and `required` those that the prompt must ask for. `like`
    names the prompt of ours whose schema it has to have, but for descriptions. Raises `ConfigError` with file
    and line.
    """
    path = Path(name) if name.endswith(".md") else FOLDER / f"{name}.md"
    if not name.endswith(".md") and not (name.isidentifier() and path.is_file()):
        known = ", ".join(sorted(each.stem for each in FOLDER.glob("*.md")))
        raise ConfigError(
            f"there is no prompt {name[:40]!r}", hint=f"there are {known}; or name a .md file of your own"
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"the prompt {path} cannot be read ({type(error).__name__})",
            hint="a relative path counts from the suite file's folder",
        ) from None
    prompt = _parsed(text, str(path))
    if unknown := sorted(prompt.names - given):
        raise ConfigError(
            f"{path}: asks for {unknown[0]!r}, which this judge has not",
            hint=f"it has {', '.join(sorted(given))}",
        )
    if missing := sorted(required - prompt.names):
        raise ConfigError(f"{path}: never shows the {missing[0]}", hint=f"write {{{{ {missing[0]} }}}}")
    if like is not None and like != name:
        ours = load(like, given, required)
        if _shape(prompt.schema) != _shape(ours.schema):
            raise ConfigError(
                f"{path}: its schema is not one that this judge can read",
                hint=f"only descriptions may differ from that of our prompt {like!r}: {plain(ours.schema)}",
            )
    return prompt


def _shape(schema: Any) -> Any:
    if isinstance(schema, Mapping):
        return {key: _shape(value) for key, value in schema.items() if key != "description"}
    return [_shape(value) for value in schema] if isinstance(schema, list | tuple) else schema


@lru_cache(maxsize=64)
def _parsed(text: str, where: str) -> Prompt:
    text = text.replace("\r\n", "\n")
    if len(text) > MAX_PROMPT:
        raise ConfigError(f"{where}: longer than {MAX_PROMPT:,} characters; is it the right file?")
    head = _HEAD.match(text)
    if head is None:
        raise ConfigError(
            f"{where}:1: no front matter", hint="begin with ---, name: …, version: …, schema: …, ---"
        )
    source = parse_yaml("\n" + head[1], where)
    data = source.data
    if not isinstance(data, Mapping) or not isinstance(data.get("name"), str):
        raise ConfigError(f"{where}:1: the front matter needs `name`, `version` and `schema`")
    if unknown := sorted(str(key) for key in data.keys() - _FIELDS):
        raise ConfigError(
            f"{source.at((unknown[0],))}: is not known", hint=f"use {', '.join(sorted(_FIELDS))}"
        )
    if type(data.get("version")) is not int:
        raise ConfigError(f"{source.at(('version',))}: must be a whole number")
    body = _PARTS.match(text[head.end() :])
    if body is None:
        raise ConfigError(f"{where}: needs the two headings `# system` and `# user`, each on its own line")
    return Prompt(
        name=data["name"],
        version=data["version"],
        system=body[1],
        user=body[2],
        schema=_schema(data, source),
        scale=None if data.get("scale") is None else scale(data["scale"], source.at(("scale",))),
        digest=hashlib.sha256(text.encode()).hexdigest()[:16],
    )


def _schema(data: Mapping[str, Any], source: Source) -> Mapping[str, Any]:
    schema = data.get("schema")
    place = source.at(("schema",))
    if not isinstance(schema, Mapping) or schema.get("type") != "object":
        raise ConfigError(f"{place}: must be a JSON schema of type object")
    if not isinstance(schema.get("properties"), Mapping) or "case" in schema["properties"]:
        raise ConfigError(f"{place}: needs `properties`, and none called `case`: that one is added")
    from guardrails.schema import Schema

    try:
        Schema(schema)
    except ConfigError as error:
        raise ConfigError(f"{place}: {error.message}", hint=error.hint) from None
    return schema


def scale(given: Any, where: str = "scale") -> tuple[int, int] | dict[str, float]:
    """A scale as a file spells it: `[1, 5]`, or labels with values from 0 to 1. Raises `ConfigError`."""
    if isinstance(given, list | tuple) and len(given) == 2 and all(type(end) is int for end in given):
        low, high = given
        if 0 <= low < high <= 100:
            return low, high
    if isinstance(given, Mapping) and len(given) >= 2:
        numbers = [v for v in given.values() if isinstance(v, int | float) and not isinstance(v, bool)]
        words = all(isinstance(key, str) and 0 < len(key.strip()) <= 40 for key in given)
        if words and len(numbers) == len(given) and all(0 <= number <= 1 for number in numbers):
            return {key: float(value) for key, value in given.items()}
    raise ConfigError(
        f"{where}: is no scale", hint="write [1, 5], or {good: 1, fair: 0.5, bad: 0}: values from 0 to 1"
    )


def plain(schema: Mapping[str, Any]) -> str:
    """A schema on one line, as a model is told it."""
    return json.dumps(schema, ensure_ascii=False, separators=(", ", ": "))
