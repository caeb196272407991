"""The call path around any inference endpoint: filters, flow control, a measured record of every call.

    import guardrails

    llm = guardrails.endpoint("http://localhost:8000/v1", model="my-model")
    answer = await llm.ask("What is TTFT?")

Importing this package is light: no network, no telemetry, and nothing but the standard library until used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from guardrails._owners import warn_of_clashes
from guardrails.call import (
    Call,
    Choice,
    Delta,
    Event,
    Finish,
    Image,
    Message,
    Opaque,
    OpaquePart,
    Reasoning,
    Request,
    Reset,
    Response,
    Sampling,
    Text,
    Tool,
    ToolHead,
    ToolResult,
    ToolUse,
    Usage,
)
from guardrails.client import Answer, Llm, endpoint
from guardrails.clock import Clock, SystemClock
from guardrails.errors import (
    Blocked,
    BudgetExceeded,
    ConfigError,
    DeadlineExceeded,
    EndpointError,
    GuardrailsError,
    Interrupted,
    Refused,
    Rejected,
    Shed,
    Transient,
    Truncated,
)
from guardrails.handler import Handler, Layer, Opening, Stream, collect, stack
from guardrails.record import CallRecord
from guardrails.recorder import JsonlSink, Record

if TYPE_CHECKING:
    from guardrails.config import build
    from guardrails.endpoints.opening import Timeouts
    from guardrails.filters import InputFilters, OutputFilters, Pii

__version__ = "0.1.0"

_LAZY = {
    "build": "guardrails.config",
    "Timeouts": "guardrails.endpoints.opening",
    "InputFilters": "guardrails.filters",
    "OutputFilters": "guardrails.filters",
    "Pii": "guardrails.filters",
}


if not TYPE_CHECKING:  # or every name would be taken for one

    def __getattr__(name: str) -> Any:
        if name not in _LAZY:
            raise AttributeError(f"module 'guardrails' has no attribute {name!r}")
        return getattr(import_module(_LAZY[name]), name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *_LAZY})


__all__ = [
    "Answer",
    "Blocked",
    "BudgetExceeded",
    "Call",
    "CallRecord",
    "Choice",
    "Clock",
    "ConfigError",
    "DeadlineExceeded",
    "Delta",
    "EndpointError",
    "Event",
    "Finish",
    "GuardrailsError",
    "Handler",
    "Image",
    "InputFilters",
    "Interrupted",
    "JsonlSink",
    "Layer",
    "Llm",
    "Message",
    "Opaque",
    "OpaquePart",
    "Opening",
    "OutputFilters",
    "Pii",
    "Reasoning",
    "Record",
    "Refused",
    "Rejected",
    "Request",
    "Reset",
    "Response",
    "Sampling",
    "Shed",
    "Stream",
    "SystemClock",
    "Text",
    "Timeouts",
    "Tool",
    "ToolHead",
    "ToolResult",
    "ToolUse",
    "Transient",
    "Truncated",
    "Usage",
    "build",
    "collect",
    "endpoint",
    "stack",
]

warn_of_clashes()
