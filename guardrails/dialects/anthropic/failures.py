"""Our errors in the shape that the `anthropic` package turns into its typed ones."""

from __future__ import annotations

from typing import Any

from guardrails.dialects.failures import http_headers, http_status
from guardrails.dialects.wire import write
from guardrails.errors import GuardrailsError

_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def error_body(error: GuardrailsError) -> dict[str, Any]:
    """The JSON body of an error. The vendor has no field for our `kind`, so the sentence carries it."""
    status = http_status(error)
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
    if error.kind == "overloaded":
        kind = "overloaded_error"
    return {"type": "error", "error": {"type": kind, "message": f"{error} [{error.kind}]"}}


def encode_error(error: GuardrailsError) -> tuple[int, dict[str, str], bytes]:
    """One of our errors as (status, headers, body)."""
    return http_status(error), http_headers(error), write(error_body(error))
