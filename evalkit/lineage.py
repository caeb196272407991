"""Where a run comes from: the code that made it, in versions and a commit."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from typing import Any

PACKAGES = ("aiohttp", "httpx", "numpy", "presidio-analyzer", "pydantic", "tiktoken")
"""What our figures depend on besides our own code."""


def lineage() -> dict[str, Any]:
    """Versions and the commit of the folder that we run in (None outside of git)."""
    from evalkit._version import version as own

    return {
        "evalkit": own(),
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := _version(name)) is not None},
        "git_commit": _commit(),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    try:
        said = subprocess.run(
            ["git", "rev-parse", "HEAD"],  # noqa: S607 - the user's own git, as everywhere on the command line
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return said.stdout.strip() or None if said.returncode == 0 else None
