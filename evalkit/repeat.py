"""The command that goes on with a run, as it can be shown: it is printed into the logs of pipelines."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from evalkit.told import HIDDEN, shown


def going_on(command: Sequence[str], run: str, *, capped: bool = False) -> tuple[str, str]:
    """`command` with `--resume`, and what it lacks to be given again, if anything.

    A store whose URL holds a secret is left out: without it, the URL would be another one. In the place
    of the cap of a run that it ended (`capped`), a higher one has to stand.
    """
    kept, lacking, arguments = list[str](), "", iter(command)
    for argument in arguments:
        if capped and argument.partition("=")[0] == "--max-usd":
            next(arguments, "") if argument == "--max-usd" else None
            kept += ["--max-usd", "MORE"]
            continue
        pair = [argument, next(arguments, "")] if argument == "--store" else [argument]
        if not argument.startswith("--store=") and len(pair) == 1:
            kept.append(shown(argument))
        elif _is_open(pair[-1].removeprefix("--store=")):
            kept += pair
        else:
            lacking = ", with the same --store or EVALKIT_STORE"
    if any(HIDDEN in word for word in kept):
        lacking += f", with what {HIDDEN} stands for"
    return shlex.join([*kept, "--resume", run]), lacking


def _is_open(url: str) -> bool:
    """Whether the URL of a store, or its path, holds no secret. The name of its user is none."""
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        return "://" not in url
    query = "://?" + url.partition("?")[2]
    return parsed.password is None and shown(query) == query
