"""One chunk, or one whole answer, as events.

A chunk and a whole answer have the same skeleton – choices that hold a `delta` or a `message` – so both are
read here; `part` is which of the two words applies.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from guardrails.call import Delta, Event, Finish, Json, Opaque, Origin, ToolHead, Usage
from guardrails.dialects.wire import Unreadable, entry, is_number
from guardrails.usage import MOST_USD, is_count, sound

NAME = "openai_chat"

TEXTS = {"content": "text", "reasoning_content": "reasoning", "reasoning": "reasoning", "refusal": "refusal"}


def events_of(raw: Json, part: str, *, final_usage: bool) -> list[Event]:
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


def _setters(kind: type) -> dict[str, Callable[[Any, Any], None]]:
    return {name: getattr(kind, name).__set__ for name in kind.__slots__}  # type: ignore[attr-defined]


_DELTA, _ORIGIN = _setters(Delta), _setters(Origin)


def _text_delta(
    text: str,
    number: int,
    logprobs: Any,
    raw: Json,
    *,
    new: Callable[..., Any] = object.__new__,
    set_text: Callable[[Any, Any], None] = _DELTA["text"],
    set_channel: Callable[[Any, Any], None] = _DELTA["channel"],
    set_choice: Callable[[Any, Any], None] = _DELTA["choice"],
    set_logprobs: Callable[[Any, Any], None] = _DELTA["logprobs"],
    set_tool: Callable[[Any, Any], None] = _DELTA["tool"],
    set_origin: Callable[[Any, Any], None] = _DELTA["origin"],
    set_raw: Callable[[Any, Any], None] = _ORIGIN["raw"],
    set_dialect: Callable[[Any, Any], None] = _ORIGIN["dialect"],
    set_parts: Callable[[Any, Any], None] = _ORIGIN["parts"],
) -> Delta:
    """`Delta(text, "text", number, logprobs, None, Origin(raw, NAME))`, without what frozen classes cost.

    Their `__init__` goes through `object.__setattr__` by name; the slots' own setters take half the time, and
    this is the one place where that is a sixth of all that decoding costs.
    """
    origin = new(Origin)
    set_raw(origin, raw)
    set_dialect(origin, NAME)
    set_parts(origin, 1)
    delta: Delta = new(Delta)
    set_text(delta, text)
    set_channel(delta, "text")
    set_choice(delta, number)
    set_logprobs(delta, logprobs)
    set_tool(delta, None)
    set_origin(delta, origin)
    return delta


def plain_delta(chunk: Json) -> Delta | None:
    """What `events_of` gives for a chunk with nothing but text, as nearly all are; else None."""
    try:
        (choice,) = chunk["choices"]
        delta, number = choice["delta"], choice["index"]
        text = delta["content"]
        if (
            type(text) is not str
            or not text
            or len(delta) != 1
            or type(number) is not int
            or number < 0
            or choice.get("finish_reason") is not None
            or chunk.get("usage") is not None
            or "error" in chunk
        ):
            return None
        return _text_delta(text, number, choice.get("logprobs"), chunk)
    except (KeyError, ValueError, TypeError):
        return None


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
        channel = TEXTS.get(key)
        if channel is not None and type(value) is str:
            if not value or repeats(key, delta):
                continue
            events.append(Delta(value, channel, number, logprobs if key == "content" else None, None, origin))
        elif key == "tool_calls" and type(value) is list:
            _read_calls(value, number, origin, events, unread)
        elif key != "role" and value:
            unread[key] = value
    if unread:
        # Spelled as a chunk of its own, so that it can stand alone when its neighbours are changed.
        alone = {"choices": [{"index": number, part: unread}]}
        events.append(Opaque(alone, NAME, structural=False, origin=origin))
    reason = choice.get("finish_reason")
    if type(reason) is str and reason:
        events.append(Finish(reason, None, number, origin))


def _read_calls(
    calls: list[Any], number: int, origin: Origin, events: list[Event], unread: dict[str, Any]
) -> None:
    for position, call in enumerate(calls):
        told = call_of(call)
        if told is None:
            unread.setdefault("tool_calls", []).append(call)
            continue
        arguments, head = told
        if head is not None or arguments:
            channel = f"tool:{index_of(call, position)}"
            events.append(Delta(arguments, channel, number, None, head, origin))


def call_of(call: Any) -> tuple[str, ToolHead | None] | None:
    """The arguments and the head in one entry of `tool_calls`; None for an entry of unknown shape."""
    function = call.get("function") if type(call) is dict else None
    if type(function) is not dict:
        return None
    arguments, name, known_id = function.get("arguments"), function.get("name"), call.get("id")
    if arguments is not None and type(arguments) is not str:
        return None
    # Some servers repeat the id with every piece; only the name marks the head of a call.
    if type(name) is not str or not name:
        return arguments or "", None
    return arguments or "", ToolHead(known_id if type(known_id) is str else "", name)


def repeats(key: str, delta: dict[str, Any]) -> bool:
    """Whether this key says once more what another says: some servers send the thinking under two names."""
    return key == "reasoning" and type(delta[key]) is str and delta.get("reasoning_content") == delta[key]


def _add_usage(usage: Usage, origin: Origin, events: list[Event]) -> None:
    last = events[-1] if events else None
    if type(last) is Finish:
        events[-1] = Finish(last.reason, usage, last.choice, origin)
    else:
        events.append(Finish(None, usage, 0, origin))


def usage_of(raw: dict[str, Any]) -> Usage:
    """A vendor's usage object as ours. Anything that cannot be a count is 0 (`sound`).

    Some count what a model thought in the total alone (xAI): it is paid as output, and so it is output here.
    """
    cost: Any = raw.get("cost")
    tokens, wrote, total = (entry(raw, f"{name}_tokens") for name in ("prompt", "completion", "total"))
    if is_count(tokens) and is_count(wrote) and is_count(total):
        wrote = max(wrote, total - tokens)
    return sound(
        Usage(
            input_tokens=tokens,
            output_tokens=wrote,
            cached_tokens=entry(raw.get("prompt_tokens_details"), "cached_tokens"),
            reasoning_tokens=entry(raw.get("completion_tokens_details"), "reasoning_tokens"),
            # OpenRouter reports what the call cost; through str, so that 0.1 stays 0.1.
            cost=Decimal(str(cost)) if is_number(cost) and 0 <= cost <= MOST_USD else None,
        )
    )
