"""Which version is installed."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed


def version() -> str:
    """The distribution's version; that of the source where it was never installed."""
    try:
        return installed("evalkit-guardrails")
    except PackageNotFoundError:
        from guardrails import __version__

        return f"{__version__}+source"
