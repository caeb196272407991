"""Redis does not do its work: why, and what is an operator to do about it?

The sentences name host and port and never the url, which may hold a password; nor what Redis itself said.
"""

from __future__ import annotations

import asyncio
import errno
import importlib
import socket
import ssl
from typing import NamedTuple
from urllib.parse import urlsplit

from guardrails.endpoints.address import causes
from guardrails.errors import ConfigError


def needed() -> None:
    """Raises `ConfigError` where the package redis is not installed. It is imported then, not by a call."""
    try:
        importlib.import_module("redis.asyncio")
    except ImportError:
        raise ConfigError(
            "sharing limits through Redis needs the package redis",
            hint='pip install "evalkit-guardrails[redis]"',
        ) from None


def place(url: str) -> str:
    """Where it is, as `host:port` or a socket's path."""
    try:
        parts = urlsplit(url)
        port = parts.port or 6379
    except ValueError:
        return "the given url"
    if "@" in parts.path + parts.query + parts.fragment:
        return "the given url"  # a password with / ? or # in it: what seems to be the host is its beginning
    return parts.path if parts.scheme == "unix" else f"{parts.hostname or 'localhost'}:{port}"


class Why(NamedTuple):
    """What is wrong, and what to do about it."""

    cause: str
    hint: str


def is_gone(error: Exception) -> bool:
    """Whether the error means that the server cannot do its work now (rather than that we asked wrongly)."""
    from redis import exceptions as e

    away = e.ConnectionError, e.TimeoutError, e.BusyLoadingError, e.ReadOnlyError, e.OutOfMemoryError
    return isinstance(error, (OSError, asyncio.TimeoutError, e.NoPermissionError, *away)) or (
        isinstance(error, e.ResponseError) and str(error).startswith(("MISCONF", "NOREPLICAS", "OOM", "BUSY"))
    )


def why(error: Exception) -> Why:
    """What an error of the client's means."""
    from redis import exceptions as e

    roots = list(causes(error))
    if isinstance(error, e.AuthenticationError):
        return Why("it refuses our password, or wants one", "redis://:PASSWORD@HOST:PORT/DB in store.redis")
    if isinstance(error, e.NoPermissionError):
        return Why("its user may not run scripts", "allow +eval +evalsha and the keys guardrails:* by ACL")
    if isinstance(error, e.BusyLoadingError):
        return Why("it is still loading its data", "wait until it has started")
    if isinstance(error, e.ReadOnlyError):
        return Why("it is a read-only replica", "name the primary in store.redis")
    if isinstance(error, e.ResponseError):
        return Why("it cannot write now", "look into its log: memory, disk and replicas")
    if any(isinstance(root, socket.gaierror) for root in roots):
        return Why("its name cannot be resolved", "check the host's name in store.redis, and DNS")
    if any(isinstance(root, ssl.SSLError) for root in roots):
        return Why("no secure connection to it", "check its certificate, and whether rediss:// is right")
    if any(isinstance(root, ConnectionRefusedError) or _refused(root) for root in roots):
        return Why("it refuses connections", "is Redis running there?")
    if any(isinstance(root, (TimeoutError, e.TimeoutError)) for root in roots):
        return Why("it did not answer in time", "check network and load, or raise store.timeout")
    return Why("the connection broke", "is Redis running there?")


def _refused(error: BaseException) -> bool:
    # A name with several addresses: asyncio puts their errors into one sentence.
    return isinstance(error, OSError) and f"[Errno {errno.ECONNREFUSED}]" in str(error)
