"""promptfoo's tests as a table: a column for each variable, and `__expected` with its siblings.

A cell of `__expected` (`__expected1`, …) is `type: value`, `type(threshold): value`, or else the text that
the answer equals. `__description` and `__metadata:NAME` (`NAME[]`: split at commas) are kept; `__metric` says
nothing of the verdict.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from evalkit.rows import shown
from evalkit.sets.promptfoo_asserts import ASSERTIONS, Loc, Told, Written
from evalkit.sets.template_work import words

_OTHERS = words(
    "agent-rubric answer-relevance bleu classifier contains-html contains-json contains-sql contains-xml "
    "context-faithfulness context-recall context-relevance conversation-relevance factuality finish-reason "
    "g-eval gleu guardrails is-html is-sql is-valid-function-call is-valid-openai-function-call "
    "is-valid-openai-tools-call is-xml javascript levenshtein llm-rubric meteor model-graded-closedqa "
    "model-graded-factuality moderation perplexity-score pi python ruby rouge-n search-rubric skill-used "
    "similar tool-call-f1 trace-error-spans trace-span-count trace-span-duration trajectory:goal-success "
    "trajectory:step-count trajectory:tool-args-match trajectory:tool-sequence trajectory:tool-used webhook "
    "word-count"
)
"""Names that have no counterpart: a text that begins with one is that assertion, and no answer."""

_NAMED = re.compile(
    rf"(?P<type>(?:not-)?(?:{'|'.join(map(re.escape, sorted(ASSERTIONS | _OTHERS)))}))"
    r"(?:\((?P<threshold>\d+(?:\.\d+)?)\))?(?::(?P<value>.*))?",
    re.DOTALL,
)
_ALIASES = {"fn:": "javascript", "eval:": "javascript", "grade:": "llm-rubric"}
_SCRIPT = re.compile(r"file://.*\.(?P<suffix>py|js|ts)(?::.*)?", re.DOTALL)
_COMMA = re.compile(r"(?<!\\),")


def parsed(cells: Mapping[str, str], loc: Loc, told: Told) -> tuple[dict[str, Any], list[Written]]:
    """A row's test without its assertions, and these."""
    made: dict[str, Any] = {"vars": {}, "metadata": {}}
    written: list[Written] = []
    for name, cell in cells.items():
        if not name.startswith("__"):
            made["vars"][name] = cell
        elif not cell.strip() or name == "__metric":
            continue
        elif name.startswith("__expected"):
            written.append((name, loc, asserted(cell.strip())))
        elif name == "__description":
            made["description"] = cell
        elif name == "__threshold":
            made["threshold"] = _number(cell)
        elif name.startswith("__metadata:"):
            key = name.removeprefix("__metadata:")
            made["metadata"][key.removesuffix("[]")] = _list(cell) if key.endswith("[]") else cell
        else:
            told(loc, shown(name), "is a column of promptfoo's that has no counterpart here: leave it out")
    return made, written


def asserted(cell: str) -> dict[str, Any]:
    """The assertion that a cell of `__expected` writes in short."""
    if (
        kind := next((kind for prefix, kind in _ALIASES.items() if cell.startswith(prefix)), None)
    ) is not None:
        return {"type": kind}
    if (script := _SCRIPT.fullmatch(cell)) is not None:
        return {"type": "python" if script["suffix"] == "py" else "javascript"}
    if (named := _NAMED.fullmatch(cell)) is None:
        return {"type": "equals", "value": cell}
    made: dict[str, Any] = {"type": named["type"]}
    if named["value"] is not None:
        made["value"] = named["value"].strip()
    if named["threshold"] is not None:
        made["threshold"] = float(named["threshold"])
    return made


def _number(cell: str) -> float | str:
    try:
        return float(cell)
    except ValueError:
        return cell


def _list(cell: str) -> list[str]:
    return [part.strip().replace("\\,", ",") for part in _COMMA.split(cell)]
