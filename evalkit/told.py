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

from judges.registry import COMBINED

HIDDEN = "***"

_USERINFO = re.compile(r"(?<=://)[^\s/?#]*@")
# A name ends at the next `?`, or a text of nothing but these would take a time that grows with its square.
_IN_QUERY = re.compile(
    r"([?&][^=&#\s?]*(?:key|token|secret|sig|signature|password|passwd|pwd|credential|auth|code)=)[^&#\s]+",
    re.IGNORECASE,
)
# A tokenizer's marks decide what a model answers. Any other token may open a door, so these are listed.
_MARK = (
    "bos|sot|begin|start|eos|eot|eom|end|stop|pad|padding|unk|unknown|sep|separator|cls|mask|"
    "boi|eoi|image|audio|video|prefix|middle|suffix|think|special"
)
_OPTION = re.compile(
    rf"(?!(?:.*[_-])?(?:{_MARK})[_-]token$)"
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


def is_whole(value: Any) -> bool:
    """Whether `told` left nothing out of what it gave."""
    if isinstance(value, Mapping):
        return not isinstance(value.get("headers"), list) and all(map(is_whole, value.values()))
    if isinstance(value, list | tuple):
        return all(map(is_whole, value))
    return not (isinstance(value, str) and HIDDEN in value)


def told_scorer(spec: Any) -> Any:
    """A scorer as a suite writes it, without the user and the password in the URL that it calls.

    Nothing else is left out: patterns and schemas may look like URLs or headers, and who judges a run again
    reads them back.
    """
    if not isinstance(spec, Mapping):
        return spec
    return {name: _parts(given) if name in COMBINED else _called(given) for name, given in spec.items()}


def _parts(given: Any) -> Any:
    """What a scorer is combined of: a list, one alone, or either of them as its option `of`."""
    if isinstance(given, list | tuple):
        return [told_scorer(each) for each in given]
    if isinstance(given, Mapping) and "of" in given:
        return {**given, "of": _parts(given["of"])}
    return told_scorer(given)


def _called(given: Any) -> Any:
    if isinstance(given, Mapping) and isinstance(url := given.get("url"), str):
        return {**given, "url": shown(url)}
    return given


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
