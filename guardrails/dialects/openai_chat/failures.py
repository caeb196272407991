"""Our errors in the shape that the `openai` package turns into its typed ones."""

from __future__ import annotations

from typing import Any

from guardrails.dialects.failures import code_of, http_headers, http_status
from guardrails.dialects.wire import write
from guardrails.errors import GuardrailsError, Rejected

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


def error_body(error: GuardrailsError) -> dict[str, Any]:
    """The JSON body of an error."""
    status = http_status(error)
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    if isinstance(error, Rejected) and status >= 500:
        kind = "timeout_error"
    return {"error": {"message": str(error), "type": kind, "param": None, "code": code_of(error)}}


def encode_error(error: GuardrailsError) -> tuple[int, dict[str, str], bytes]:
    """One of our errors as (status, headers, body)."""
    return http_status(error), http_headers(error), write(error_body(error))
