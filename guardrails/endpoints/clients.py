"""What does an exception of somebody else's client mean for the caller: may it be tried again?

The official SDKs, httpx, requests and aiohttp all hand the HTTP status on, most of them with the answer's
headers; this reads it where they keep it, so that none of them has to be imported. What says no status is
read by the name of its class, if that is one of theirs for a lost connection. The exceptions' own sentences
may quote the prompt and are never looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from guardrails.errors import EndpointError, Interrupted, Transient
from guardrails.telling import whence

_LOST = {
    "UnsupportedProtocol": "",
    "LocalProtocolError": "",
    "ConnectError": "connect",
    "ConnectTimeout": "connect",
    "ClientConnectorError": "connect",
    "ConnectionTimeoutError": "connect",
    "APITimeoutError": "timeout",
    "TimeoutException": "timeout",
    "ServerTimeoutError": "timeout",
    "APIConnectionError": "reset",
    "TransportError": "reset",
    "ClientConnectionError": "reset",
}
"""Classes of openai, anthropic, httpx and aiohttp; the narrower ones before those that they inherit from.

`connect` means that nothing was sent, so that such a call costs nothing: only what says so is one. Empty:
the request itself cannot be sent, however often it is tried.
"""
_WHAT = {
    "connect": "could not be reached",
    "timeout": "did not answer in time",
    "reset": "closed the connection, or it broke",
}
_HINTS = {"auth": "give the client that the function uses a key that is valid for this endpoint"}


def read(error: Exception, name: str, *, entered: bool) -> EndpointError | None:
    """The error of ours that says the same, if it tells of an endpoint. `entered`: the answer had begun."""
    try:
        found = _by_status(error) or _by_class(error)
    except Exception:  # somebody else's attributes may do anything
        found = None
    if found is None:
        return None
    found.hint = _HINTS.get(found.kind, found.hint)
    found.tell_from(name)
    found.add(f"the function raised {whence(error)}")
    if not entered:
        return found
    from guardrails.dialects.failures import interrupted

    late: Interrupted = interrupted(found)
    late.endpoint = name
    return late


def _by_status(error: Any) -> Any:
    response = getattr(error, "response", None)
    statuses = (getattr(error, "status_code", None), getattr(response, "status_code", None))
    numbers = (each for each in (*statuses, getattr(error, "status", None)) if isinstance(each, int))
    status = int(next((each for each in numbers if not isinstance(each, bool)), 0))
    if not 400 <= status < 600:
        return None
    from guardrails.dialects.failures import failure_of

    headers = getattr(response, "headers", None)
    headers = getattr(error, "headers", None) if headers is None else headers
    lowered = {str(key).lower(): str(value) for key, value in headers.items()} if headers is not None else {}
    body = getattr(error, "body", None)
    said = body.get("error", body) if isinstance(body, Mapping) else None
    return failure_of(status, lowered, said)


def _by_class(error: Exception) -> Transient | None:
    kind = _lost(error)
    if {"APITimeoutError", "APIConnectionError"} & _names(error):  # an SDK: its HTTP client knows more
        under = _lost(error.__cause__)
        kind = kind if under is None else under
    if not kind:
        return None
    return Transient(f"the endpoint {_WHAT[kind]}", kind=kind, hint="is the server running there?")


def _lost(error: BaseException | None) -> str | None:
    names = _names(error)
    return next((kind for name, kind in _LOST.items() if name in names), None)


def _names(error: BaseException | None) -> set[str]:
    return {cls.__name__ for cls in type(error).__mro__}
