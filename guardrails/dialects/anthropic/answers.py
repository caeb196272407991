"""One event of a stream, or one whole answer, in our words, and usage in both."""

from __future__ import annotations

from typing import Any

from guardrails.call import Usage
from guardrails.usage import is_count, sound

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
_READ, _WRITTEN = "cache_read_input_tokens", "cache_creation_input_tokens"
_INPUT = ("input_tokens", _READ, _WRITTEN)


def usage_of(raw: Any, begun: Any = None) -> Usage | None:
    """A vendor's usage object as ours; what cannot be a count is 0 (`sound`). None when there is none.

    `begun` is the usage of a stream's start. It says the input, and `raw` may say it again and better, if
    with more than zeros. Its output is a mark of the beginning, so it is not read.
    """
    early, late = _told(begun), _told(raw)
    if not early and not late:
        return None
    tokens_in, read, written = _input(early | late if any(map(late.get, _INPUT)) else early)
    if not tokens_in:
        tokens_in, read, written = _input(early)
    return sound(Usage(tokens_in, late.get("output_tokens", 0), read, written))


def _told(raw: Any) -> dict[str, Any]:
    return {key: value for key, value in raw.items() if value is not None} if isinstance(raw, dict) else {}


def _input(told: dict[str, Any]) -> tuple[int, int, int]:
    """All input tokens, those read from the cache and those written to it; zeros if one cannot be a count.

    This vendor counts the three apart from one another; ours is the sum.
    """
    tokens, read, written = told.get("input_tokens"), told.get(_READ, 0), told.get(_WRITTEN, 0)
    if is_count(tokens) and is_count(read) and is_count(written):
        return tokens + read + written, read, written
    return 0, 0, 0


def usage_to(usage: Usage | None) -> dict[str, Any]:
    """Our usage in the vendor's words."""
    usage = usage or Usage()
    return {
        "input_tokens": max(0, usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens),
        _READ: usage.cached_tokens,
        _WRITTEN: usage.cache_write_tokens,
        "output_tokens": usage.output_tokens,
    }


def reason_of(raw: Any) -> str | None:
    """Why the answer ended, in our words where there is one."""
    return REASONS.get(raw, raw) if isinstance(raw, str) and raw else None


def reason_to(reason: str | None) -> str:
    """Why the answer ended, in the vendor's words where there is one."""
    return REASONS_BACK.get(reason, reason) if reason else "end_turn"
