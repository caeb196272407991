"""One chunk, or one whole answer, as events and back.

A chunk and a whole answer have the same skeleton – choices that hold a `delta` or a `message` – so both are
read and rewritten here; `part` is which of the two words applies.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from guardrails.call import Delta, Event, Finish, Opaque, Origin, ToolHead, Usage
from guardrails.dialects.wire import Unreadable, count

NAME = "openai_chat"

_TEXTS = {"content": "text", "reasoning_content": "reasoning", "reasoning": "reasoning", "refusal": "refusal"}
_READ = frozenset({"role", "tool_calls", *_TEXTS})
_ENVELOPE = ("id", "object", "created", "model", "system_fingerprint", "service_tier", "provider", "usage")


def events_of(raw: dict[str, Any], part: str, *, final_usage: bool) -> list[Event]:
    """The events of a chunk (`part` "delta") or of a whole answer ("message"), all of one origin.

    `final_usage` is whether the usage in it, if any, is the answer's and not a running count.
    Raises `Unreadable`.
    """
    origin = Origin(raw, NAME)
    choices = raw.get("choices")
    if type(choices) is not list:
        if choices is not None:
            raise Unreadable("`choices` as a list")
        return [Opaque(raw, NAME, structural=False, origin=origin)]
    events: list[Event] = []
    for position, choice in enumerate(choices):
        if type(choice) is not dict:
            raise Unreadable("every choice as an object")
        _read_choice(choice, position, part, origin, events)
    if final_usage and type(raw.get("usage")) is dict:
        _add_usage(usage_of(raw["usage"]), origin, events)
    if not events:
        return [Opaque(raw, NAME, origin=origin)]
    if len(events) > 1:
        object.__setattr__(origin, "parts", len(events))  # known only now, and nobody has seen it yet
    return events


def index_of(choice: dict[str, Any], position: int) -> int:
    """The number of a choice: its `index`, or else its place in the list."""
    index = choice.get("index", position)
    return index if type(index) is int and index >= 0 else position


def _read_choice(
    choice: dict[str, Any], position: int, part: str, origin: Origin, events: list[Event]
) -> None:
    number = index_of(choice, position)
    delta = choice.get(part)
    if type(delta) is not dict:
        if delta is not None:
            raise Unreadable(f"`{part}` as an object")
        delta = {}
    logprobs = choice.get("logprobs")
    unread: dict[str, Any] = {}
    for key, value in delta.items():
        channel = _TEXTS.get(key)
        if channel is not None and type(value) is str:
            if not value or (key == "reasoning" and delta.get("reasoning_content") == value):
                continue
            events.append(Delta(value, channel, number, logprobs if key == "content" else None, None, origin))
        elif key == "tool_calls" and type(value) is list:
            _read_tools(value, number, origin, events, unread)
        elif key != "role" and value:
            unread[key] = value
    if unread:
        events.append(Opaque(unread, NAME, structural=False, origin=origin))
    reason = choice.get("finish_reason")
    if type(reason) is str and reason:
        events.append(Finish(reason, None, number, origin))


def _read_tools(
    calls: list[Any], number: int, origin: Origin, events: list[Event], unread: dict[str, Any]
) -> None:
    for position, call in enumerate(calls):
        function = call.get("function") if type(call) is dict else None
        if type(function) is not dict:
            unread.setdefault("tool_calls", []).append(call)
            continue
        arguments, name, known_id = function.get("arguments"), function.get("name"), call.get("id")
        if arguments is not None and type(arguments) is not str:
            unread.setdefault("tool_calls", []).append(call)
            continue
        # Some servers repeat the id with every piece; only the name marks the head of a call.
        head = (
            ToolHead(known_id if type(known_id) is str else "", name) if type(name) is str and name else None
        )
        if head is not None or arguments:
            channel = f"tool:{index_of(call, position)}"
            events.append(Delta(arguments or "", channel, number, None, head, origin))


def _add_usage(usage: Usage, origin: Origin, events: list[Event]) -> None:
    last = events[-1] if events else None
    if type(last) is Finish:
        events[-1] = Finish(last.reason, usage, last.choice, origin)
    else:
        events.append(Finish(None, usage, 0, origin))


def usage_of(raw: dict[str, Any]) -> Usage:
    """A vendor's usage object as ours. Anything that is not a count is 0."""
    prompt, completion = raw.get("prompt_tokens_details"), raw.get("completion_tokens_details")
    cost: Any = raw.get("cost")
    return Usage(
        input_tokens=count(raw, "prompt_tokens"),
        output_tokens=count(raw, "completion_tokens"),
        cached_tokens=count(prompt, "cached_tokens"),
        reasoning_tokens=count(completion, "reasoning_tokens"),
        # OpenRouter reports what the call cost; through str, so that 0.1 stays 0.1.
        cost=Decimal(str(cost)) if type(cost) in (int, float) and cost >= 0 else None,
    )


def usage_to(usage: Usage) -> dict[str, Any]:
    """Our usage in the vendor's words."""
    raw: dict[str, Any] = {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }
    if usage.cost is not None:
        raw["cost"] = float(usage.cost)
    return raw


# --- and back ----------------------------------------------------------------------------------------------


def rewrite(raw: dict[str, Any], events: Sequence[Event], part: str) -> dict[str, Any] | None:
    """`raw` saying what `events`, its own, say now; None when they are no longer its own in kind and order.

    Untouched events give `raw` itself. Where a text was replaced, everything in that choice that we cannot
    read is left out: it may say the old text in another way, as token ids, log probabilities and
    `reasoning_details` do.
    """
    was = events_of(raw, part, final_usage=any(type(event) is Finish and event.usage for event in events))
    if len(was) != len(events):
        return None
    touched: dict[int, dict[str, Delta]] = {}
    for old, new in zip(was, events, strict=True):
        if type(old) is Delta and type(new) is Delta:
            if old.channel != new.channel or old.choice != new.choice or old.tool != new.tool:
                return None
            if old.text != new.text or old.logprobs is not new.logprobs:
                touched.setdefault(new.choice, {})
        elif type(old) is not type(new) or old != new:
            return None
    if not touched:
        return raw
    for new in events:
        if type(new) is Delta and new.choice in touched:
            touched[new.choice][new.channel] = new
    same_logprobs = {
        new.choice
        for old, new in zip(was, events, strict=True)
        if type(old) is Delta and type(new) is Delta and new.channel == "text" and old.text == new.text
    }
    body = {key: raw[key] for key in _ENVELOPE if key in raw}
    body["choices"] = [
        _rewritten(choice, position, part, touched, same_logprobs)
        for position, choice in enumerate(raw["choices"])
    ]
    return body


def _rewritten(
    choice: dict[str, Any], position: int, part: str, touched: dict[int, dict[str, Delta]], same: set[int]
) -> dict[str, Any]:
    number = index_of(choice, position)
    if number not in touched:
        return choice
    texts = touched[number]
    delta: dict[str, Any] = {}
    for key, value in choice[part].items():
        channel = _TEXTS.get(key)
        if channel is not None and channel in texts and value:
            delta[key] = texts[channel].text
        elif key == "tool_calls" and type(value) is list:
            delta[key] = [_rewritten_call(call, place, texts) for place, call in enumerate(value)]
        elif (key in _READ and not value) or key == "role":
            delta[key] = value
    # A replaced text has no log probabilities of its own, unless the event brings some.
    text = texts.get("text")
    kept = text is not None and (number in same or text.logprobs is not choice.get("logprobs"))
    return {
        **({"index": choice["index"]} if "index" in choice else {}),
        part: delta,
        "logprobs": text.logprobs if kept and text is not None else None,
        "finish_reason": choice.get("finish_reason"),
    }


def _rewritten_call(call: dict[str, Any], position: int, texts: dict[str, Delta]) -> dict[str, Any]:
    new = texts.get(f"tool:{index_of(call, position)}")
    function = call["function"]
    if new is None or not (function.get("arguments") or new.text):
        return call
    return {**call, "function": {**function, "arguments": new.text}}
