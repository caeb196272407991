"""Events as one chunk or one whole answer: the one they were read from, where that still fits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from guardrails.call import Delta, Event, Finish, Json, Usage
from guardrails.dialects.openai_chat.answers import NAME, TEXTS, call_of, events_of, plain_delta, repeats
from guardrails.dialects.wire import untranslatable

_ENVELOPE = ("id", "object", "created", "model", "system_fingerprint", "service_tier", "provider", "usage")
_KEYS = {"text": "content", "reasoning": "reasoning_content", "refusal": "refusal"}


def rewrite(raw: Json, events: Sequence[Event], part: str) -> Json | None:
    """`raw` saying what `events`, its own, say now; None when they are no longer its own in kind and order.

    Untouched events give `raw` itself. Where a text was replaced, everything in that choice that we cannot
    read is left out: it may say the old text in another way, as token ids, log probabilities and
    `reasoning_details` do.
    """
    final = any(type(event) is Finish and event.usage is not None for event in events)
    plain = plain_delta(raw) if part == "delta" and len(events) == 1 else None
    was = [plain] if plain is not None else events_of(raw, part, final_usage=final)
    if len(was) != len(events) or not all(map(_same_place, was, events)):
        return None
    if all(map(_untouched, was, events)):
        return raw
    spoken = [(old, new) for old, new in zip(was, events, strict=True) if type(old) is Delta]
    pairs = iter(spoken)
    body = {key: raw[key] for key in _ENVELOPE if key in raw}
    body["choices"] = [_rewritten(choice, part, pairs) for choice in raw["choices"]]
    return body


def _same_place(old: Event, new: Event) -> bool:
    """Whether `new` is `old`, but for its text."""
    if type(old) is Delta and type(new) is Delta:
        return (old.channel, old.choice, old.tool) == (new.channel, new.choice, new.tool)
    return old == new


def _untouched(old: Event, new: Event) -> bool:
    if type(old) is Delta and type(new) is Delta:
        return old.text == new.text and old.logprobs is new.logprobs
    return True


def _rewritten(choice: dict[str, Any], part: str, pairs: Iterator[tuple[Event, Event]]) -> dict[str, Any]:
    source = choice.get(part) or {}
    taken: list[tuple[Event, Event]] = []

    def text_now() -> str:
        taken.append(next(pairs))
        new = taken[-1][1]
        assert isinstance(new, Delta)
        return new.text

    delta: dict[str, Any] = {}
    for key, value in source.items():
        if key in TEXTS and type(value) is str:
            delta[key] = text_now() if value and not repeats(key, source) else value
        elif key == "tool_calls" and type(value) is list:
            delta[key] = [_rewritten_call(call, text_now) for call in value if call_of(call) is not None]
        elif key == "role":
            delta[key] = value
    if "reasoning" in source and repeats("reasoning", source):
        delta["reasoning"] = delta["reasoning_content"]
    if all(_untouched(old, new) for old, new in taken):
        return choice
    kept: dict[str, Any] = {key: choice[key] for key in ("index", "finish_reason") if key in choice}
    return {**kept, part: delta, "logprobs": _logprobs(taken, choice.get("logprobs"))}


def _rewritten_call(call: dict[str, Any], text_now: Callable[[], str]) -> dict[str, Any]:
    if call_of(call) == ("", None):
        return call
    return {**call, "function": {**call["function"], "arguments": text_now()}}


def _logprobs(taken: list[tuple[Event, Event]], was: Any) -> Any:
    """Log probabilities for a rewritten choice: those of the old text would tell it."""
    for old, new in taken:
        if isinstance(old, Delta) and isinstance(new, Delta) and new.channel == "text":
            return new.logprobs if old.text == new.text or new.logprobs is not was else None
    return None


def delta_of(event: Delta) -> dict[str, Any]:
    """The `delta` object that says an event. Raises `Interrupted` for a channel without a word."""
    if event.channel in ("text", "reasoning", "refusal"):
        return {_KEYS[event.channel]: event.text}
    kind, _, number = event.channel.partition(":")
    if kind != "tool" or not (number.isascii() and number.isdigit()):
        raise untranslatable(f"the channel {kind!r}", NAME)
    call: dict[str, Any] = {"index": int(number)}
    function: dict[str, Any] = {"arguments": event.text}
    if event.tool is not None:
        call |= {"id": event.tool.id, "type": "function"}
        function["name"] = event.tool.name
    return {"tool_calls": [{**call, "function": function}]}


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
