"""How a foreign row becomes the fields of a sample: by names, dotted paths and templates.

A rule is a column's name (`question`), a path into it (`answers.text.0`), a template over the columns
(`{{ question.strip() }}`), a list of these (their values one after another) or `{value: …}`, a constant.
`doc_to_text`, `doc_to_target` and `doc_to_choice` are lm-eval's words for the input, the reference and the
choices, and mean what they mean there: a list of choices, or an object's values, are the choices themselves,
a template may write a list out, and where there are choices, a target that is a number picks one of them.
"""

from __future__ import annotations

import ast
import warnings
from dataclasses import dataclass, field
from typing import Any

from evalkit.rows import Row, shown
from evalkit.sets.row import FIELDS
from evalkit.sets.template import Template, TemplateError, is_template
from guardrails.errors import ConfigError

_TARGET, _CHOICES = "doc_to_target", "doc_to_choice"
_ALIASES = {"doc_to_text": "input", _TARGET: "reference"}
_UNLABELLED = -1  # what data sets of Hugging Face have for a row whose answer is kept secret
_MAX_WRITTEN = 100_000  # characters of a list that a template writes out
_TEXTS = frozenset({"id", "input", "reference", "references", "context", "tags", "turns"})


class Unfit(ConfigError):
    """A row that the mapping cannot use: `place` is the column or the sample's field."""

    default_kind = "mapping"

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(reason)
        self.place = place


@dataclass(frozen=True, slots=True)
class Path:
    """A column, or a place inside of it."""

    text: str

    def of(self, values: dict[str, Any], target: str) -> Any:
        """The value there. Raises `Unfit`."""
        if self.text in values:
            return values[self.text]
        at: Any = values
        for step in self.text.split("."):
            if isinstance(at, dict) and step in at:
                at = at[step]
            elif isinstance(at, list) and step.isascii() and step.isdecimal() and int(step) < len(at):
                at = at[int(step)]
            else:
                raise Unfit(
                    self.text, f"is not in the row (or an empty cell), and `fields` takes {target} from it"
                )
        return at


@dataclass(frozen=True, slots=True)
class Constant:
    """The same for every row."""

    value: Any = field(repr=False)


@dataclass(frozen=True, slots=True)
class Written:
    """A template of lm-eval's: a list that it writes out as Python does (`['a', 'b']`) is read as one."""

    template: Template

    def of(self, values: dict[str, Any]) -> Any:
        """The list, or else the text. Raises `TemplateError`."""
        text = self.template.render(values)
        if len(text) > _MAX_WRITTEN or not (text.lstrip().startswith("[") and text.rstrip().endswith("]")):
            return text
        with warnings.catch_warnings():  # Python's would quote the row
            warnings.simplefilter("ignore")
            try:
                return ast.literal_eval(text.strip())
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                return text


Rule = Path | Template | Written | Constant | tuple["Rule", ...]


@dataclass(frozen=True, slots=True)
class Mapping:
    """The rules by the sample's fields. Raises `ConfigError` for fields and rules that are none."""

    rules: dict[str, Rule]

    @classmethod
    def of(cls, fields: dict[str, Any]) -> Mapping:
        """From the suite's `fields`."""
        rules: dict[str, Rule] = {}
        for name, rule in fields.items():
            target = _ALIASES.get(name, name)
            kind, _, rest = target.partition(".")
            if target not in FIELDS | {_CHOICES} and not (kind == "metadata" and rest):
                known = ", ".join(sorted(FIELDS | {"metadata.NAME"}))
                raise ConfigError(
                    f"fields: {shown(name)} is not a field of a sample", hint=f"they are {known}"
                )
            if target in rules:
                raise ConfigError(f"fields: {target} is given twice")
            rules[target] = _lm_eval(name, rule) if name in (_TARGET, _CHOICES) else _rule(name, rule)
        if rules and not rules.keys() & {"input", "messages"}:
            raise ConfigError("fields: say where input (or messages) comes from")
        return cls(rules)

    def __call__(self, row: Row, file: str) -> dict[str, Any]:
        """The sample's fields for a row. Raises `Unfit` for the first rule that cannot be used with it.

        Without a rule for `id`, the row's own is taken, else its number.
        """
        if not isinstance(row.fields, dict):
            raise Unfit("line", "must be an object")
        values = {**row.fields, "_file": file, "_row": row.line}
        made: dict[str, Any] = {}
        for target, rule in self.rules.items():
            value = _value(rule, values, target)
            rest = target.partition(".")[2]
            if rest:
                made.setdefault("metadata", {})[rest] = value
            elif value is not None and value != "":
                made[target] = value
        if _CHOICES in made:
            _choose(made, named=isinstance(self.rules.get("reference"), Path | Constant))
        if isinstance(made.get("reference"), list) and "references" not in self.rules:
            made["references"] = made.pop("reference")
        made = {name: _texts(value) if name in _TEXTS else value for name, value in made.items()}
        if "id" not in self.rules:
            made["id"] = _texts(row.fields["id"]) if row.fields.get("id") else f"row-{row.line}"
        return made


def _lm_eval(name: str, rule: Any) -> Rule:
    """A rule of lm-eval's whose meaning there is its own."""
    if name == _TARGET and type(rule) is int:
        return Constant(rule)
    if name == _CHOICES and isinstance(rule, dict) and rule and set(rule) != {"value"}:
        rule = list(rule.values())
    if name == _CHOICES and isinstance(rule, list) and rule:
        if any(not isinstance(each, str | int | float) or is_template(str(each)) for each in rule):
            raise ConfigError(
                "fields: doc_to_choice as a list is the choices themselves, word for word",
                hint='for what stands in columns write a template: "{{ [a, b] }}"',
            )
        return Constant(rule)
    made = _rule(name, rule)
    return Written(made) if isinstance(made, Template) else made


def _rule(name: str, rule: Any) -> Rule:
    if isinstance(rule, dict) and set(rule) == {"value"}:
        return Constant(rule["value"])
    if isinstance(rule, list) and rule:
        return tuple(_rule(name, each) for each in rule)
    if not isinstance(rule, str) or not rule.strip():
        raise ConfigError(
            f"fields: {shown(name)} is a column, a path, a template, a list of these, or {{value: …}}"
        )
    if not is_template(rule):
        return Path(rule)
    try:
        return Template(rule)
    except TemplateError as error:
        raise ConfigError(f"fields: {shown(name)}: {error.message}", hint=error.hint) from None


def _value(rule: Rule, values: dict[str, Any], target: str) -> Any:
    if isinstance(rule, Constant):
        return rule.value
    if isinstance(rule, Path):
        return rule.of(values, target)
    if isinstance(rule, Template | Written):
        try:
            return rule.render(values) if isinstance(rule, Template) else rule.of(values)
        except TemplateError as error:
            raise Unfit(target, f"the template {error.message}") from None
    made: list[Any] = []
    for each in rule:
        value = _value(each, values, target)
        made += value if isinstance(value, list) else [value]
    return made


def _texts(value: Any) -> Any:
    """Numbers and truth values as text, as a text field wants them; everything else as it is."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    return [_texts(each) for each in value] if isinstance(value, list) else value


def _choose(made: dict[str, Any], *, named: bool) -> None:
    """Put the choice in the place of its number. `named`: a text may be the choice itself, as in a column."""
    choices = made.pop(_CHOICES)
    if not isinstance(choices, list) or not choices:
        raise Unfit(_CHOICES, "must give a list of choices, such as the column `choices` or ['yes', 'no']")
    made.setdefault("metadata", {})["choices"] = choices
    target = made.pop("reference", _UNLABELLED)
    if not _is_unlabelled(target, choices):
        made["reference"] = _picked(target, choices, named)


def _is_unlabelled(target: Any, choices: list[Any]) -> bool:
    """Tables of texts and templates have the number as a text, which may be a choice itself."""
    if isinstance(target, str):
        return target.strip() == str(_UNLABELLED) and target not in choices
    return bool(target == _UNLABELLED)


def _picked(target: Any, choices: list[Any], named: bool) -> Any:
    if isinstance(target, list):
        return [_picked(each, choices, named) for each in target]
    if isinstance(target, str):
        digits = target.strip()
        if not (digits.isdecimal() and digits.isascii()) or (named and target in choices):
            return target
        number = int((digits.lstrip("0") or "0")[:9])  # more of them only make it larger
    elif isinstance(target, int):
        number = target
    else:
        return target
    if 0 <= number < len(choices):
        return choices[number]
    said = f"choice {number}, and" if 0 <= number < 10_000 else "a choice that is not there:"
    raise Unfit("reference", f"picks {said} the row has {len(choices)}")
