"""Who else claims our import names?

Several distributions install a package called `guardrails` or `judges`. Whichever was installed last has
overwritten files of the other, and the errors that follow make no sense. So the first import looks for their
metadata beside us – one listing of one folder – and says plainly what is wrong and what to do.
"""

from __future__ import annotations

import warnings
from pathlib import Path

OURS = "evalkit_guardrails"
# Distribution (as its metadata folder is named) and the import name that it shares with us.
RIVALS = {
    "guardrails_ai": "guardrails",
    "guardrails": "guardrails",
    "judges": "judges",
    "evalkit": "evalkit",
}


class NameClashWarning(UserWarning):
    """Another installed distribution owns one of our import names."""


def clashes(folder: Path) -> list[tuple[str, str]]:
    """(distribution, import name) of every rival installed in `folder`, a `site-packages`."""
    try:
        entries = [entry.name for entry in folder.iterdir()]
    except OSError:
        return []
    found = set()
    for entry in entries:
        name, separator, _ = entry.removesuffix(".dist-info").rpartition("-")
        normal = name.lower().replace("-", "_").replace(".", "_")
        if separator and entry.endswith(".dist-info") and normal in RIVALS:
            found.add((normal.replace("_", "-"), RIVALS[normal]))
    return sorted(found)


def sentence(distribution: str, package: str) -> str:
    """What is wrong, and what to do."""
    return (
        f"the distribution {distribution!r} also installs an import package called {package!r}, as "
        f"evalkit-guardrails does: one has overwritten files of the other. Keep them in separate virtual "
        f"environments (pip uninstall {distribution}, then reinstall evalkit-guardrails)."
    )


def warn_of_clashes() -> None:
    """Warn, once per clash, about rivals in the folder that we were imported from."""
    for distribution, package in clashes(Path(__file__).resolve().parent.parent):
        warnings.warn(sentence(distribution, package), NameClashWarning, stacklevel=3)
