"""Bytes to our types and back, one module per vendor's wire format.

Everything here is pure: no sockets, no clocks. A dialect is a module-level value that satisfies `Dialect`;
`dialect(name)` finds it, so that nothing outside this package asks which vendor it talks to.

Laws (each a property test): `encode_request(decode_request(body)) == body`; a stream read by `decoder()` and
written by `encoder()` means what it meant; both whatever the split of the bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any, Protocol

from guardrails.call import Event, Request
from guardrails.errors import ConfigError, EndpointError, GuardrailsError

NAMES = ("openai_chat", "anthropic")


class Decoder(Protocol):
    """Reads one answer's byte stream. Feed it whatever arrives; it returns the events that are complete."""

    model: str | None
    response_id: str | None
    done: bool
    """Nothing more is to be read: the terminal event came, or a failure that `close()` raises."""

    def feed(self, data: bytes) -> list[Event]:
        """Events completed by `data`. Raises `Transient`/`Refused`/`Interrupted` for an in-band error."""

    def close(self) -> list[Event]:
        """The bytes have ended. Raises `Truncated` unless the dialect's terminal event was seen."""


class Encoder(Protocol):
    """Writes one answer as the vendor's byte stream.

    Events that are still the whole of the chunk they were read from (`Origin`) are written as that chunk with
    the texts they hold now; a chunk whose text was replaced loses all that may tell the old text elsewhere.
    """

    def feed(self, event: Event) -> bytes:
        """What this event adds to the stream (possibly nothing yet).

        Raises `Interrupted` (kind `untranslatable`) for what this dialect has no word for.
        """

    def close(self) -> bytes:
        """The terminal bytes. Call it only when the answer is complete: it says that all is well."""

    def fail(self, error: GuardrailsError) -> bytes:
        """The vendor's in-band form of an error after the stream began."""


class Dialect(Protocol):
    """One vendor's wire format, both directions."""

    name: str
    path: str
    """Where a request is posted, relative to the base URL, such as `/chat/completions`."""
    leniencies: Mapping[str, str]
    """Departures from the format that a config may allow by name, each with what it means."""

    def headers(self, key: str | None) -> dict[str, str]:
        """Request headers that carry the key and what else the vendor demands."""

    def decode_request(self, body: Mapping[str, Any]) -> Request:
        """A vendor's request body as ours. Raises `Refused` for a body that is none."""

    def encode_request(self, request: Request) -> dict[str, Any]:
        """Ours as the vendor's body. Raises `Refused` (kind `untranslatable`) rather than guess."""

    def ask_usage(self, body: dict[str, Any]) -> dict[str, Any]:
        """The body, changed so that a stream reports its usage."""

    def decoder(self, leniency: frozenset[str] = frozenset()) -> Decoder:
        """A reader for one streamed answer."""

    def decode_response(self, body: Mapping[str, Any]) -> tuple[list[Event], str | None, str | None]:
        """A whole answer as (events, model reported, response id). Raises like `Decoder.feed`."""

    def encoder(self, request: Request, *, response_id: str, created: int, model: str = "") -> Encoder:
        """A writer for one streamed answer to `request`; `created` in Unix seconds."""

    def encode_response(
        self, events: Iterable[Event], request: Request, *, response_id: str, created: int, model: str = ""
    ) -> dict[str, Any]:
        """A whole answer in the vendor's words."""

    def decode_error(self, status: int, headers: Mapping[str, str], body: bytes) -> EndpointError:
        """A failed HTTP answer as one of our errors; `headers` have lower-case names."""

    def encode_error(self, error: GuardrailsError) -> tuple[int, dict[str, str], bytes]:
        """One of our errors as (status, headers, body) that the vendor's own SDK understands."""


def dialect(name: str) -> Dialect:
    """The dialect of that name. Raises `ConfigError` naming those that exist."""
    if name not in NAMES:
        raise ConfigError(f"unknown dialect {name!r}", hint=f"use one of: {', '.join(NAMES)}")
    found: Dialect = import_module(f"guardrails.dialects.{name}").DIALECT
    return found
