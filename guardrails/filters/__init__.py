"""What may not pass: detectors, and the two layers that put them around a call.

Each name is loaded when it is used: who reads a configuration without filters needs none of them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from guardrails.filters.detector import Detector, Edit, Finding, redact, resolve
    from guardrails.filters.layers import InputFilters, OutputFilters
    from guardrails.filters.pii import Pii
    from guardrails.filters.policy import Rule, Rulebook
    from guardrails.filters.restore import Restore
    from guardrails.filters.vault import Shape, Vault, pseudonymize
    from guardrails.filters.vaults import Vaults
    from guardrails.filters.window import Window, scan

_MODULES = {
    "detector": ("Detector", "Edit", "Finding", "redact", "resolve"),
    "layers": ("InputFilters", "OutputFilters"),
    "pii": ("Pii",),
    "policy": ("Rule", "Rulebook"),
    "restore": ("Restore",),
    "vault": ("Shape", "Vault", "pseudonymize"),
    "vaults": ("Vaults",),
    "window": ("Window", "scan"),
}
_LAZY = {name: f"guardrails.filters.{module}" for module, names in _MODULES.items() for name in names}


if not TYPE_CHECKING:  # or every name would be taken for one

    def __getattr__(name: str) -> Any:
        if name in _MODULES:
            return import_module(f"guardrails.filters.{name}")
        if name not in _LAZY:
            raise AttributeError(f"module 'guardrails.filters' has no attribute {name!r}")
        return getattr(import_module(_LAZY[name]), name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *_LAZY})


__all__ = [
    "Detector",
    "Edit",
    "Finding",
    "InputFilters",
    "OutputFilters",
    "Pii",
    "Restore",
    "Rule",
    "Rulebook",
    "Shape",
    "Vault",
    "Vaults",
    "Window",
    "pseudonymize",
    "redact",
    "resolve",
    "scan",
]
