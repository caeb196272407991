"""Request bodies of the Messages API: what is ours is lifted out, everything else stays in `extra`.

A field is lifted only when it has the type that it should have; `encode(decode(body)) == body` for any body.
The top-level `system` becomes the first message. Notes on spelling (`form`) are words separated by blanks:

- on a message: `string` or `list` for its content, `absent` when it had none that we can read, `top` for the
  top-level `system`; and for its n-th tool result `n=list` or `n=absent` where it is not spelled as usual
  (a bare string when that says it all), `n-false` when `is_error: false` was written out;
- on a request: `stream-false`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from guardrails.call import (
    Image,
    Message,
    OpaquePart,
    Part,
    Reasoning,
    Request,
    Sampling,
    Text,
    Tool,
    ToolResult,
    ToolUse,
)
from guardrails.dialects.crossing import crossed, refuse
from guardrails.dialects.wire import is_int, is_number, not_a_request, without

NAME = "anthropic"
MAX_TOKENS = 4096
"""What is sent for a request that sets no `max_tokens`: this vendor demands a number."""

_SAMPLING = {"max_tokens": is_int, "temperature": is_number, "top_p": is_number, "top_k": is_int}
_CHOICES = {"auto": "auto", "none": "none", "any": "required"}
_CHOICES_BACK = {ours: theirs for theirs, ours in _CHOICES.items()}
_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+);base64,(.*)", re.DOTALL | re.ASCII)
_MEDIA_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+", re.ASCII)


def decode_request(body: Mapping[str, Any]) -> Request:
    """A Messages body as ours. Raises `Refused` for a body that is none."""
    turns = body.get("messages")
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise not_a_request("`messages` as a list of objects")
    rest = {key: value for key, value in body.items() if key != "messages"}
    messages = [_decode_message(turn) for turn in turns]
    parts, spelled = _decode_content(rest.get("system"))
    if spelled:
        del rest["system"]
        messages.insert(0, Message("system", tuple(parts), form=f"top {spelled}"))
    model = rest.get("model")
    if isinstance(model, str) and model:
        del rest["model"]
    sampling = {key: rest.pop(key) for key, fits in _SAMPLING.items() if fits(rest.get(key))}
    stop = rest.get("stop_sequences")
    if isinstance(stop, list) and all(isinstance(word, str) for word in stop):
        sampling["stop"] = tuple(rest.pop("stop_sequences"))
    tools = _decode_tools(rest.get("tools"))
    if tools:
        del rest["tools"]
    choice = _decode_choice(rest.get("tool_choice"))
    if choice is not None:
        del rest["tool_choice"]
    stream = rest.get("stream")
    if isinstance(stream, bool):
        del rest["stream"]
    return Request(
        messages=tuple(messages),
        model=model if isinstance(model, str) else "",
        tools=tools,
        tool_choice=choice,
        sampling=Sampling(**sampling),
        stream=stream is True,
        extra=rest,
        dialect=NAME,
        form="stream-false" if stream is False else "",
    )


def _decode_tools(tools: Any) -> tuple[Tool, ...]:
    """The tools, or none of them when one is the vendor's own: then the list stays in `extra`."""
    if not isinstance(tools, list):
        return ()
    decoded = []
    for tool in tools:
        if not isinstance(tool, dict) or not isinstance(tool.get("name"), str):
            return ()
        if not isinstance(tool.get("input_schema"), dict):
            return ()
        extra = without(tool, "name", "input_schema")
        description = extra.get("description")
        if isinstance(description, str):
            del extra["description"]
        decoded.append(
            Tool(
                tool["name"],
                description if isinstance(description, str) else None,
                tool["input_schema"],
                extra,
            )
        )
    return tuple(decoded)


def _decode_choice(choice: Any) -> str | None:
    if not isinstance(choice, dict) or not isinstance(choice.get("type"), str):
        return None
    if choice.keys() == {"type"}:
        return _CHOICES.get(choice["type"])
    if choice.keys() == {"type", "name"} and choice["type"] == "tool" and isinstance(choice["name"], str):
        return f"tool:{choice['name']}"
    return None


# --- messages ----------------------------------------------------------------------------------------------


def _decode_message(turn: dict[str, Any]) -> Message:
    role = turn.get("role")
    if not isinstance(role, str):
        return Message("", (OpaquePart(turn),), form="opaque")
    parts, spelled = _decode_content(turn.get("content"))
    rest = without(turn, "role", "content") if spelled else without(turn, "role")
    notes = _result_notes(parts, turn["content"]) if spelled == "list" else []
    form = [spelled or "absent", *notes]
    return Message(role, tuple(parts), rest, " ".join(form))


def _decode_content(content: Any) -> tuple[list[Part], str]:
    """The parts of a `content` or `system` and how it was spelled; `""` when it cannot be read."""
    if isinstance(content, str):
        return [Text(content)], "string"
    if isinstance(content, list) and all(isinstance(block, dict) for block in content):
        return [_decode_block(block) for block in content], "list"
    return [], ""


def _decode_block(block: dict[str, Any]) -> Part:
    kind = block.get("type")
    if kind == "text" and isinstance(block.get("text"), str):
        return Text(block["text"], without(block, "type", "text"))
    if kind == "thinking" and isinstance(block.get("thinking"), str):
        return Reasoning(block["thinking"], without(block, "type", "thinking"))
    if kind == "image":
        return _decode_image(block)
    if kind == "tool_use" and isinstance(block.get("id"), str) and isinstance(block.get("name"), str):
        arguments = write_arguments(block.get("input"))
        if arguments is not None:
            return ToolUse(
                block["id"], block["name"], arguments, without(block, "type", "id", "name", "input")
            )
    if kind == "tool_result" and isinstance(block.get("tool_use_id"), str):
        return _decode_result(block)
    return OpaquePart(block)


def _decode_image(block: dict[str, Any]) -> Image | OpaquePart:
    source = block.get("source")
    extra = without(block, "type", "source")
    if not isinstance(source, dict):
        return OpaquePart(block)
    if source.keys() == {"type", "url"} and source["type"] == "url" and isinstance(source["url"], str):
        if not source["url"].startswith("data:"):
            return Image(source["url"], extra)
    elif source.keys() == {"type", "media_type", "data"} and source["type"] == "base64":
        media, data = source["media_type"], source["data"]
        if isinstance(media, str) and isinstance(data, str) and _MEDIA_TYPE.fullmatch(media):
            return Image(f"data:{media};base64,{data}", extra)
    return OpaquePart(block)


def _decode_result(block: dict[str, Any]) -> ToolResult | OpaquePart:
    failed = block.get("is_error", False)
    parts, spelled = _decode_content(block.get("content", ""))
    if not isinstance(failed, bool) or not spelled:
        return OpaquePart(block)
    inner = tuple(
        part if isinstance(part, Text | Image | OpaquePart) else OpaquePart(raw)
        for part, raw in zip(parts, block.get("content", ()), strict=False)
    )
    extra = without(block, "type", "tool_use_id", "content", "is_error")
    return ToolResult(block["tool_use_id"], inner if "content" in block else (), failed, extra)


def _result_notes(parts: Sequence[Part], content: list[Any]) -> list[str]:
    """How the tool results among `parts` were spelled, where that is not the usual way."""
    notes: list[str] = []
    blocks = [block for part, block in zip(parts, content, strict=True) if isinstance(part, ToolResult)]
    for place, block in enumerate(blocks):
        if "content" not in block:
            notes.append(f"{place}=absent")
        elif isinstance(block["content"], list):
            notes.append(f"{place}=list")
        if block.get("is_error") is False:
            notes.append(f"{place}-false")
    return notes


def write_arguments(value: Any) -> str | None:
    """A tool's input as JSON text; None when it is no object, or too deep."""
    if not isinstance(value, dict):
        return None
    try:
        # The standard library's, because it keeps integers of any size as they are.
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    except (RecursionError, ValueError):
        return None


def read_arguments(text: str) -> dict[str, Any] | None:
    """A tool's input out of JSON text (no text is no arguments); None when it is no object."""
    if not text.strip():
        return {}
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


# --- and back ----------------------------------------------------------------------------------------------


def encode_request(request: Request) -> dict[str, Any]:
    """Ours as a Messages body. Raises `Refused` (kind `untranslatable`) rather than guess."""
    own = request.dialect == NAME
    if request.dialect not in ("", NAME):
        request = crossed(request, NAME)
    problems = [] if own else _unsayable(request)
    body: dict[str, Any] = {"model": request.model} if request.model else {}
    system, turns = _split_system(request.messages, problems)
    if system is not None:
        body["system"] = system
    body["messages"] = [_encode_message(message, path, problems) for path, message in _merged(turns)]
    body |= _encode_sampling(request.sampling, problems)
    if problems:
        raise refuse(problems, NAME)
    if not own:
        body = {"max_tokens": MAX_TOKENS, **body}
    if request.tools:
        body["tools"] = [_encode_tool(tool) for tool in request.tools]
    if request.tool_choice is not None:
        body["tool_choice"] = _encode_choice(request.tool_choice)
    if request.stream:
        body["stream"] = True
    elif "stream-false" in request.form.split():
        body["stream"] = False
    return {**request.extra, **body}


def _encode_sampling(sampling: Sampling, problems: list[str]) -> dict[str, Any]:
    if sampling.seed is not None:
        problems.append("sampling.seed")
    if sampling.n is not None and sampling.n != 1:
        problems.append("sampling.n")
    fields = {key: getattr(sampling, key) for key in _SAMPLING if getattr(sampling, key) is not None}
    return fields if sampling.stop is None else {**fields, "stop_sequences": list(sampling.stop)}


def _unsayable(request: Request) -> list[str]:
    """What a request from elsewhere may say and a Messages body cannot."""
    problems = []
    temperature = request.sampling.temperature
    if temperature is not None and temperature > 1:
        problems.append("sampling.temperature (it ends at 1 here)")
    for place, message in enumerate(request.messages):
        for number, part in enumerate(message.parts):
            if isinstance(part, Reasoning) and not part.extra.get("signature"):
                problems.append(f"messages[{place}].parts[{number}] (thinking that this vendor did not sign)")
    return problems


def _split_system(messages: Sequence[Message], problems: list[str]) -> tuple[Any, list[tuple[str, Message]]]:
    """The top-level `system`, and the turns with their paths."""
    system: list[Message] = []
    turns: list[tuple[str, Message]] = []
    for place, message in enumerate(messages):
        forms = message.form.split()
        if "top" in forms or (message.role in ("system", "developer") and not forms and not turns):
            system.append(message)
        elif message.role in ("system", "developer") and not forms:
            problems.append(f"messages[{place}] (a {message.role} turn after the conversation began)")
        else:
            turns.append((f"messages[{place}]", message))
    if not system:
        return None, turns
    parts = [part for message in system for part in message.parts]
    spelled = "list" if "list" in system[0].form.split() else "string"
    return _encode_content(parts, [spelled], "system", problems), turns


def _merged(turns: list[tuple[str, Message]]) -> list[tuple[str, Message]]:
    """Turns of role `tool` as one user turn each run: all results of one round belong together here."""
    merged: list[tuple[str, Message]] = []
    run: list[Part] = []
    for place, (path, message) in enumerate(turns):
        if message.role != "tool" or message.form:
            merged.append((path, message))
            continue
        run += message.parts
        if place + 1 == len(turns) or turns[place + 1][1].role != "tool":
            merged.append((path, Message("user", tuple(run))))
            run = []
    return merged


def _encode_message(message: Message, path: str, problems: list[str]) -> dict[str, Any]:
    forms = message.form.split()
    if "opaque" in forms and len(message.parts) == 1 and isinstance(message.parts[0], OpaquePart):
        return dict(message.parts[0].raw)
    turn = {**message.extra, "role": message.role}
    if not forms and message.role not in ("user", "assistant"):
        problems.append(f"{path}.role ({message.role if message.role.isidentifier() else 'unknown'})")
    if message.parts or "absent" not in forms:
        turn["content"] = _encode_content(message.parts, forms, path, problems)
    return turn


def _encode_content(parts: Sequence[Part], forms: list[str], path: str, problems: list[str]) -> Any:
    if len(parts) == 1 and "list" not in forms and isinstance(parts[0], Text) and not parts[0].extra:
        return parts[0].text
    if not parts and "list" not in forms:
        return ""
    blocks, results = [], 0
    for place, part in enumerate(parts):
        here = f"{path}.parts[{place}]"
        if isinstance(part, ToolResult):
            blocks.append(_encode_result(part, results, forms, here, problems))
            results += 1
        else:
            blocks.append(_encode_block(part, here, problems))
    return blocks


def _encode_result(
    part: ToolResult, number: int, forms: list[str], path: str, problems: list[str]
) -> dict[str, Any]:
    block: dict[str, Any] = {**part.extra, "type": "tool_result", "tool_use_id": part.id}
    spelled = ["list"] if f"{number}=list" in forms else []
    if part.parts or f"{number}=absent" not in forms:
        block["content"] = _encode_content(part.parts, spelled, path, problems)
    if part.is_error or f"{number}-false" in forms:
        block["is_error"] = part.is_error
    return block


def _encode_block(part: Part, path: str, problems: list[str]) -> dict[str, Any]:
    if isinstance(part, Text):
        return {**part.extra, "type": "text", "text": part.text}
    if isinstance(part, Reasoning):
        return {**part.extra, "type": "thinking", "thinking": part.text}
    if isinstance(part, Image):
        return {**part.extra, "type": "image", "source": _encode_source(part, path, problems)}
    if isinstance(part, ToolUse):
        arguments = read_arguments(part.arguments)
        if arguments is None:
            problems.append(f"{path}.arguments (they are no JSON object)")
        return {**part.extra, "type": "tool_use", "id": part.id, "name": part.name, "input": arguments}
    assert isinstance(part, OpaquePart)
    return dict(part.raw)


def _encode_source(image: Image, path: str, problems: list[str]) -> dict[str, Any]:
    if not image.url.startswith("data:"):
        return {"type": "url", "url": image.url}
    data = _DATA_URL.fullmatch(image.url)
    if data is None:
        problems.append(f"{path}.url (a data URL that is not base64)")
        return {}
    return {"type": "base64", "media_type": data[1], "data": data[2]}


def _encode_tool(tool: Tool) -> dict[str, Any]:
    encoded: dict[str, Any] = {**tool.extra, "name": tool.name}
    if tool.description is not None:
        encoded["description"] = tool.description
    encoded["input_schema"] = (
        {"type": "object", "properties": {}} if tool.parameters is None else tool.parameters
    )
    return encoded


def _encode_choice(choice: str) -> dict[str, Any]:
    if choice.startswith("tool:"):
        return {"type": "tool", "name": choice[5:]}
    return {"type": _CHOICES_BACK.get(choice, choice)}
