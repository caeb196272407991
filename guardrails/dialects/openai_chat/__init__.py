"""OpenAI's chat completions, which most servers speak (vLLM, SGLang, llama.cpp, Ollama, OpenRouter, …).

`requests` holds the bodies that are sent; `answers` reads one chunk or one whole answer and `writing` writes
it; `stream` is many chunks in their order, `whole` an answer in one piece; `failures` are our errors in this
vendor's shape.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from guardrails.call import Event, Request
from guardrails.dialects.failures import http_failure
from guardrails.dialects.openai_chat import answers, failures, requests, whole
from guardrails.dialects.openai_chat.stream import Decoder, Encoder
from guardrails.errors import EndpointError, GuardrailsError


class OpenAIChat:
    """The dialect."""

    name = answers.NAME
    path = "/chat/completions"
    leniencies: Mapping[str, str] = {
        "missing_done": "accept a stream that ends without [DONE] if every choice has a finish reason"
    }

    def headers(self, key: str | None) -> dict[str, str]:
        """Request headers that carry the key."""
        headers = {"content-type": "application/json"}
        return {**headers, "authorization": f"Bearer {key}"} if key else headers

    def decode_request(self, body: Mapping[str, Any]) -> Request:
        """A request body as ours. Raises `Refused` for a body that is none."""
        return requests.decode_request(body)

    def encode_request(self, request: Request) -> dict[str, Any]:
        """Ours as a request body. Raises `Refused` (kind `untranslatable`) rather than guess."""
        return requests.encode_request(request)

    def ask_usage(self, body: dict[str, Any]) -> dict[str, Any]:
        """The body, changed so that a stream ends with its usage."""
        if body.get("stream") is not True:
            return body
        options = body.get("stream_options")
        return {
            **body,
            "stream_options": {**(options if isinstance(options, dict) else {}), "include_usage": True},
        }

    def decoder(self, leniency: frozenset[str] = frozenset()) -> Decoder:
        """A reader for one streamed answer."""
        return Decoder(leniency)

    def decode_response(self, body: Mapping[str, Any]) -> tuple[list[Event], str | None, str | None]:
        """A whole answer as (events, model reported, response id)."""
        return whole.decode_response(body)

    def encoder(self, request: Request, *, response_id: str, created: int, model: str = "") -> Encoder:
        """A writer for one streamed answer to `request`.

        A caller of this dialect gets a chunk that holds nothing but usage only if it asked for usage.
        """
        options = request.extra.get("stream_options")
        asked = isinstance(options, Mapping) and options.get("include_usage") is True
        return Encoder(
            response_id=response_id,
            created=created,
            model=model or request.model,
            usage=asked or request.dialect != self.name,
        )

    def encode_response(
        self, events: Iterable[Event], request: Request, *, response_id: str, created: int, model: str = ""
    ) -> dict[str, Any]:
        """A whole answer in the vendor's words."""
        return whole.encode_response(
            events, response_id=response_id, created=created, model=model or request.model
        )

    def decode_error(self, status: int, headers: Mapping[str, str], body: bytes) -> EndpointError:
        """A failed HTTP answer as one of our errors; `headers` have lower-case names."""
        return http_failure(status, headers, body)

    def encode_error(self, error: GuardrailsError) -> tuple[int, dict[str, str], bytes]:
        """One of our errors as (status, headers, body)."""
        return failures.encode_error(error)


DIALECT = OpenAIChat()
