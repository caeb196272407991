"""Where text can hide in a request and in a tool call's arguments.

Arguments are JSON, and JSON hides text: `j\\u0040acme.com` is an address, `\\njo@acme.com` is not one that
starts with an n, and a number has no quotes for a mark to stand in. So the values are looked at as they will
be read, and each value with a finding is written anew; every other character stays as the model wrote it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from typing import Any, Protocol

from guardrails.call import (
    Image,
    Message,
    OpaquePart,
    Part,
    Reasoning,
    Request,
    Text,
    Tool,
    ToolResult,
    ToolUse,
)
from guardrails.filters.detector import UNSCANNABLE, Edit, Finding, Mark, apply

Scan = Callable[[str], list[Finding]]
Rewrite = Callable[[str, str], str]  # of a text and of who speaks


class RewriteRun(Protocol):
    """Of texts that a reader takes for one, and of who speaks."""

    def __call__(self, texts: Sequence[str], /, role: str) -> Sequence[str]: ...  # noqa: D102 - as above


_VALUE = re.compile(r'"(?:[^"\\]|\\.)*"|-?\d[-+.\deE]*')
_BETWEEN = " ; "  # no pattern goes on across it, and a key still lends its value context


@dataclass(frozen=True, slots=True)
class Arguments:
    """A tool call's arguments, as they are looked at: keys, strings and numbers, joined in their order.

    What is not JSON is looked at as the plain text that it is, unless escapes could hide something in it:
    then it is `unreadable`, and all of it is one `UNSCANNABLE` finding.
    """

    looked: str = field(repr=False)
    unreadable: bool = False
    _size: int = 0
    _tokens: tuple[tuple[int, int, str], ...] | None = field(default=None, repr=False)

    @classmethod
    def of(cls, text: str) -> Arguments:
        """Read the arguments, whole or not."""
        if not is_json(text):
            return cls(text, "\\u" in text, len(text))
        spans = [(m.start(), m.end(), m.group()) for m in _VALUE.finditer(text)]
        tokens = tuple((a, b, json.loads(token) if token[0] == '"' else token) for a, b, token in spans)
        return cls(_BETWEEN.join(value for _, _, value in tokens), False, len(text), tokens)

    def found(self, findings: list[Finding]) -> list[Finding]:
        """The findings of `looked`, or the one of what cannot be looked at."""
        return [Finding(UNSCANNABLE, 0, self._size, 1.0, "json")] if self.unreadable else findings

    def edits(self, marks: Sequence[Edit]) -> list[Edit]:
        """How the arguments change when `looked` is edited by `marks`; JSON stays JSON."""
        if self.unreadable:
            return [Edit(0, self._size, json.dumps(mark.text)) for mark in marks]
        if self._tokens is None:
            return list(marks)
        edits, at, first = [], 0, 0
        for start, end, value in self._tokens:
            while first < len(marks) and marks[first].end <= at:
                first += 1
            if first == len(marks):
                break
            if marks[first].start < at + len(value):
                last = first
                while last < len(marks) and marks[last].start < at + len(value):
                    last += 1
                edits.append(Edit(start, end, json.dumps(apply(value, marks[first:last], at))))
            at += len(value) + len(_BETWEEN)
        return edits


def json_edits(text: str, scan: Scan, mark: Mark) -> tuple[list[Edit], list[Finding]]:
    """What to change in a JSON text so that it holds no finding and is still JSON, and the findings.

    The positions of the findings are those in `Arguments.looked`.
    """
    arguments = Arguments.of(text)
    findings = arguments.found(scan(arguments.looked))
    return arguments.edits([Edit(f.start, f.end, mark(f)) for f in findings]), findings


def is_json(text: str) -> bool:
    """Whether the text is one JSON value, whole."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def rewrite(
    request: Request, text: Rewrite, arguments: Callable[[str], str], run: RewriteRun | None = None
) -> Request:
    """The request with each text and each tool call's arguments passed through a function.

    `run` gets texts that follow each other in one message, two or more; without it, each is by itself.

    `text` is told who speaks: the turn's role, `tool` for the texts of a tool's result, and `system` for what
    the application wrote elsewhere (descriptions of tools, stop sequences). Covered: text and reasoning of
    every turn, and all of these. What does not change stays the same object. Reasoning that changes is left
    out when its vendor signed it: with other words under the signature, the request would be refused.
    """

    def part(old: Part, role: str) -> Part | None:
        match old:
            case Text() | Reasoning():
                new = text(old.text, role)
                if new == old.text:
                    return old
                return None if isinstance(old, Reasoning) and old.extra else replace(old, text=new)
            case ToolUse():
                new = arguments(old.arguments)
                return old if new == old.arguments else replace(old, arguments=new)
            case ToolResult():
                # A tool result holds texts, images and opaque parts only.
                parts = each(old.parts, "tool")
                return old if parts == old.parts else replace(old, parts=parts)  # type: ignore[arg-type]
            case Image() | OpaquePart():
                return old

    def each(parts: Sequence[Part], role: str) -> tuple[Part, ...]:
        together = None if run is None else partial(run, role=role)
        return tuple(_each(parts, partial(part, role=role), together))

    def message(old: Message) -> Message | None:
        parts = each(old.parts, old.role)
        if parts == old.parts:
            return old
        return replace(old, parts=parts) if parts else None  # nothing but what it was thinking

    def tool(old: Tool) -> Tool:
        new = old.description and text(old.description, "system")
        return old if new == old.description else replace(old, description=new)

    stop = request.sampling.stop
    changed = replace(
        request,
        messages=tuple(new for old in request.messages if (new := message(old)) is not None),
        tools=tuple(tool(old) for old in request.tools),
        sampling=replace(request.sampling, stop=stop and tuple(text(word, "system") for word in stop)),
    )
    return request if changed == request else changed


def _each(
    parts: Sequence[Part],
    part: Callable[[Part], Part | None],
    run: Callable[[Sequence[str]], Sequence[str]] | None,
) -> Iterator[Part]:
    for is_text, group in groupby(parts, key=lambda one: isinstance(one, Text)):
        those: list[Any] = list(group)
        if is_text and run is not None and len(those) > 1:
            for old, new in zip(those, run([one.text for one in those]), strict=True):
                yield old if new == old.text else replace(old, text=new)
        else:
            yield from filter(None, map(part, those))


def unscanned(request: Request) -> list[str]:
    """What of this request `rewrite` does not show to anybody, in a word each.

    `image`; `opaque` for parts in a vendor's words; `extra` for a vendor's fields; `tool_parameters` for the
    schemas of tools, in which a mark would break more than it hides.
    """
    parts: list[Part] = [part for message in request.messages for part in message.parts]
    parts += [inner for part in parts if isinstance(part, ToolResult) for inner in part.parts]
    extras = [request.extra, *(m.extra for m in request.messages), *(t.extra for t in request.tools)]
    extras += [part.extra for part in parts if not isinstance(part, OpaquePart)]
    kinds = {
        "image": any(isinstance(part, Image) for part in parts),
        "opaque": any(isinstance(part, OpaquePart) for part in parts),
        "extra": any(extras),
        "tool_parameters": any(tool.parameters for tool in request.tools),
    }
    return [kind for kind, there in kinds.items() if there]
