"""A row's fields become a sample, or problems that name each field and quote none."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from evalkit.rows import Problems, shown
from evalkit.sample import Attachment, Sample, located
from guardrails.call import Message, Text, Tool, ToolResult, ToolUse
from guardrails.errors import ConfigError
from guardrails.meant import near

EXAMPLE = '{"id": "q1", "input": "What is 6 × 7?", "reference": "42"}'
MEDIA = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
}
MAX_TURNS = 100
MAX_WEIGHT = 1e9
"""A sample may weigh as much as all others ever will; weights, and their squares, stay numbers when added."""
MAX_DEPTH = 100
"""Levels of an object of anybody's own: whatever reads or copies it later needs the stack for all of them."""


def _not_blank(text: str) -> str:
    if not text.strip():
        raise PydanticCustomError("blank", "must not be blank")
    return _encodable(text)


def _encodable(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise PydanticCustomError("surrogate", "holds half of a surrogate pair, which is not text") from None
    return text


def _printable(text: str) -> str:
    if not text.isprintable():
        raise PydanticCustomError("unprintable", "must not hold control characters")
    return text


def _listed(value: Any) -> Any:
    if isinstance(value, int | float):
        raise PydanticCustomError("unquoted", "must be text or a list of texts: put it in quotes")
    return [value] if isinstance(value, str) else value


def _storable(value: dict[str, Any]) -> dict[str, Any]:
    try:
        written = json.dumps(value, ensure_ascii=False, allow_nan=False)
        written.encode()
    except RecursionError:
        raise _too_deep() from None
    except (TypeError, ValueError):  # UnicodeEncodeError is a ValueError
        raise PydanticCustomError("unstorable", "holds what JSON cannot store") from None
    # What has few brackets is not deep: counting them costs next to nothing.
    if written.count("{") + written.count("[") > MAX_DEPTH and _deep(value):
        raise _too_deep()
    return value


def _too_deep() -> PydanticCustomError:
    return PydanticCustomError("deep", f"is nested more than {MAX_DEPTH} levels deep")


def _deep(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        inner = (each.values() if isinstance(each, dict) else each for each in level)
        level = [each for values in inner for each in values if isinstance(each, dict | list | tuple)]
        if not level:
            return False
    return True


def _has_user(turns: list[_Turn]) -> list[_Turn]:
    if not any(turn.role == "user" for turn in turns):
        raise PydanticCustomError("no_user", "must hold a message of the user")
    return turns


def _unwrapped(value: Any) -> Any:
    """OpenAI's spelling `{type: function, function: {…}}`, with what is inside moved up."""
    if isinstance(value, dict) and isinstance(inner := value.get("function"), dict):
        outer = {name: each for name, each in value.items() if name not in ("type", "function")}
        return {**outer, **inner}
    return value


def _written(value: Any) -> Any:
    return json.dumps(_storable(value), ensure_ascii=False) if isinstance(value, dict) else value


def _pointed(value: Any) -> Any:
    if isinstance(value, str):
        return {"url" if value.startswith(("https://", "data:")) else "path": value}
    return value


def _web(url: str) -> str:
    if not url.startswith(("https://", "data:image/")):
        raise PydanticCustomError("not_web", "must begin with https:// or data:image/")
    return url


Words = Annotated[str, AfterValidator(_not_blank)]
Listed = Annotated[list[Words], BeforeValidator(_listed)]
Object = Annotated[dict[str, Any], AfterValidator(_storable)]
Short = Annotated[Words, AfterValidator(_printable), Field(max_length=200)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, defer_build=True)


class _Call(_Strict):
    id: Short
    name: Short
    arguments: Annotated[str, BeforeValidator(_written), AfterValidator(_encodable)] = "{}"


class _Turn(_Strict):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Words | None = None
    tool_calls: list[Annotated[_Call, BeforeValidator(_unwrapped)]] = Field(default_factory=list)
    tool_call_id: Short | None = None


class _Tool(_Strict):
    name: Short
    description: Words | None = None
    parameters: Object | None = None


class _User(_Strict):
    goal: Words
    persona: Words | None = None
    max_turns: Annotated[int, Field(ge=1, le=MAX_TURNS)] = 8


class _Attached(_Strict):
    path: Short | None = None
    url: Annotated[str, AfterValidator(_web), AfterValidator(_encodable)] | None = None
    media_type: Literal["image/png", "image/jpeg", "image/gif", "image/webp"] | None = None


class _Row(_Strict):
    id: Short
    input: Words | None = None
    messages: Annotated[list[_Turn], AfterValidator(_has_user)] | None = None
    reference: Listed = Field(default_factory=list)
    references: Listed = Field(default_factory=list)
    context: Listed = Field(default_factory=list)
    tags: Listed = Field(default_factory=list)
    metadata: Object = Field(default_factory=dict)
    weight: Annotated[float, Field(gt=0, le=MAX_WEIGHT, allow_inf_nan=False)] = 1.0
    turns: Listed = Field(default_factory=list)
    user: _User | None = None
    tools: list[Annotated[_Tool, BeforeValidator(_unwrapped)]] = Field(default_factory=list)
    attachments: list[Annotated[_Attached, BeforeValidator(_pointed)]] = Field(default_factory=list)


FIELDS = frozenset(_Row.model_fields)


def parsed(fields: Any, line: int, problems: Problems, folder: Path | None = None) -> Sample | None:
    """The sample in a row's fields; None when there are problems, which have been added.

    Attached files are looked for in `folder`.
    """
    if not isinstance(fields, dict):
        hint = "; a file that is one JSON array is named .json" if isinstance(fields, list) else ""
        problems.add(line, "line", f"must be an object such as {EXAMPLE}, is {_kind(fields)}{hint}")
        return None
    present = {name: value for name, value in fields.items() if value is not None}
    try:
        read = _Row.model_validate(present)
    except ValidationError as error:
        for place, reason in _told(error, present):
            problems.add(line, place, reason)
        return None
    found = [*_mismatches(read)]
    attached = [_attachment(each, folder) for each in read.attachments]
    found += [(f"attachments[{n}]", made) for n, made in enumerate(attached) if isinstance(made, str)]
    for place, reason in found:
        problems.add(line, place, reason)
    if found:
        return None
    return Sample(
        id=read.id,
        input=read.input,
        messages=tuple(_message(turn) for turn in read.messages or ()),
        references=tuple(read.reference or read.references),
        context=tuple(read.context),
        tags=tuple(read.tags),
        metadata=read.metadata,
        weight=read.weight,
        turns=tuple(read.turns),
        user=None if read.user is None else read.user.model_dump(exclude_none=True),
        tools=tuple(Tool(each.name, each.description, each.parameters) for each in read.tools),
        attachments=tuple(made for made in attached if isinstance(made, Attachment)),
    )


def _mismatches(read: _Row) -> Iterator[tuple[str, str]]:
    """What is wrong between fields that are right one by one."""
    if (read.input is None) == (read.messages is None):
        both = "is given, and so is messages: a sample has one of the two"
        yield "input", _NO_QUESTION if read.input is None else both
    if read.reference and read.references:
        yield "references", "is given, and so is reference: write one of the two"
    if read.turns and read.user is not None:
        yield "turns", "is given, and so is user: write one of the two"
    for number, turn in enumerate(read.messages or ()):
        at = f"messages[{number}]"
        if turn.content is None and not turn.tool_calls:
            yield f"{at}.content", "is missing"
        if turn.tool_calls and turn.role != "assistant":
            yield f"{at}.tool_calls", "belongs to a message of the assistant"
        if (turn.tool_call_id is not None) != (turn.role == "tool"):
            missing = turn.role == "tool"
            yield f"{at}.tool_call_id", "is missing" if missing else "belongs to a message of a tool"


def _message(turn: _Turn) -> Message:
    if turn.tool_call_id is not None:
        return Message("tool", (ToolResult(turn.tool_call_id, (Text(turn.content or ""),)),))
    if not turn.tool_calls:
        return Message.of(turn.role, turn.content or "")
    said = () if turn.content is None else (Text(turn.content),)
    calls = (ToolUse(call.id, call.name, call.arguments) for call in turn.tool_calls)
    return Message(turn.role, (*said, *calls))


def _attachment(read: _Attached, folder: Path | None) -> Attachment | str:
    """The attachment, or what is wrong with it."""
    if (read.path is None) == (read.url is None):
        return "has either a path or a url"
    if read.url is not None:
        return Attachment(read.media_type or "", url=read.url)
    assert read.path is not None, "one of the two is there"
    media_type = read.media_type or MEDIA.get(Path(read.path).suffix.lower())
    if media_type is None:
        return f"needs a media_type, or a name that ends in {', '.join(MEDIA)}"
    try:
        located(read.path, folder)
    except ConfigError as error:
        return error.message
    return Attachment(media_type, path=read.path, folder=folder)


# --- words -------------------------------------------------------------------------------------------------

_NO_QUESTION = "is missing, and so is messages: a sample has one of the two"
_REASONS = {
    "missing": "is missing",
    "extra_forbidden": "is not a field of a sample; fields of your own go under metadata, or are mapped",
    "string_type": "must be text, is {kind}",
    "string_too_long": "must not be longer than 200 characters",
    "too_long": "must not be longer than 200 characters",
    "list_type": "must be a list, is {kind}",
    "dict_type": "must be an object, is {kind}",
    "model_type": "must be an object, is {kind}",
    "float_type": "must be a number, is {kind}",
    "int_type": "must be a whole number, is {kind}",
    "greater_than": "must be greater than 0",
    "greater_than_equal": "must be 1 or more",
    "less_than_equal": "must be {most:g} or less",
    "finite_number": "must be finite",
    "literal_error": "must be {expected}",
    "string_unicode": "holds half of a surrogate pair, which is not text",
}
_OWN = frozenset(
    {"blank", "surrogate", "unprintable", "unstorable", "deep", "no_user", "not_web", "unquoted"}
)
_KINDS = {
    str: "text",
    bool: "true or false",
    int: "a number",
    float: "a number",
    list: "a list",
    dict: "an object",
    type(None): "null",
}


def _kind(value: Any) -> str:
    return _KINDS.get(type(value), "something else")


def _place(location: tuple[int | str, ...]) -> str:
    text = ""
    for step in location:
        text += f"[{step}]" if isinstance(step, int) else f"{'.' if text else ''}{shown(step)}"
    return text or "line"


def _told(error: ValidationError, present: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Places and reasons. That there is no question is told with a field that looks like one, or alone."""
    asks = "input" in present or "messages" in present
    for each in error.errors(include_url=False):
        reason = _why(each)
        if each["type"] == "extra_forbidden" and len(each["loc"]) == 1:
            meant = _meant(str(each["loc"][0])[:100])
            if meant is not None:
                missing = "" if asks or meant not in ("input", "messages") else ", which is missing"
                asks = asks or bool(missing)
                reason = f"is not a field of a sample – did you mean `{meant}`{missing}?"
        yield _place(each["loc"]), reason
    if not asks:
        yield "input", _NO_QUESTION


@lru_cache(maxsize=256)  # a file of other rows has the same names in each
def _meant(name: str) -> str | None:
    return near(name, sorted(FIELDS), least=0.75)


def _why(error: ErrorDetails) -> str:
    # Only our own sentences: pydantic's may hold a piece of the value in a later version.
    if error["type"] == "extra_forbidden" and error["loc"] == ("ideal",):
        return "is a field of OpenAI's evals: write `format: openai-evals`"
    if error["type"] == "blank" and error["loc"][0] in ("reference", "references"):
        return (
            "must not be blank: leave it out, and name a scorer that needs none, if there is no right answer"
        )
    if error["type"] in _REASONS:
        said = error.get("ctx", {})
        expected = str(said.get("expected", "")).replace("'", "")
        return _REASONS[error["type"]].format(
            kind=_kind(error["input"]), expected=expected, most=said.get("le", 0)
        )
    return error["msg"] if error["type"] in _OWN else f"is not valid ({error['type']})"
