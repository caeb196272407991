"""Samples of OpenAI's evals: `{"input": [messages] or text, "ideal": text or texts}`, a row a line."""

from __future__ import annotations

from typing import Any

from evalkit.rows import Row
from evalkit.sets.mapping import Unfit

_EXAMPLES = {"example_user": "user", "example_assistant": "assistant"}


def adapt(row: Row, file: str) -> Any:
    """The row's fields as ours; what is neither input nor ideal goes to metadata. Raises `Unfit`.

    A system message named `example_user` or `example_assistant` is that role's turn of a worked example.
    """
    fields = row.fields
    if not isinstance(fields, dict):
        return fields
    if "input" not in fields:
        raise Unfit("input", "is missing: a sample of OpenAI's evals has input and ideal")
    made: dict[str, Any] = {"id": fields.get("id", f"row-{row.line}")}
    given = fields["input"]
    made["messages" if isinstance(given, list) else "input"] = (
        [_turn(each) for each in given] if isinstance(given, list) else given
    )
    if fields.get("ideal") is not None:
        made["references"] = fields["ideal"]
    made["tags"] = fields.get("tags", [])
    rest = {name: value for name, value in fields.items() if name not in ("id", "input", "ideal", "tags")}
    if rest:
        made["metadata"] = rest
    return made


def _turn(turn: Any) -> Any:
    if not isinstance(turn, dict):
        return turn
    plain = {name: value for name, value in turn.items() if name != "name"}
    if turn.get("role") == "system" and isinstance(turn.get("name"), str) and turn["name"] in _EXAMPLES:
        plain["role"] = _EXAMPLES[turn["name"]]
    return plain
