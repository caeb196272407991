"""From a request to the events of a simulated answer, in the steps in which a model would write them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

from guardrails.call import Delta, Event, Finish, Request, Text, Tool, ToolHead, ToolResult, ToolUse, Usage
from guardrails.testing.answers import lorem
from guardrails.testing.profile import Profile

_PIECE = re.compile(r"\s?\S{1,6}|\s")


def pieces(text: str) -> list[str]:
    """Cut text into pieces of a token's size, about four characters on average; joined they are the text."""
    return _PIECE.findall(text)


@dataclass(frozen=True, slots=True)
class Composed:
    """An answer: `steps` hold the events of a decoding step each (one token of every choice), then `end`."""

    steps: tuple[tuple[Event, ...], ...] = field(repr=False)
    end: tuple[Finish, ...]
    usage: Usage

    def events(self) -> Iterator[Event]:
        """All events in order."""
        for step in self.steps:
            yield from step
        yield from self.end


def compose(request: Request, profile: Profile, texts: Sequence[str]) -> Composed:
    """What the simulated model answers, from one text a choice; `max_tokens`, `stop` and tools observed."""
    choices = [_choice(request, profile, text, number) for number, text in enumerate(texts)]
    steps = zip_longest(*(deltas for deltas, _ in choices))
    prompt = prompt_tokens(request)
    usage = Usage(
        input_tokens=prompt,
        output_tokens=sum(len(deltas) for deltas, _ in choices),
        cached_tokens=int(prompt * profile.cached),
        reasoning_tokens=sum(d.channel == "reasoning" for deltas, _ in choices for d in deltas),
    )
    last = len(choices) - 1
    end = tuple(
        Finish(reason, usage if profile.usage and number == last else None, number)
        for number, (_, reason) in enumerate(choices)
    )
    return Composed(tuple(tuple(d for d in step if d is not None) for step in steps), end, usage)


def prompt_tokens(request: Request) -> int:
    """Prompt tokens, estimated: four characters each, and three for every turn."""
    characters = 0
    for message in request.messages:
        characters += sum(_length(part) for part in message.parts)
    return 3 * len(request.messages) + math.ceil(characters / 4)


def _length(part: object) -> int:
    if isinstance(part, Text):
        return len(part.text)
    if isinstance(part, ToolUse):
        return len(part.arguments)
    if isinstance(part, ToolResult):
        return sum(_length(inner) for inner in part.parts)
    return 0


def _choice(request: Request, profile: Profile, text: str, number: int) -> tuple[list[Delta], str]:
    """One choice's tokens and its finish reason."""
    tool = _tool_to_call(request) if profile.tool_calls else None
    deltas = [Delta(piece, "reasoning", number) for piece in pieces(lorem(profile.reasoning))]
    reason = "stop"
    if tool is not None:
        deltas.append(Delta("", "tool:0", number, tool=ToolHead(f"call_sim{number}", tool.name)))
        deltas += (Delta(piece, "tool:0", number) for piece in pieces(json.dumps(example(tool.parameters))))
        reason = "tool_calls"
    else:
        kept = _until_stop(text, request.sampling.stop or ())
        deltas += [Delta(piece, "text", number) for piece in pieces(kept)]
    limit = request.sampling.max_tokens
    if limit is not None and len(deltas) > limit:
        return deltas[:limit], "length"
    return deltas, reason


def _until_stop(text: str, stops: tuple[str, ...]) -> str:
    found = [at for at in (text.find(stop) for stop in stops if stop) if at >= 0]
    return text[: min(found)] if found else text


def _tool_to_call(request: Request) -> Tool | None:
    """The tool to call: the one that is demanded, else the first, unless a result has just come in."""
    last = request.messages[-1] if request.messages else None
    answered = last is not None and (
        last.role == "tool" or any(isinstance(part, ToolResult) for part in last.parts)
    )
    if request.tool_choice == "none" or answered:
        return None
    wanted = (request.tool_choice or "").removeprefix("tool:")
    return next((t for t in request.tools if t.name == wanted), next(iter(request.tools), None))


def example(schema: Mapping[str, Any] | None, depth: int = 8) -> Any:
    """A small value that fits the common parts of a JSON schema, the same every time."""
    schema = schema if isinstance(schema, Mapping) else {}
    for key in ("const", "default"):
        if key in schema:
            return schema[key]
    if isinstance(schema.get("enum"), list) and schema["enum"]:
        return schema["enum"][0]
    kind = schema.get("type", "object" if "properties" in schema or depth == 8 else "string")
    if isinstance(kind, list):
        kind = next(iter(kind), "string")
    if kind == "object":
        properties = schema.get("properties")
        named = properties if isinstance(properties, Mapping) and depth > 0 else {}
        wanted = schema.get("required", list(named))
        return {name: example(named[name], depth - 1) for name in wanted if name in named}
    if kind == "array":
        return [example(schema.get("items"), depth - 1)] if depth > 0 else []
    return {"integer": 1, "number": 1.5, "boolean": True, "null": None}.get(str(kind), "example")
