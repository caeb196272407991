"""What does the provider say is left of its rate limits?

Read from `x-ratelimit-{limit,remaining,reset}-{requests,tokens}` (OpenAI and most others; a reset is a
duration such as `6m0s`) and from `anthropic-ratelimit-{requests,tokens,input-tokens,output-tokens}-{limit,
remaining,reset}` (a reset is an RFC 3339 time). Only numbers come out of here, so they may go in a journal.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

KINDS = ("requests", "input_tokens", "output_tokens", "tokens")
_MOST = 1e12
_DURATION = re.compile(r"(?:(\d{1,6})d)?(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,9}(?:\.\d{1,12})?)s)?")
_MILLIS = re.compile(r"(\d{1,9}(?:\.\d{1,12})?)ms")


@dataclass(frozen=True, slots=True)
class Reported:
    """One limit as the provider tells it: `kind` is one of `KINDS`, `reset` the seconds until it is full."""

    kind: str
    limit: float | None
    remaining: float
    reset: float | None


def reported(headers: Mapping[str, str], wall: datetime) -> tuple[Reported, ...]:
    """The limits that these response headers tell; what cannot be read is left out."""
    found = []
    for kind in KINDS:
        word = kind.replace("_", "-")
        for remaining, limit, reset in (
            (f"x-ratelimit-remaining-{word}", f"x-ratelimit-limit-{word}", f"x-ratelimit-reset-{word}"),
            (*(f"anthropic-ratelimit-{word}-{part}" for part in ("remaining", "limit", "reset")),),
        ):
            left = _number(headers.get(remaining))
            if left is not None:
                most = _number(headers.get(limit))
                found.append(Reported(kind, most or None, left, _reset(headers.get(reset), wall)))
                break
    return tuple(found)


def _number(value: str | None) -> float | None:
    if value is None or len(value) > 32:
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) and 0 <= number <= _MOST else None


def _reset(value: str | None, wall: datetime) -> float | None:
    value = (value or "").strip()
    if not value or len(value) > 48:
        return None
    if (plain := _number(value)) is not None:
        return plain
    if match := _MILLIS.fullmatch(value):
        return float(match[1]) / 1e3
    if match := _DURATION.fullmatch(value):
        days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
        return ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        return None
    at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    return max(0.0, (at - wall).total_seconds())
