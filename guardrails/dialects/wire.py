"""What every dialect needs to read and write JSON from and to a peer that is not trusted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import orjson

from guardrails.errors import Interrupted, Refused


class Unreadable(Exception):
    """Data that is not what the dialect expects. The message says what was expected, never what was there."""


_DEEP = 250
"""The parser reads 1,024 levels, the writer writes 254: what we read, we can always write again."""
_FLAT = 2 * _DEEP
"""Bytes below which nothing can be that deep."""


def read_object(data: bytes) -> dict[str, Any]:
    """A JSON object out of bytes. Raises `Unreadable`."""
    try:
        value = orjson.loads(data)
    except (ValueError, RecursionError) as error:
        place: int | None = getattr(error, "pos", None)
    else:
        if type(value) is not dict:
            raise Unreadable("a JSON object")
        if len(data) > _FLAT and data.count(b"{") + data.count(b"[") > _DEEP and not _can_be_written(value):
            raise Unreadable("JSON that is nested less deeply")
        return value
    # Raised out here, so that the parser's error, which holds the document, is not chained to ours.
    raise Unreadable(
        "valid JSON in UTF-8" + (f" (wrong at character {place} of it)" if place is not None else "")
    )


def _can_be_written(value: Any) -> bool:
    try:
        orjson.dumps(value)
    except TypeError:
        return False
    return True


def write(value: Any) -> bytes:
    """JSON bytes of what we read, or made of it. Raises `Interrupted` when it is nested too deeply."""
    try:
        return orjson.dumps(value)
    except TypeError:
        pass  # an integer beyond 64 bits, or half a surrogate pair: the slow writer knows them
    try:
        return json.dumps(value, separators=(",", ":")).encode()
    except (RecursionError, ValueError, TypeError):
        pass
    raise malformed("JSON that can be written again")


def malformed(expected: str, where: str = "in the answer") -> Interrupted:
    """The error for data that breaks the format."""
    return Interrupted(
        f"the endpoint broke its format: expected {expected} {where}",
        kind="malformed",
        hint="check that the endpoint speaks this dialect, and that no proxy rewrites its answers",
    )


def untranslatable(what: str, into: str) -> Interrupted:
    """The error for an answer that another dialect has no words for."""
    return Interrupted(
        f"{into} has no word for what the answer holds: {what}",
        kind="untranslatable",
        hint="serve this endpoint in its own dialect, or ask it for an answer without that",
    )


def without(body: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    """What of `body` is not under these keys."""
    return {key: value for key, value in body.items() if key not in keys}


def is_int(value: Any) -> bool:
    """Whether a JSON value is an integer (`true` is none)."""
    return type(value) is int


def entry(body: Any, key: str) -> Any:
    """What an object holds under a key; None when it is none, or holds nothing there."""
    return body.get(key) if type(body) is dict else None


def is_number(value: Any) -> bool:
    """Whether a JSON value is a number (`true` is none)."""
    return type(value) in (int, float)


def not_a_request(expected: str) -> Refused:
    """The error for a body that is no request."""
    return Refused(
        f"the request body is not of this dialect: expected {expected}", kind="bad_request", status=400
    )
