"""Patterns that users write, in time linear in the text that they meet."""

from __future__ import annotations

from typing import Any

from guardrails.errors import ConfigError

MAX_PATTERN = 10_000

# What people bring along from Python's `re` and RE2 leaves out, because it cannot be had in linear time.
_UNSUPPORTED = {
    "(?=": "look-ahead (?=…)",
    "(?!": "negative look-ahead (?!…)",
    "(?<": "look-behind (?<=…) or (?<!…)",
    "(?>": "an atomic group (?>…)",
    "(?(": "a conditional (?(…)…)",
    "(?#": "a comment (?#…)",
    "(?P=": "a back-reference (?P=…)",
    "\\Z": "\\Z (write \\z)",
    "\\k": "a back-reference \\k<…>",
}


def linear_pattern(pattern: str, *, casefold: bool = False) -> Any:
    """Compile a user's pattern with RE2, which matches in time linear in the text.

    Raises `ConfigError` with what RE2 does not support. The message does not quote the pattern: one that
    comes from a golden set may hold personal data.
    """
    if len(pattern) > MAX_PATTERN:
        raise ConfigError(f"the pattern has {len(pattern):,} characters; at most {MAX_PATTERN:,} are taken")
    import re2

    options = re2.Options()
    options.log_errors = False
    options.case_sensitive = not casefold
    try:
        return re2.compile(pattern, options)
    except UnicodeEncodeError:
        raise ConfigError("the pattern holds half of a surrogate pair, which is not text") from None
    except re2.error as error:
        raise ConfigError(
            f"RE2 cannot take the pattern: {_why(error)}",
            hint="see https://github.com/google/re2/wiki/Syntax",
        ) from None


def _why(error: Exception) -> str:
    said = error.args[0] if error.args else b""
    words, _, where = (said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)).partition(
        ": "
    )
    if words == "invalid escape sequence" and where[1:2].isdigit():
        return f"a back-reference {where[:2]} is not supported"
    for start, feature in _UNSUPPORTED.items():
        if words.startswith("invalid") and where.startswith(start):
            return f"{feature} is not supported"
    return words
