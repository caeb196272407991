"""One event of a stream, or one whole answer, in our words, and usage in both."""

from __future__ import annotations

from typing import Any

from guardrails.call import Usage
from guardrails.dialects.wire import count

REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
REASONS_BACK = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}


def usage_of(*raws: Any) -> Usage | None:
    """Usage objects, merged in their order, as ours: the later one of two counts replaces the earlier.

    This vendor counts tokens read from and written to its cache apart from the other input; ours are the sum.
    None when there is no usage object among them.
    """
    raw: dict[str, Any] = {}
    for each in raws:
        if isinstance(each, dict):
            raw |= {key: value for key, value in each.items() if value is not None}
    if not raw:
        return None
    read, written = count(raw, "cache_read_input_tokens"), count(raw, "cache_creation_input_tokens")
    return Usage(
        input_tokens=count(raw, "input_tokens") + read + written,
        output_tokens=count(raw, "output_tokens"),
        cached_tokens=read,
        cache_write_tokens=written,
    )


def usage_to(usage: Usage | None) -> dict[str, Any]:
    """Our usage in the vendor's words."""
    usage = usage or Usage()
    return {
        "input_tokens": max(0, usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens),
        "cache_read_input_tokens": usage.cached_tokens,
        "cache_creation_input_tokens": usage.cache_write_tokens,
        "output_tokens": usage.output_tokens,
    }


def reason_of(raw: Any) -> str | None:
    """Why the answer ended, in our words where there is one."""
    return REASONS.get(raw, raw) if isinstance(raw, str) and raw else None


def reason_to(reason: str | None) -> str:
    """Why the answer ended, in the vendor's words where there is one."""
    return REASONS_BACK.get(reason, reason) if reason else "end_turn"
