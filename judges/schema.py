"""The `json_schema` judge: the answer is JSON, and the JSON fits a schema (see `guardrails.schema`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import re2

from guardrails.schema import Schema, TooManySteps
from judges.judge import Answer, Question, Score, unfit

_FENCE = re2.compile(r"(?m)^[ \t]{0,3}(?:```|~~~)[^\n]*$")


@dataclass(frozen=True, slots=True)
class JsonSchema:
    """Passes when the answer is a JSON value that fits `schema` (draft 2020-12 unless it names another).

    With `fence`, an answer that holds one Markdown code block is judged by what the block holds. The value is
    1 or 0. Reasons name the rule in the schema that was broken, never the answer's own keys and values.
    """

    schema: Mapping[str, Any]
    fence: bool = True
    name: str = "json_schema"
    _schema: Schema = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_schema", Schema(self.schema))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (dict(self.schema), self.fence, self.name)

    def check(self, question: Question, /) -> str | None:
        """Never complains: the schema is the whole reference."""
        return None

    async def __call__(self, question: Question, answer: Answer, /) -> Score:
        """Reads the answer as JSON and applies the schema."""
        if (failed := unfit(self, question, answer)) is not None:
            return failed
        try:
            complaint = self._schema.complaint(unfenced(answer.text) if self.fence else answer.text)
        except TooManySteps:
            return Score.unjudged("schema", "the schema takes too many steps on this answer")
        return Score.verdict(complaint is None, complaint or "fits the schema")


def unfenced(answer: str) -> str:
    """What stands between the fences, when there is one block; else the whole answer."""
    text = answer.encode("utf-8", "replace").decode()
    fences = list(islice(_FENCE.finditer(text), 3))
    return text[fences[0].end() : fences[1].start()] if len(fences) == 2 else text
