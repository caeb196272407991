"""Packages that programs may import: nothing but those declared, and what they themselves require."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from guardrails.errors import ConfigError


def places(names: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Where these distributions' top-level modules, packages and libraries are: (name, path), sorted.

    Requirements are followed as far as they are installed. Raises `ConfigError` for what is not.
    """
    wanted = list(names)
    seen: set[str] = set()
    found: dict[str, str] = {}
    for name in wanted:
        try:
            distribution(name)
        except (PackageNotFoundError, ValueError):
            raise ConfigError(
                f"the package {name[:40]!r} is not installed", hint=f"pip install {name}"
            ) from None
    while wanted:
        name = wanted.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            made = distribution(name)
        except PackageNotFoundError:
            continue  # an extra, or for another platform
        found.update(_top_level(made))
        wanted += [_NAME.match(each)[0] for each in made.requires or () if "extra ==" not in each]  # type: ignore[index]
    return tuple(sorted(found.items()))


_NAME = re.compile(r"[\w.-]+")


def _top_level(made: Distribution) -> dict[str, str]:
    root = Path(str(made.locate_file(""))).resolve()
    tops = {file.parts[0] for file in made.files or () if ".." not in file.parts and not file.is_absolute()}
    return {top: str(root / top) for top in tops if top != "__pycache__" and (root / top).exists()}
