"""What may not pass: detectors, and the two layers that put them around a call."""

from guardrails.filters.detector import Detector, Edit, Finding, redact, resolve
from guardrails.filters.layers import InputFilters, OutputFilters
from guardrails.filters.pii import Pii
from guardrails.filters.policy import Rule, Rulebook
from guardrails.filters.restore import Restore
from guardrails.filters.vault import Shape, Vault, pseudonymize
from guardrails.filters.vaults import Vaults
from guardrails.filters.window import Window, scan

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
