"""What may be written down or shown of a configuration: everything but what opens a door.

A run keeps its endpoints' configuration for good, in its store and in every file that is made of it. Keys
belong into environment variables, and still people write them into headers, into URLs and into the options of
plug-ins. What is left out here is left out of digests too: a key that is renewed does not make another run.

What is not covered: a secret in the middle of a plain text, or in an option with an innocent name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "***"

_USERINFO = re.compile(r"(?<=://)[^\s/?#]*@")
_IN_QUERY = re.compile(
    r"([?&][^=&#\s]*(?:key|token|secret|sig|signature|password|passwd|pwd|credential|auth|code)=)[^&#\s]+",
    re.IGNORECASE,
)
_OPTION = re.compile(
    r"(?:.*[_-])?(?:(?:api|access|secret)[_-]?key|secret|token|password|passwd|pwd|credentials?|authorization)",
    re.IGNORECASE,
)


def told(value: Any) -> Any:
    """The same without secrets: of `headers` their names, of URLs neither user nor password.

    What holds none comes back equal, so that its digest stays what it was.
    """
    if isinstance(value, Mapping):
        return {name: _option(name, each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [told(each) for each in value]
    return shown(value) if isinstance(value, str) else value


def shown(text: str) -> str:
    """A text with what is secret in its URLs hidden."""
    if "://" not in text:
        return text
    return _IN_QUERY.sub(rf"\g<1>{HIDDEN}", _USERINFO.sub(f"{HIDDEN}@", text))


def _option(name: Any, value: Any) -> Any:
    if name == "headers" and isinstance(value, Mapping):
        return sorted(str(each) for each in value)
    if isinstance(value, str) and _OPTION.fullmatch(str(name)):
        return HIDDEN
    return told(value)
