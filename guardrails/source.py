"""YAML that knows its lines, and mistakes that name them.

Configuration comes from people, and sometimes from strangers: the loader is the safe one, refuses duplicate
keys, and bounds what aliases may unfold to (a "billion laughs" file is a few hundred bytes).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guardrails.errors import ConfigError

if TYPE_CHECKING:
    import yaml
    from pydantic import ValidationError

MAX_BYTES = 4 * 2**20
MAX_NODES = 200_000
TAGS = {
    f"tag:yaml.org,2002:{kind}" for kind in ("map", "seq", "str", "int", "float", "bool", "null", "timestamp")
}

Loc = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """A file's data, and on which line each part of it stands (by its path of keys and indexes)."""

    name: str
    data: Any = field(repr=False)
    lines: Mapping[Loc, int] = field(default_factory=dict, repr=False)

    def line(self, loc: Sequence[str | int]) -> int | None:
        """The line of that part, or of the nearest part around it; None for data that came from no file."""
        path = tuple(loc)
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path)

    def at(self, loc: Sequence[str | int]) -> str:
        """`file:line: a.b.0`, as far as it is known."""
        line = self.line(loc)
        where = self.name if line is None else f"{self.name}:{line}"
        return f"{where}: {'.'.join(map(str, loc))}" if loc else where


def load_yaml(path: str | Path) -> Source:
    """Read a YAML (or JSON) file. Raises `ConfigError` with the line for everything that is wrong with it."""
    file = Path(path)
    try:
        if file.stat().st_size > MAX_BYTES:
            raise ConfigError(f"{file} is larger than {MAX_BYTES // 2**20} MiB", hint="is it the right file?")
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"{file} does not exist", hint="check the path") from None
    except IsADirectoryError:
        raise ConfigError(f"{file} is a folder", hint="name a file in it") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file} is not UTF-8 (byte {error.start})", hint="save it as UTF-8") from None
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from None
    return parse_yaml(text, str(file))


def parse_yaml(text: str, name: str = "<text>") -> Source:
    """Parse YAML text; `name` stands for the file in messages."""
    import yaml

    lines: dict[Loc, int] = {}
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        data = None if node is None else _Reader(name, lines).read(node, ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{name}:{mark.line + 1}" if mark else name
        raise ConfigError(f"{where}: not valid YAML: {error.problem}") from None
    except yaml.YAMLError:
        raise ConfigError(f"{name}: not valid YAML: it has characters that YAML does not allow") from None
    except RecursionError:
        raise ConfigError(f"{name}: nested too deeply") from None
    return Source(name, data, lines)


class _Reader:
    """Turns nodes into plain values, writing down the lines."""

    def __init__(self, name: str, lines: dict[Loc, int]) -> None:
        import yaml

        self._name = name
        self._lines = lines
        self._nodes = 0
        self._yaml = yaml
        self._scalars = yaml.SafeLoader("")

    def read(self, node: yaml.Node, path: Loc) -> Any:
        self._nodes += 1
        line = node.start_mark.line + 1
        if self._nodes > MAX_NODES:
            raise ConfigError(f"{self._name}:{line}: more than {MAX_NODES} values (aliases counted)")
        self._lines.setdefault(path, line)
        if node.tag not in TAGS:
            raise ConfigError(f"{self._name}:{line}: tags are not supported here")
        if isinstance(node, self._yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, self._yaml.SequenceNode):
            return [self.read(child, (*path, index)) for index, child in enumerate(node.value)]
        try:
            return self._scalars.construct_object(node)
        except (ValueError, self._yaml.YAMLError):
            raise ConfigError(f"{self._name}:{line}: a value that cannot be read") from None

    def _mapping(self, node: yaml.MappingNode, path: Loc) -> dict[Any, Any]:
        result: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, self._yaml.ScalarNode):
                raise ConfigError(f"{self._name}:{line}: a key must be a plain word")
            if key_node.tag == "tag:yaml.org,2002:merge":
                raise ConfigError(f"{self._name}:{line}: merge keys (<<) are not supported")
            # YAML 1.1 reads the words on, off, yes and no as truth values: as keys they are words.
            is_word = key_node.tag == "tag:yaml.org,2002:bool"
            key = key_node.value if is_word else self._scalars.construct_object(key_node)
            if key in result:
                raise ConfigError(f"{self._name}:{line}: {key!r} stands there twice")
            result[key] = self.read(value_node, (*path, key))
            self._lines[(*path, key)] = line
        return result


def explain(error: ValidationError, source: Source) -> ConfigError:
    """Every mistake that pydantic found, one per line, with file, line, field and what is allowed."""
    return report(mistakes(error, source), source)


def report(found: list[str], source: Source) -> ConfigError:
    """The mistakes as one error."""
    found = list(dict.fromkeys(found))
    count = "1 mistake" if len(found) == 1 else f"{len(found)} mistakes"
    return ConfigError("\n".join([f"{count} in {source.name}:", *(f"  {mistake}" for mistake in found)]))


def mistakes(error: ValidationError, source: Source, prefix: Loc = ()) -> list[str]:
    """A line for each of pydantic's findings. `prefix` is where the validated part stands in the file."""
    found = []
    for item in error.errors(include_input=False, include_url=False):
        loc = (*prefix, *item["loc"])
        message = item["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
        if item["type"] == "extra_forbidden":
            message = "is not a known field"
        found.append(f"{source.at(loc)}: {message[:1].lower()}{message[1:]}")
    return found
