"""How do I test an application that talks to models – without one, without waiting, with every fault?

- `FakeClock`: time that stands still until the test moves it.
- `ScriptedEndpoint`: a handler that says what the test wrote down, and counts what was opened and closed.
"""

from __future__ import annotations

from guardrails.testing.clock import FakeClock
from guardrails.testing.scripted import Script, ScriptedEndpoint

__all__ = ["FakeClock", "Script", "ScriptedEndpoint"]
