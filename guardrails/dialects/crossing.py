"""Requests that leave the dialect they came in.

What has a word in `Request` is translated. What has none – a vendor's own field, a part that nobody here can
read – is named and refused: leaving it out would change what was asked, and nobody would notice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from guardrails.call import Json, Message, OpaquePart, Part, Request, ToolResult
from guardrails.errors import Refused

_TRANSPORT = frozenset({"stream_options"})
"""Fields about how to send the answer and not about what it says: every dialect sees to that itself."""


def crossed(request: Request, into: str) -> Request:
    """`request` without its dialect's spelling and without null fields. Raises `Refused` for what is left."""
    unsaid = [
        f"{name} (a field of {request.dialect})" for name in _said(request.extra) if name not in _TRANSPORT
    ]
    for place, tool in enumerate(request.tools):
        unsaid += [f"tools[{place}].{name}" for name in _said(tool.extra)]
    for place, message in enumerate(request.messages):
        unsaid += _unsaid(message, f"messages[{place}]")
    if unsaid:
        raise refuse(unsaid, into)
    return replace(
        request,
        messages=tuple(
            replace(message, parts=tuple(map(_bare, message.parts)), extra={}, form="")
            for message in request.messages
        ),
        tools=tuple(replace(tool, extra={}) for tool in request.tools),
        extra={},
        form="",
        dialect=into,
    )


def refuse(paths: list[str], into: str) -> Refused:
    """The error for a request that a dialect has no words for."""
    return Refused(
        f"{into} has no word for: {'; '.join(paths[:20])}{' and more' if len(paths) > 20 else ''}",
        kind="untranslatable",
        hint="leave these out of the request, or send it to an endpoint that speaks its own dialect",
    )


def _said(extra: Json) -> list[str]:
    return [name for name, value in extra.items() if value is not None]


def _unsaid(message: Message, path: str) -> Iterator[str]:
    for name in _said(message.extra):
        yield f"{path}.{name}"
    for place, part in enumerate(message.parts):
        yield from _unsaid_part(part, f"{path}.parts[{place}]")


def _unsaid_part(part: Part, path: str) -> Iterator[str]:
    if isinstance(part, OpaquePart):
        yield f"{path} (a part of unknown kind)"
        return
    for name in _said(part.extra):
        yield f"{path}.{name}"
    if isinstance(part, ToolResult):
        for place, inner in enumerate(part.parts):
            yield from _unsaid_part(inner, f"{path}.parts[{place}]")


def _bare(part: Part) -> Part:
    if isinstance(part, OpaquePart):
        return part
    if isinstance(part, ToolResult):
        inner = tuple(p if isinstance(p, OpaquePart) else replace(p, extra={}) for p in part.parts)
        return replace(part, parts=inner, extra={})
    return replace(part, extra={})
