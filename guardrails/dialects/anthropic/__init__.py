"""Anthropic's Messages API.

`requests` holds the bodies that are sent, `stream` an answer in pieces, `whole` an answer in one piece,
`answers` the words that both share, `failures` our errors in this vendor's shape.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from guardrails.call import Event, Request
from guardrails.dialects.anthropic import failures, requests, whole
from guardrails.dialects.anthropic.stream import Decoder, Encoder
from guardrails.dialects.failures import http_failure
from guardrails.errors import EndpointError, GuardrailsError


class Anthropic:
    """The dialect."""

    name = requests.NAME
    path = "/v1/messages"
    # The official clients have no /v1 in their base URL, unlike those of OpenAI.
    leniencies: Mapping[str, str] = {
        "missing_stop": "accept a stream that ends without message_stop if it said why the answer ended"
    }

    def headers(self, key: str | None) -> dict[str, str]:
        """Request headers that carry the key and the version of the format."""
        headers = {"content-type": "application/json", "anthropic-version": "2023-06-01"}
        return {**headers, "x-api-key": key} if key else headers

    def decode_request(self, body: Mapping[str, Any]) -> Request:
        """A request body as ours. Raises `Refused` for a body that is none."""
        return requests.decode_request(body)

    def encode_request(self, request: Request) -> dict[str, Any]:
        """Ours as a request body. Raises `Refused` (kind `untranslatable`) rather than guess."""
        return requests.encode_request(request)

    def ask_usage(self, body: dict[str, Any]) -> dict[str, Any]:
        """The body as it is: these streams always report their usage."""
        return body

    def decoder(self, leniency: frozenset[str] = frozenset()) -> Decoder:
        """A reader for one streamed answer."""
        return Decoder(leniency)

    def decode_response(self, body: Mapping[str, Any]) -> tuple[list[Event], str | None, str | None]:
        """A whole answer as (events, model reported, response id)."""
        return whole.decode_response(body)

    def encoder(self, request: Request, *, response_id: str, created: int, model: str = "") -> Encoder:
        """A writer for one streamed answer to `request`; this format has no place for `created`."""
        return Encoder(response_id=response_id, model=model or request.model)

    def encode_response(
        self, events: Iterable[Event], request: Request, *, response_id: str, created: int, model: str = ""
    ) -> dict[str, Any]:
        """A whole answer in the vendor's words."""
        return whole.encode_response(events, response_id=response_id, model=model or request.model)

    def decode_error(self, status: int, headers: Mapping[str, str], body: bytes) -> EndpointError:
        """A failed HTTP answer as one of our errors; `headers` have lower-case names."""
        return http_failure(status, headers, body)

    def encode_error(self, error: GuardrailsError) -> tuple[int, dict[str, str], bytes]:
        """One of our errors as (status, headers, body)."""
        return failures.encode_error(error)


DIALECT = Anthropic()
