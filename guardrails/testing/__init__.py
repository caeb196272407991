"""How do I test an application that talks to models – without one, without waiting, with every fault?

- `FakeClock`: time that stands still until the test moves it.
- `ScriptedEndpoint`: a handler that says what the test wrote down, and counts what was opened and closed.
- `simulate`, `simulate_process`: a loopback HTTP server that speaks the OpenAI and the Anthropic wire, with
  pace, queueing and faults, in this event loop or in a process of its own. `Profile` says how it behaves.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from guardrails.testing.clock import FakeClock
from guardrails.testing.scripted import Script, ScriptedEndpoint

if TYPE_CHECKING:
    from guardrails.testing.engine import StepModel
    from guardrails.testing.faults import Fault
    from guardrails.testing.process import simulate_process
    from guardrails.testing.profile import Profile
    from guardrails.testing.server import simulate

__all__ = [
    "FakeClock",
    "Fault",
    "Profile",
    "Script",
    "ScriptedEndpoint",
    "StepModel",
    "simulate",
    "simulate_process",
]

_LATER = {
    "Fault": "faults",
    "Profile": "profile",
    "StepModel": "engine",
    "simulate": "server",
    "simulate_process": "process",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
