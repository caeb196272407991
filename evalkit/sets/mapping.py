"""How a foreign row becomes the fields of a sample: by names, dotted paths and templates.

A rule is a column's name (`question`), a path into it (`answers.text.0`), a template over the columns
(`{{ question.strip() }}`), a list of these (their values one after another) or `{value: …}`, a constant.
`doc_to_text`, `doc_to_target` and `doc_to_choice` are lm-eval's words for the input, the reference and the
choices; where there are choices, a target that is a number picks one of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from evalkit.rows import Row, shown
from evalkit.sets.row import FIELDS
from evalkit.sets.template import Template, TemplateError, is_template
from guardrails.errors import ConfigError

_ALIASES = {"doc_to_text": "input", "doc_to_target": "reference"}
_CHOICES = "doc_to_choice"
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


Rule = Path | Template | Constant | tuple["Rule", ...]


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
            rules[target] = _rule(name, rule)
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
            kind, _, rest = target.partition(".")
            if rest:
                made.setdefault("metadata", {})[rest] = value
            elif value is not None and value != "":
                made[target] = _texts(value) if kind in _TEXTS else value
        if _CHOICES in made:
            _choose(made)
        if "id" not in self.rules:
            made["id"] = _texts(row.fields["id"]) if row.fields.get("id") else f"row-{row.line}"
        return made


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
    if isinstance(rule, Template):
        try:
            return rule.render(values)
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


def _choose(made: dict[str, Any]) -> None:
    choices = made.pop(_CHOICES)
    if not isinstance(choices, list) or not choices:
        raise Unfit(_CHOICES, "must give a list of choices")
    made.setdefault("metadata", {})["choices"] = choices
    target = made.get("reference")
    if isinstance(target, str) and target.strip().isdecimal() and target.isascii():
        digits = target.strip().lstrip("0") or "0"
        if len(digits) > 4:  # too many to quote, perhaps too many to read
            raise Unfit("reference", f"picks a choice that is not there: the row has {len(choices)}")
        if int(digits) >= len(choices):
            raise Unfit("reference", f"picks choice {digits}, and the row has {len(choices)}")
        made["reference"] = _texts(choices[int(digits)])
