"""Where runs are kept: `open_store(URL)` gives a `Store`, in a file (SQLite) or on a server (PostgreSQL)."""

from __future__ import annotations

import os
from pathlib import Path

from evalkit.stores.store import (
    Kept,
    Run,
    RunGone,
    Status,
    Store,
    Tally,
    Unreachable,
    as_found,
    check_tags,
    run_id,
)
from guardrails.errors import ConfigError

__all__ = [
    "Kept",
    "Run",
    "RunGone",
    "Status",
    "Store",
    "Tally",
    "Unreachable",
    "as_found",
    "check_tags",
    "open_store",
    "run_id",
]

_POSTGRES = ("postgresql", "postgres", "postgresql+psycopg")


def open_store(url: str | Path, *, create: bool = True) -> Store:
    """The store at a path, `sqlite:///PATH` or `postgresql://USER:PASSWORD@HOST/DATABASE`.

    It is made, or brought to today's schema, when it needs to be; with `create` false a file that does not
    exist is a mistake. Raises `ConfigError`, which never holds the password, when it cannot be used.
    """
    if isinstance(url, Path) or "://" not in url:
        from evalkit.stores.sqlite import open_file

        return open_file(_path(url, home=True), create=create)
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    scheme = url.partition("://")[0].lower()
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # such as a port that is no number; its text may hold the password
        raise ConfigError(f"the {scheme}:// URL of the store cannot be read", hint=_HINT) from None
    if scheme == "sqlite" and parsed.database and not parsed.host:
        from evalkit.stores.sqlite import open_file

        return open_file(_path(parsed.database), create=create)
    if scheme in _POSTGRES:
        if any("\0" in (part or "") for part in (parsed.host, parsed.username, parsed.database)):
            raise ConfigError(f"the {scheme}:// URL of the store cannot be read: a NUL is in it", hint=_HINT)
        from evalkit.stores.postgres import open_server

        return open_server(parsed)
    raise ConfigError(f"runs cannot be kept in {scheme}:// with this URL", hint=_HINT)


def _path(given: str | Path, *, home: bool = False) -> Path:
    """The path; with `home`, one that begins with `~` is in somebody's home."""
    try:
        path = Path(given).expanduser() if home else Path(given)
        if b"\0" in os.fsencode(path):
            raise ValueError("a path ends at its first NUL")
    except (ValueError, RuntimeError):  # half a surrogate pair; nobody of that name
        raise ConfigError(f"runs cannot be kept in {str(given)[:200]!r}: it is no path", hint=_HINT) from None
    return path


_HINT = "a path, sqlite:///PATH (absolute: sqlite:////PATH), or postgresql://USER:PASSWORD@HOST:5432/DATABASE"
