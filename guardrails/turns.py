"""Can every word of somebody's OpenAI messages be seen by a filter?

A body that comes over the wire passes with all that it holds, and its record says what was not looked at. A
list of dicts in Python was written for us, so that what nobody would look at is a mistake, and said at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from guardrails.call import Image, Message, OpaquePart, Text, ToolResult, ToolUse
from guardrails.errors import ConfigError

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_OF_PARTS: Mapping[type, frozenset[str]] = {
    Text: frozenset({"cache_control", "type"}),
    Image: frozenset({"cache_control", "image_url"}),
    ToolUse: frozenset({"index", "type"}),
}
_VENDORS_WORDS = frozenset(
    {
        *(
            "annotations",
            "audio",
            "cache_control",
            "content",
            "document",
            "file",
            "function",
            "function_call",
        ),
        *(
            "image",
            "image_url",
            "input_audio",
            "input_file",
            "input_image",
            "input_text",
            "name",
            "output_text",
        ),
        *("reasoning", "reasoning_content", "reasoning_details", "refusal", "text", "thinking"),
        *("tool_call_id", "tool_calls", "tool_result", "tool_use", "type", "video", "video_url"),
    }
)
"""What may be quoted: any other key or type may be somebody's text."""
_HINT = (
    'a message is {"role": …, "content": …}; content is a text, a list of parts of type text or image_url, '
    "or None beside tool_calls; guardrails.dialects.dialect('openai_chat').decode_request takes any body"
)


def check_turns(turns: Sequence[Message]) -> None:
    """Raises `ConfigError`, which quotes nobody's text, for messages with words that no filter looks at."""
    mistakes = [f"messages[{at}]: {why}" for at, turn in enumerate(turns) for why in _mistakes(turn)]
    if mistakes:
        raise ConfigError("; ".join(mistakes), hint=_HINT)


def _mistakes(turn: Message) -> Iterator[str]:
    said = turn.form.split()
    if "content" in turn.extra:
        yield f"its content is of type {type(turn.extra['content']).__name__}"
    elif {"null", "absent"} & set(said) and not any(isinstance(part, ToolUse) for part in turn.parts):
        yield "it has no content"
    for key, value in turn.extra.items():
        if key != "content" and value and not _is_tools_name(turn, key, value):
            yield f"{_field(key)} is not looked at by filters"
    parts: list[Any] = [*turn.parts]
    parts += [inner for part in turn.parts if isinstance(part, ToolResult) for inner in part.parts]
    for part in parts:
        yield from _of_part(part)


def _is_tools_name(turn: Message, key: str, value: Any) -> bool:
    # A tool's name is the application's word, as it is in `tools`; a user's may be anybody's.
    named = key == "name" and turn.role in ("tool", "function") and isinstance(value, str)
    return named and _NAME.fullmatch(value) is not None


def _of_part(part: Any) -> Iterator[str]:
    if isinstance(part, OpaquePart):
        kind = part.raw.get("type")
        known = kind if isinstance(kind, str) and kind in _VENDORS_WORDS else None
        yield (
            f"a part of type {known} is not looked at" if known else "a part of unknown type is not looked at"
        )
        return
    allowed: frozenset[str] = next(
        (words for cls, words in _OF_PARTS.items() if isinstance(part, cls)), frozenset()
    )
    for key, value in getattr(part, "extra", {}).items():
        if value and (key not in allowed or (key == "image_url" and value.keys() - {"detail"})):
            yield f"{_field(key)} of a part is not looked at by filters"


def _field(key: Any) -> str:
    return f"the field {key}" if key in _VENDORS_WORDS else "an unknown field"
