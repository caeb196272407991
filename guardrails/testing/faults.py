"""Everything that goes wrong between a client and an inference server, each by a name.

A fault is written `NAME`, `NAME=VALUE`, with a probability `NAME:0.01`, or for certain requests by their
number, counted from 1, `NAME@3,7`: `reset_after=5:0.01` resets one connection in a hundred after five tokens.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from dataclasses import dataclass

from guardrails.errors import ConfigError

FAULTS: dict[str, tuple[str, float]] = {
    "reset": ("TCP reset instead of an answer", 0),
    "reset_after": ("TCP reset after VALUE tokens", 1),
    "eof_after": ("a clean end after VALUE tokens, without the terminal event", 1),
    "stall_headers": ("no byte ever comes back", 0),
    "stall_first": ("headers, then silence", 0),
    "stall_after": ("silence after VALUE tokens", 1),
    "malformed": ("broken JSON after VALUE tokens", 1),
    "invalid_utf8": ("bytes that are no UTF-8 after VALUE tokens", 1),
    "html": ("an HTML page with status 200", 0),
    "wrong_type": ("the answer under content type text/plain", 0),
    "empty": ("status 200 and no body", 0),
    "rate_limit": ("429 with Retry-After: VALUE seconds", 1),
    "rate_limit_bare": ("429 without Retry-After", 0),
    "status": ("HTTP status VALUE, such as 500, 503 or 529", 500),
    "sse_error": ("an error event in the stream after VALUE tokens", 1),
    "oversized_line": ("one line of VALUE megabytes after the first token", 40),
    "drip": ("byte by byte, one every VALUE milliseconds", 1),
}
"""What each fault does, and its VALUE when none is given."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault and when it strikes: at these request numbers, or else with this probability."""

    name: str
    value: float = 0
    probability: float = 1.0
    numbers: frozenset[int] = frozenset()

    @classmethod
    def parse(cls, spec: str) -> Fault:
        """Read `NAME[=VALUE][:PROBABILITY][@NUMBER,…]`. Raises `ConfigError` that lists the faults."""
        head, _, numbers = spec.strip().partition("@")
        head, _, probability = head.partition(":")
        name, _, value = head.partition("=")
        if name not in FAULTS:
            raise ConfigError(
                f"unknown fault {name!r}", kind="fault", hint=f"use one of: {', '.join(FAULTS)}"
            )
        try:
            fault = cls(
                name,
                float(value) if value else FAULTS[name][1],
                float(probability) if probability else 1.0,
                frozenset(int(number) for number in numbers.split(",")) if numbers else frozenset(),
            )
        except ValueError:
            fault = cls(name, math.nan)
        if not (0 <= fault.value < math.inf and 0 <= fault.probability <= 1):
            raise ConfigError(
                f"cannot read fault {spec!r}",
                kind="fault",
                hint="write NAME=VALUE:PROBABILITY or NAME=VALUE@NUMBER,NUMBER, such as reset_after=5:0.01",
            )
        if name == "status" and not 400 <= fault.value <= 599:
            raise ConfigError(
                f"fault {spec!r} is no error", kind="fault", hint="use a status from 400 to 599"
            )
        return fault

    def spec(self) -> str:
        """What `parse` reads back."""
        numbers = "@" + ",".join(str(n) for n in sorted(self.numbers)) if self.numbers else ""
        return f"{self.name}={self.value!r}:{self.probability!r}{numbers}"

    @property
    def tokens(self) -> int:
        """The value as a number of tokens."""
        return int(self.value)


NONE = Fault("")
"""No fault."""


def choose(faults: Iterable[Fault], number: int, rng: random.Random) -> Fault:
    """The first fault that strikes the request with this number, or `NONE`."""
    for fault in faults:
        if fault.numbers:
            if number in fault.numbers:
                return fault
        elif fault.probability >= 1 or rng.random() < fault.probability:
            return fault
    return NONE
