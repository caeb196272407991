"""What of the usage that an endpoint reports can be right? It comes from outside, and is paid by."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, TypeGuard

from guardrails.call import Usage

MOST_TOKENS = 10**9
"""No call reads or writes more: ten times the largest context windows, and months of decoding."""
MOST_USD = 10**6
"""No call costs more: that is as many tokens, at more than three times the dearest price in our list."""


def is_count(value: Any) -> TypeGuard[int]:
    """Whether a reported number of tokens can be one (`True` and `12.0` are none)."""
    return type(value) is int and 0 <= value <= MOST_TOKENS


def sound(usage: Usage) -> Usage:
    """What of a reported usage can be right, whatever stands in its fields.

    A figure that is no count is 0; whether 0 can be right is for those to say who know the answer
    (`guardrails.record`, `guardrails.flow.spent`). Parts that are larger than their whole are 0 too: then the
    call is priced as without a cache, which is dearer. A cost that is no sum of money, or below 0, is None.
    """
    tokens_in = _within(usage.input_tokens, MOST_TOKENS)
    tokens_out = _within(usage.output_tokens, MOST_TOKENS)
    written = _within(usage.cache_write_tokens, tokens_in)
    cached = _within(usage.cached_tokens, tokens_in - written)
    reasoning = _within(usage.reasoning_tokens, tokens_out)
    cost: Any = usage.cost
    if cost is not None and not (isinstance(cost, Decimal) and cost.is_finite() and 0 <= cost <= MOST_USD):
        cost = None
    return Usage(tokens_in, tokens_out, cached, written, reasoning, cost)


def later(before: Usage | None, now: Usage | None) -> Usage | None:
    """Of two reported usages the later one, unless it says nothing."""
    if now is None or (before is not None and not (now.input_tokens or now.output_tokens)):
        return before
    return now


def _within(value: Any, most: int) -> int:
    return value if type(value) is int and 0 < value <= most else 0
