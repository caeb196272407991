"""A whole answer, asked for with `stream: false`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from guardrails.call import Choice, Delta, Event, Finish, Opaque, fold_response, standing
from guardrails.dialects.failures import failure, said
from guardrails.dialects.openai_chat.answers import NAME, events_of
from guardrails.dialects.openai_chat.writing import rewrite, usage_to
from guardrails.dialects.wire import Unreadable, malformed, untranslatable


def decode_response(body: Mapping[str, Any]) -> tuple[list[Event], str | None, str | None]:
    """A whole answer as (events, model, response id)."""
    raw = dict(body)
    if raw.get("error"):
        raise failure(said(raw["error"]), place=" in its body")
    if type(raw.get("choices")) is not list:
        raise malformed("a chat completion with `choices`")
    try:
        events = events_of(raw, "message", final_usage=True)
    except Unreadable as reason:
        expected = str(reason)
    else:
        model, known_id = raw.get("model"), raw.get("id")
        return events, model if type(model) is str else None, known_id if type(known_id) is str else None
    raise malformed(expected)


def encode_response(
    events: Iterable[Event], *, response_id: str, created: int, model: str = ""
) -> dict[str, Any]:
    """A whole answer out of events."""
    events = standing(events)
    origin = events[0].origin if events else None
    if origin is not None and origin.dialect == NAME and all(event.origin is origin for event in events):
        raw = rewrite(origin.raw, events, "message")
        if raw is not None:
            return dict(raw)
    for event in events:
        if type(event) is Opaque and not event.structural and event.dialect != NAME:
            raise untranslatable(f"an event of {event.dialect or 'no dialect'}", NAME)
    envelope: dict[str, Any] = {"id": response_id, "created": created, "model": model}
    if origin is not None and origin.dialect == NAME:
        envelope = {key: origin.raw.get(key, value) for key, value in envelope.items()}
    response = fold_response(events)
    numbers = sorted({number for event in events if (number := _choice_of(event)) is not None})
    choices = [_whole(number, choice) for number, choice in zip(numbers, response.choices, strict=True)]
    body = {"object": "chat.completion", **envelope, "choices": choices}
    if response.usage is not None:
        body["usage"] = usage_to(response.usage)
    return body


def _choice_of(event: Event) -> int | None:
    if isinstance(event, Delta) or (isinstance(event, Finish) and event.reason is not None):
        return event.choice
    return None


def _whole(number: int, choice: Choice) -> dict[str, Any]:
    message: dict[str, Any] = {
        "role": "assistant",
        "content": choice.text or None,
        "refusal": choice.refusal or None,
    }
    if not (choice.tool_calls or choice.refusal):
        message["content"] = choice.text
    if choice.reasoning:
        message["reasoning_content"] = choice.reasoning
    if choice.tool_calls:
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in choice.tool_calls
        ]
    return {
        "index": number,
        "message": message,
        "logprobs": choice.logprobs[0] if len(choice.logprobs) == 1 else None,
        "finish_reason": choice.finish_reason,
    }
