"""Mistakes, gathered: whoever starts a run is told of all that can be found, and not of one after another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from guardrails.errors import ConfigError

T = TypeVar("T")
R = TypeVar("R")


class Several(ConfigError):
    """More than one mistake: `errors`."""

    errors: Sequence[ConfigError] = ()


@dataclass(frozen=True, slots=True)
class Mistakes:
    """The `ConfigError`s of steps that do not need each other."""

    found: list[ConfigError] = field(default_factory=list)

    def each(self, step: Callable[[T], R], given: Iterable[T]) -> tuple[R, ...]:
        """What a step makes of each; where it raises a `ConfigError`, that is kept instead."""
        made: list[R] = []
        for one in given:
            try:
                made.append(step(one))
            except ConfigError as error:
                self.found.extend(error.errors if isinstance(error, Several) else (error,))
        return tuple(made)

    def tell(self) -> None:
        """Raise them as one `ConfigError`, if there are any; one alone as it was."""
        told = list({str(error): error for error in self.found}.values())
        if len(told) == 1:
            raise told[0]
        if told:
            lines = [f"{len(told)} mistakes, and nothing was run:", *map(_item, told)]
            several = Several("\n".join(lines))
            several.errors = told
            raise several


def _item(error: ConfigError) -> str:
    hint = f"\n→ {error.hint}" if error.hint else ""
    return "- " + (error.message + hint).replace("\n", "\n  ")
