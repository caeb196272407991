"""A whole answer, asked for with `stream: false`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from guardrails.call import Delta, Event, Finish, Json, Opaque, Origin, ToolHead, fold_response, standing
from guardrails.dialects.anthropic.answers import reason_of, reason_to, usage_of, usage_to
from guardrails.dialects.anthropic.requests import NAME, read_arguments, write_arguments
from guardrails.dialects.failures import failure, said
from guardrails.dialects.wire import malformed, untranslatable


def decode_response(body: Mapping[str, Any]) -> tuple[list[Event], str | None, str | None]:
    """A whole answer as (events, model, response id)."""
    if body.get("type") == "error" or body.get("error"):
        raise failure(said(body.get("error")), place=" in its body")
    content = body.get("content")
    if type(content) is not list or not all(type(block) is dict for block in content):
        raise malformed("a message with `content` as a list of blocks")
    events = _events_of(body)
    model, known_id = body.get("model"), body.get("id")
    return events, model if type(model) is str else None, known_id if type(known_id) is str else None


def _events_of(raw: Json) -> list[Event]:
    origin = Origin(raw, NAME)
    events: list[Event] = []
    tools = 0
    for block in raw["content"]:
        kind, spoken = block.get("type"), _spoken(block)
        if spoken is None:
            if kind not in ("text", "thinking") or not _is_silent(block):
                events.append(Opaque(block, NAME, structural=False, origin=origin))
        elif kind == "tool_use":
            head = ToolHead(block["id"], block["name"])
            events.append(Delta(spoken, f"tool:{tools}", tool=head, origin=origin))
            tools += 1
        else:
            events.append(Delta(spoken, "text" if kind == "text" else "reasoning", origin=origin))
            beside = {key: value for key, value in block.items() if key not in ("type", kind) and value}
            if beside:
                events.append(Opaque({"type": kind, **beside}, NAME, structural=False, origin=origin))
    events.append(Finish(reason_of(raw.get("stop_reason")), usage_of(raw.get("usage")), origin=origin))
    object.__setattr__(origin, "parts", len(events))  # known only now, and nobody has seen it yet
    return events


def _spoken(block: Json) -> str | None:
    """The text of a block; None when it has none that is ours."""
    kind = block.get("type")
    if kind in ("text", "thinking"):
        text = block.get(kind)
        return text if type(text) is str and text else None
    if kind == "tool_use" and type(block.get("id")) is str and type(block.get("name")) is str:
        return write_arguments(block.get("input"))
    return None


def _is_silent(block: Json) -> bool:
    return not any(value for key, value in block.items() if key != "type")


def encode_response(events: Iterable[Event], *, response_id: str, model: str) -> dict[str, Any]:
    """A whole answer out of events."""
    events = standing(events)
    origin = events[0].origin if events else None
    own = origin if origin is not None and origin.dialect == NAME else None
    if own is not None and all(event.origin is own for event in events):
        raw = _rewrite(own.raw, events)
        if raw is not None:
            return dict(raw)
    for event in events:
        if isinstance(event, Opaque) and not event.structural and event.dialect != NAME:
            raise untranslatable(f"an event of {event.dialect or 'no dialect'}", NAME)
        if isinstance(event, Delta | Finish) and event.choice:
            raise untranslatable("a second choice", NAME)
    response = fold_response(events)
    envelope = {"id": response_id, "model": model}
    if own is not None:
        envelope = {key: own.raw.get(key, value) for key, value in envelope.items()}
    choice = response.choices[0] if response.choices else None
    content: list[dict[str, Any]] = []
    if choice is not None:
        if choice.refusal:
            raise untranslatable("the channel 'refusal'", NAME)
        if choice.reasoning:
            content.append({"type": "thinking", "thinking": choice.reasoning, "signature": ""})
        if choice.text:
            content.append({"type": "text", "text": choice.text})
        for call in choice.tool_calls:
            block = {"type": "tool_use", "id": call.id, "name": call.name, "input": _input(call.arguments)}
            content.append(block)
    return {
        **envelope,
        "type": "message",
        "role": "assistant",
        "content": content,
        "stop_reason": reason_to(choice.finish_reason if choice else None),
        "stop_sequence": None,
        "usage": usage_to(response.usage),
    }


def _rewrite(raw: Json, events: Sequence[Event]) -> Json | None:
    """`raw` saying what `events` say now; None when they are no longer its own in kind and order."""
    was = _events_of(raw)
    if len(was) != len(events):
        return None
    texts: list[str] = []
    for old, new in zip(was, events, strict=True):
        if isinstance(old, Delta) and isinstance(new, Delta):
            if (old.channel, old.tool) != (new.channel, new.tool):
                return None
            texts.append(new.text)
        elif old != new:
            return None
    spoken = iter(texts)
    return {**raw, "content": [_rewritten(block, spoken) for block in raw["content"]]}


def _rewritten(block: dict[str, Any], spoken: Any) -> dict[str, Any]:
    old = _spoken(block)
    if old is None:
        return block
    new = next(spoken)
    if new == old:
        return block
    kind = block["type"]
    if kind == "tool_use":
        return {"type": kind, "id": block["id"], "name": block["name"], "input": _input(new)}
    # What else the block holds, citations or a signature, belongs to the old text.
    return {"type": kind, kind: new, **({"signature": ""} if kind == "thinking" else {})}


def _input(arguments: str) -> dict[str, Any]:
    value = read_arguments(arguments)
    if value is None:
        raise untranslatable("a tool call whose arguments are no JSON object", NAME)
    return value
