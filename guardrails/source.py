"""YAML that knows its lines, and mistakes that name them.

Configuration comes from people, and sometimes from strangers: the loader is the safe one, refuses duplicate
keys, and bounds what aliases may unfold to (a "billion laughs" file is a few hundred bytes).
"""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, Generic, TypeVar, Union, get_args, get_origin

from guardrails.errors import ConfigError

if TYPE_CHECKING:
    import yaml
    from pydantic import BaseModel, ValidationError, ValidationInfo

    M = TypeVar("M", bound=BaseModel)
else:
    M = TypeVar("M")

MAX_BYTES = 4 * 2**20
MAX_NODES = 200_000
TAGS = {
    f"tag:yaml.org,2002:{kind}" for kind in ("map", "seq", "str", "int", "float", "bool", "null", "timestamp")
}

Loc = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """A file's data, and on which line each part of it stands (by its path of keys and indexes).

    `within` is where the data stands in the file, if it is a part of it: the paths of `lines` begin there.
    `given` are fields that did not come out of the file but stand in the place of its own.
    """

    name: str
    data: Any = field(repr=False)
    lines: Mapping[Loc, int] = field(default_factory=dict, repr=False)
    within: Loc = ()
    given: frozenset[str] = frozenset()

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
        if loc and loc[0] in self.given:
            where = f"given beside {self.name}"
        path = (*self.within, *loc)
        return f"{where}: {'.'.join(map(str, path))}" if path else where


def load_yaml(path: str | Path) -> Source:
    """Read a YAML (or JSON) file. Raises `ConfigError` with the line for everything that is wrong with it."""
    file = Path(path)
    try:
        text = _bytes(file).decode("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"{file} does not exist", hint="check the path") from None
    except IsADirectoryError:
        raise ConfigError(f"{file} is a folder", hint="name a file in it") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file} is not UTF-8 (byte {error.start})", hint="save it as UTF-8") from None
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from None
    return parse_yaml(text, str(file))


def _bytes(file: Path) -> bytes:
    """What is in the file. A pipe may never end, and a device has no end."""
    if stat.S_ISDIR(kind := file.stat().st_mode):
        raise IsADirectoryError
    if not stat.S_ISREG(kind):
        raise ConfigError(f"{file} is a pipe or a device", hint="name a regular file")
    with file.open("rb") as opened:
        read = opened.read(MAX_BYTES + 1)
    if len(read) > MAX_BYTES:
        raise ConfigError(f"{file} is larger than {MAX_BYTES // 2**20} MiB", hint="is it the right file?")
    return read


def parse_yaml(text: str, name: str = "<text>") -> Source:
    """Parse YAML text; `name` stands for the file in messages."""
    import yaml

    lines: dict[Loc, int] = {}
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        reader = _Reader(name, lines)
        data = None if node is None else reader.read(node, ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{name}:{mark.line + 1}" if mark else name
        raise ConfigError(f"{where}: not valid YAML: {error.problem}") from None
    except yaml.YAMLError:
        raise ConfigError(f"{name}: not valid YAML: it has characters that YAML does not allow") from None
    except RecursionError:
        raise ConfigError(f"{name}: nested too deeply") from None
    if reader.twice:
        raise ConfigError("\n".join(reader.twice))
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
        self.twice: list[str] = []
        """What is wrong with keys that stand there twice."""

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
                self.twice.append(f"{self._name}:{line}: {key!r} stands there twice")
            result[key] = self.read(value_node, (*path, key))
            self._lines[(*path, key)] = line
        return result


def explain(error: ValidationError, source: Source, *models: type[BaseModel]) -> ConfigError:
    """Every mistake that pydantic found, one per line, with file, line, field and what is allowed."""
    return report(mistakes(error, source, (), *models), source)


def report(found: list[str], source: Source) -> ConfigError:
    """The mistakes as one error."""
    found = list(dict.fromkeys(found))
    count = "1 mistake" if len(found) == 1 else f"{len(found)} mistakes"
    return ConfigError("\n".join([f"{count} in {source.name}:", *(f"  {mistake}" for mistake in found)]))


def mistakes(error: ValidationError, source: Source, prefix: Loc = (), *models: type[BaseModel]) -> list[str]:
    """A line for each of pydantic's findings. `prefix` is where the validated part stands in the file.

    For an unknown field the line says which one may have been meant, of those that `models` have.
    """
    items = error.errors(include_input=False, include_url=False)
    return _said(items, source, prefix, models, _inside(source.data, prefix))


def no_truth(cls: Any, value: Any, info: ValidationInfo) -> Any:
    """For models: true is no number, though Python takes it for 1."""
    if isinstance(value, bool) and info.field_name is not None:
        from decimal import Decimal

        kinds = {*_kinds(cls.model_fields[info.field_name].annotation)}
        if bool not in kinds and kinds & {int, float, Decimal}:
            raise ValueError(f"input should be a number, and {str(value).lower()} is none")
    return value


def _kinds(annotation: Any) -> Iterator[Any]:
    """An annotation and, of a union, what it consists of."""
    yield annotation
    for each in get_args(annotation) if get_origin(annotation) in (Union, UnionType) else ():
        yield from _kinds(each)


def _fields(loc: Loc, models: Sequence[type[BaseModel]]) -> list[str]:
    """The fields of what should stand there."""
    at = list(models)
    for step in (each for each in loc if isinstance(each, str)):
        given = [field for model in at for name, field in model.model_fields.items() if step == name]
        at = [kind for field in given for kind in _models(field.annotation)]
    return [field.alias or name for model in at for name, field in model.model_fields.items()]


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if hasattr(annotation, "model_fields"):
        yield annotation
    for each in get_args(annotation):
        yield from _models(each)


_NOWHERE = object()
_PLAIN = {
    **dict.fromkeys(("tuple_type", "list_type", "set_type"), "input should be a list"),
    **dict.fromkeys(("dict_type", "mapping_type"), "input should be a mapping (`name: value`)"),
    **dict.fromkeys(("model_type", "model_attributes_type", "dataclass_type"), "input should be a mapping"),
}


def _said(
    items: Sequence[Mapping[str, Any]],
    source: Source,
    prefix: Loc,
    models: Sequence[type[BaseModel]],
    data: Any,
) -> list[str]:
    """Lines for what pydantic found in the data. What none of several kinds fits is one mistake."""
    lines = []
    for at, found in groupby(items, lambda item: _there(item, data)):
        messages = list(dict.fromkeys(_message(item, models) for item in found))
        start = "input should be "
        if len(messages) > 1 and all(each.startswith(start) for each in messages):
            messages = [" or ".join([messages[0], *(each.removeprefix(start) for each in messages[1:])])]
        lines += [f"{source.at((*prefix, *at))}: {message}" for message in messages]
    return lines


def _message(item: Mapping[str, Any], models: Sequence[type[BaseModel]]) -> str:
    message = item["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    if item["type"] == "extra_forbidden":
        from guardrails.meant import hint

        return "is not a known field" + hint(item["loc"], models)
    if item["loc"][-1:] == ("[key]",):
        return "a name here should be a text: put it in quotes"
    if item["type"] in _PLAIN:
        names = ", ".join(_fields(item["loc"], models)) if "model" in item["type"] else ""
        return _PLAIN[item["type"]] + (f" with fields such as {names}" if names else "")
    return f"{message[:1].lower()}{message[1:]}"


def _there(item: Mapping[str, Any], data: Any) -> Loc:
    """Where it is, without the names that pydantic gives to the kinds of which one had to fit."""
    loc: Loc = item["loc"]
    if data is _NOWHERE:
        return loc
    path: list[str | int] = []
    for number, step in enumerate(loc):
        is_last = number == len(loc) - 1
        if _holds(data, step):
            data = data[step]
        elif isinstance(step, str) and not (is_last and item["type"].startswith("missing")):
            continue
        path.append(step)  # an index too: a list of one may be written without its brackets
    return tuple(path)


def _inside(data: Any, path: Loc) -> Any:
    for step in path:
        if not _holds(data, step):
            return _NOWHERE
        data = data[step]
    return data


# --- looking at the rest ------------------------------------------------------------------------------------

_ROUNDS = 50


@dataclass(frozen=True, slots=True)
class Valid(Generic[M]):
    """What is valid of some data: `made`, None when nothing is.

    `cut` are the places of what was left out. `faithful`: only fields that nobody knows were, so that what is
    wrong with `made` is wrong with the data.
    """

    made: M | None
    cut: frozenset[Loc] = frozenset()
    faithful: bool = True


def valid_part(
    model: type[M],
    data: Mapping[str, Any],
    source: Source,
    found: list[str],
    prefix: Loc = (),
    *,
    stand_ins: Mapping[str, Any] = {},
    also: Sequence[type[BaseModel]] = (),
) -> Valid[M]:
    """The data as a `model`. Mistakes go to `found` and are then left out, so that the rest is looked at too.

    In a list under a key of `stand_ins` the value there takes the place of a wrong item; otherwise the whole
    list is left out with it. `also` have the fields that may stand beside these, and have been taken away.
    """
    from pydantic import ValidationError

    left, cut, faithful = dict(data), set[Loc](), True
    for _ in range(_ROUNDS):
        try:
            return Valid(model.model_validate(left), frozenset(cut), faithful)
        except ValidationError as error:
            items = error.errors(include_input=False, include_url=False)
        if not cut:
            left = _copied(left)
        # What is only wrong because of what was left out before is no mistake of the file.
        new = [item for item in items if not _around(item["loc"], cut)]
        found += _said(new, source, prefix, (model, *also), left)
        faithful = faithful and all(item["type"] == "extra_forbidden" for item in items)
        places = {_place(left, item["loc"], stand_ins) for item in items}
        if () in places:
            break
        for place in sorted(places, key=len, reverse=True):
            _leave_out(left, place, stand_ins)
        cut |= places
    return Valid(None, frozenset(cut), faithful=False)


def _around(loc: Loc, cut: set[Loc]) -> bool:
    return any(place[: len(loc)] == loc for place in cut)


def _copied(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copied(each) for key, each in value.items()}
    return list(map(_copied, value)) if isinstance(value, list | tuple) else value


def _place(data: Any, loc: Loc, stand_ins: Mapping[str, Any]) -> Loc:
    """The innermost part of the data that a mistake is in, and that can be left out."""
    path: list[str | int] = []
    for step in loc:
        if not _holds(data, step):
            break
        data = data[step]
        path.append(step)
    while path and isinstance(path[-1], int) and path[0] not in stand_ins:
        path.pop()
    return tuple(path)


def _holds(data: Any, step: str | int) -> bool:
    if isinstance(data, list | tuple):
        return isinstance(step, int) and step < len(data)
    return isinstance(data, Mapping) and step in data


def _leave_out(data: Any, place: Loc, stand_ins: Mapping[str, Any]) -> None:
    *way, last = place
    for step in way:
        data = data[step]
    if isinstance(data, list):
        data[last] = stand_ins[str(place[0])]  # type: ignore[index] # the last step into a list is a number
    else:
        del data[last]
