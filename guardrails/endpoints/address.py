"""Where an endpoint is and what every call carries: what could never be sent is refused before the first."""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from urllib.parse import urlsplit

from guardrails.errors import ConfigError

Key = str | Callable[[], str | Awaitable[str]] | None

# A key from the environment goes only to the host that it belongs to.
VENDOR_KEYS: Mapping[str, str] = {
    "api.openai.com": "OPENAI_API_KEY",
    "api.anthropic.com": "ANTHROPIC_API_KEY",
    "api.mistral.ai": "MISTRAL_API_KEY",
    "api.groq.com": "GROQ_API_KEY",
    "api.together.xyz": "TOGETHER_API_KEY",
    "openrouter.ai": "OPENROUTER_API_KEY",
    "api.deepseek.com": "DEEPSEEK_API_KEY",
    "generativelanguage.googleapis.com": "GEMINI_API_KEY",
}

_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FRAMING = frozenset({"content-length", "transfer-encoding"})
_NOT_A_LETTER = re.compile(r"[^A-Za-z-]")
_SENDABLE = re.compile(r"[\t\x20-\x7e]*")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def target(url: str, path: str) -> str:
    """The address to post to: base URL and the dialect's path, without doubling what both have.

    Raises `ConfigError` for what can be no address.
    """
    scheme, separator, rest = url.strip().rstrip("/").partition("://")
    if not separator or scheme not in ("http", "https") or not rest.partition("/")[0]:
        raise ConfigError(
            "an endpoint's url must look like http://host:port/v1",
            hint="write the scheme (http:// or https://) and the host",
        )
    base = f"{scheme}://{rest}"
    if "?" in base or "#" in base or "@" in rest.partition("/")[0]:
        raise ConfigError(
            "an endpoint's url must have no query, fragment or credentials", hint="keys go to key or key_env"
        )
    if not _is_address(base):
        raise ConfigError(
            "an endpoint's url must look like http://host:port/v1",
            hint="check the host's name (an IPv6 address stands in brackets) and the port (1 to 65535)",
        )
    if base.endswith(path):
        return base
    first, _, others = path.lstrip("/").partition("/")
    if others and base.endswith(f"/{first}"):
        return f"{base}/{others}"
    return base + path


def _is_address(url: str) -> bool:
    from yarl import URL

    if not url.isprintable():
        return False
    try:
        parts, host = urlsplit(url), URL(url).host or ""
        port = parts.port
        host.encode("idna")  # as the resolver will: it knows labels that are empty or too long
    except ValueError:
        return False
    return bool(host) and " " not in parts.netloc and (port is None or port > 0)


def check_headers(headers: Mapping[str, str]) -> None:
    """Raises `ConfigError`, which quotes no value, for a header that cannot be sent."""
    items: Iterable[tuple[object, object]] = headers.items()
    for name, value in items:
        if not isinstance(name, str) or not _HEADER.fullmatch(name):
            raise ConfigError(
                f"{_beginning(name)!r} with what follows cannot be a header's name",
                hint="letters, digits and hyphens, without the colon",
            )
        if name.lower() in _FRAMING:
            raise ConfigError(
                f"the header {name} cannot be set: it follows from what is sent", hint="leave it out"
            )
        if not isinstance(value, str):
            raise ConfigError(
                f"the header {name} cannot be sent: its value is of type {type(value).__name__}",
                hint="write it as a text",
            )
        if not _SENDABLE.fullmatch(value):
            raise ConfigError(
                f"the header {name} cannot be sent: its value has a line break, or a character beyond ASCII",
                hint="does it end in a line break that is not part of it?",
            )


def _beginning(name: object) -> str:
    """Of a header's name, the letters in front: behind any other character may be the secret."""
    if not isinstance(name, str):
        return type(name).__name__
    return _NOT_A_LETTER.split(name, maxsplit=1)[0][:40]


def check_variable(name: str | None) -> None:
    """Raises `ConfigError` for what is no variable's name. It may be the key itself, so it is not quoted."""
    if name is not None and not _VARIABLE.fullmatch(name):
        raise ConfigError(
            "key_env must be the name of an environment variable, such as OPENAI_API_KEY",
            hint="never the key itself; leave it out for an endpoint without one",
        )


async def key_for(key: Key, variable: str | None, url: str) -> str | None:
    """The key for calls to `url`: the one given, the variable's, or that of the vendor whose host it is.

    Raises `ConfigError` for one that is not there or cannot be sent.
    """
    if callable(key):
        given = key()
        return _sendable(given if isinstance(given, str) else await given, "the key")
    if key is not None:
        return _sendable(key, "the key")
    if variable is not None:
        value = os.environ.get(variable)
        if not value:
            raise ConfigError(f"the environment variable {variable} is not set", hint=f"export {variable}=…")
        return _sendable(value, f"the key in {variable}")
    vendor = _vendor_variable(url)
    return None if vendor is None else _sendable(os.environ[vendor], f"the key in {vendor}")


def _vendor_variable(url: str) -> str | None:
    """The variable of the vendor whose host it is, if it is set."""
    name = VENDOR_KEYS.get(url.split("/")[2].partition(":")[0])
    return name if name is not None and name in os.environ else None


def key_hint(key: Key, variable: str | None, url: str, otherwise: str) -> str:
    """What to do after a 401: which key was sent, by the name of its place. `otherwise`: if none was."""
    place = "key=" if key is not None else variable or _vendor_variable(url)
    if place is None:
        return otherwise
    return f"the key in {place} was sent: it is not (or no longer) valid for this endpoint"


def _sendable(key: str, what: str) -> str:
    if not _SENDABLE.fullmatch(key):
        raise ConfigError(
            f"{what} cannot be sent: it has a line break, or a character beyond ASCII",
            hint="does it end in a line break that is not part of it?",
        )
    return key


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what led to it, down to its root."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
