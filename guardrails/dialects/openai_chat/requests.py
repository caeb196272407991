"""Request bodies: what is ours is lifted out, everything else stays in `extra` as it was.

A field is lifted only when it has the type that it should have; `encode(decode(body)) == body` for any body.
Notes on spelling (`form`) are words separated by blanks:

- on a message, how `content` was spelled: `string`, `list`, `null` or `absent`; and `reasoning` when the
  model's thinking was under that key and not under `reasoning_content`;
- on a request: `max_tokens` (and not `max_completion_tokens`), `stop-string`, `stream-false`.

In a part's or a call's `extra`, `type: None` notes that the body had no type there: a bare string among the
content parts, a tool call without its `type`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from guardrails.call import (
    Image,
    Json,
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
from guardrails.dialects.openai_chat.answers import NAME
from guardrails.dialects.wire import is_int, is_number, not_a_request, without

_SAMPLING = {
    "temperature": is_number,
    "top_p": is_number,
    "top_k": is_int,
    "seed": is_int,
    "n": is_int,
}
_CHOICES = ("auto", "none", "required")


def decode_request(body: Mapping[str, Any]) -> Request:
    """A chat-completions body as ours. Raises `Refused` for a body that is none."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise not_a_request("`messages` as a list of objects")
    rest = {key: value for key, value in body.items() if key != "messages"}
    form: list[str] = []
    model = _take_text(rest, "model")
    sampling = _decode_sampling(rest, form)
    tools = _decode_tools(rest.get("tools"))
    if tools:
        del rest["tools"]
    choice = _decode_choice(rest.get("tool_choice"))
    if choice is not None:
        del rest["tool_choice"]
    stream = rest.get("stream")
    if isinstance(stream, bool):
        del rest["stream"]
        if not stream:
            form.append("stream-false")
    return Request(
        messages=tuple(map(_decode_message, messages)),
        model=model,
        tools=tools,
        tool_choice=choice,
        sampling=sampling,
        stream=stream is True,
        extra=rest,
        dialect=NAME,
        form=" ".join(form),
    )


def _take_text(rest: dict[str, Any], key: str) -> str:
    value = rest.get(key)
    if isinstance(value, str) and value:
        del rest[key]
        return value
    return ""


def _decode_sampling(rest: dict[str, Any], form: list[str]) -> Sampling:
    taken: dict[str, Any] = {}
    for key, fits in _SAMPLING.items():
        if fits(rest.get(key)):
            taken[key] = rest.pop(key)
    for key in ("max_completion_tokens", "max_tokens"):
        if "max_tokens" not in taken and is_int(rest.get(key)):
            taken["max_tokens"] = rest.pop(key)
            if key == "max_tokens":
                form.append(key)
    stop = rest.get("stop")
    if isinstance(stop, str):
        form.append("stop-string")
        taken["stop"] = (rest.pop("stop"),)
    elif isinstance(stop, list) and all(isinstance(word, str) for word in stop):
        taken["stop"] = tuple(rest.pop("stop"))
    return Sampling(**taken)


def _decode_tools(tools: Any) -> tuple[Tool, ...]:
    """The tools, or none of them when one of them is no function: then the list stays in `extra`."""
    if not isinstance(tools, list):
        return ()
    decoded = []
    for tool in tools:
        function = tool.get("function") if isinstance(tool, dict) and tool.get("type") == "function" else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            return ()
        extra, inner = without(tool, "type", "function"), without(function, "name")
        description, parameters = inner.get("description"), inner.get("parameters")
        if isinstance(description, str):
            del inner["description"]
        if isinstance(parameters, dict):
            del inner["parameters"]
        decoded.append(
            Tool(
                function["name"],
                description if isinstance(description, str) else None,
                parameters if isinstance(parameters, dict) else None,
                _nested(extra, "function", inner),
            )
        )
    return tuple(decoded)


def _decode_choice(choice: Any) -> str | None:
    if isinstance(choice, str) and choice in _CHOICES:
        return choice
    if isinstance(choice, dict) and choice.keys() == {"type", "function"} and choice["type"] == "function":
        function = choice["function"]
        if isinstance(function, dict) and function.keys() == {"name"} and isinstance(function["name"], str):
            return f"tool:{function['name']}"
    return None


def _nested(extra: dict[str, Any], key: str, inner: Json) -> dict[str, Any]:
    return {**extra, key: inner} if inner else extra


# --- messages ----------------------------------------------------------------------------------------------


def _decode_message(message: dict[str, Any]) -> Message:
    role = message.get("role")
    if not isinstance(role, str):
        return Message("", (OpaquePart(message),), form="opaque")
    rest = without(message, "role")
    form: list[str] = []
    parts: list[Part] = []
    for key in ("reasoning_content", "reasoning"):
        if not parts and isinstance(rest.get(key), str):
            parts.append(Reasoning(rest.pop(key)))
            if key == "reasoning":
                form.append(key)
    content = _decode_content(rest, form)
    calls = _decode_calls(rest.get("tool_calls"))
    if calls:
        del rest["tool_calls"]
    told = role == "tool" and isinstance(rest.get("tool_call_id"), str) and "absent" not in form
    if told and not parts and not calls:
        return Message(role, (ToolResult(rest.pop("tool_call_id"), tuple(content)),), rest, " ".join(form))
    return Message(role, (*parts, *content, *calls), rest, " ".join(form))


def _decode_content(rest: dict[str, Any], form: list[str]) -> list[Text | Image | OpaquePart]:
    content = rest.get("content")
    if isinstance(content, str):
        form.append("string")
        return [Text(rest.pop("content"))]
    if isinstance(content, list) and all(isinstance(part, dict | str) for part in content):
        form.append("list")
        return [_decode_part(part) for part in rest.pop("content")]
    if content is None and "content" in rest:
        form.append("null")
        del rest["content"]
    else:
        form.append("absent")
    return []


def _decode_part(part: dict[str, Any] | str) -> Text | Image | OpaquePart:
    if isinstance(part, str):
        return Text(part, {"type": None})
    kind = part.get("type")
    if kind == "text" and isinstance(part.get("text"), str):
        return Text(part["text"], without(part, "type", "text"))
    image = part.get("image_url")
    if kind == "image_url" and isinstance(image, dict) and isinstance(image.get("url"), str):
        return Image(
            image["url"], _nested(without(part, "type", "image_url"), "image_url", without(image, "url"))
        )
    return OpaquePart(part)


def _decode_calls(calls: Any) -> list[ToolUse]:
    """The tool calls, or none of them when one of them has an unknown shape."""
    if not isinstance(calls, list):
        return []
    decoded = []
    for call in calls:
        kind = call.get("type") if isinstance(call, dict) else None
        key, words = ("custom", "input") if kind == "custom" else ("function", "arguments")
        inner = call.get(key) if isinstance(call, dict) and kind in ("function", "custom", None) else None
        if not isinstance(inner, dict) or (kind is None and "type" in call):
            return []
        values = (call.get("id"), inner.get("name"), inner.get(words))
        if not all(isinstance(value, str) for value in values):
            return []
        extra = _nested(without(call, "id", "type", key), key, without(inner, "name", words))
        if kind != "function":
            extra["type"] = kind
        decoded.append(ToolUse(call["id"], inner["name"], inner[words], extra))
    return decoded


# --- and back ----------------------------------------------------------------------------------------------


def encode_request(request: Request) -> dict[str, Any]:
    """Ours as a chat-completions body. Raises `Refused` (kind `untranslatable`) rather than guess."""
    problems: list[str] = []
    if request.dialect not in ("", NAME):
        request = crossed(request, NAME)
        problems += _images_in_results(request)
    body: dict[str, Any] = {"model": request.model} if request.model else {}
    body["messages"] = [
        encoded
        for place, message in enumerate(request.messages)
        for encoded in _encode_message(message, f"messages[{place}]", problems)
    ]
    if problems:
        raise refuse(problems, NAME)
    form = request.form.split()
    if request.tools:
        body["tools"] = [_encode_tool(tool) for tool in request.tools]
    if request.tool_choice is not None:
        body["tool_choice"] = _encode_choice(request.tool_choice)
    _encode_sampling(request.sampling, form, body)
    if request.stream:
        body["stream"] = True
    elif "stream-false" in form:
        body["stream"] = False
    return {**request.extra, **body}


def _encode_sampling(sampling: Sampling, form: list[str], body: dict[str, Any]) -> None:
    for key in _SAMPLING:
        value = getattr(sampling, key)
        if value is not None:
            body[key] = value
    if sampling.max_tokens is not None:
        body["max_tokens" if "max_tokens" in form else "max_completion_tokens"] = sampling.max_tokens
    if sampling.stop is not None:
        bare = "stop-string" in form and len(sampling.stop) == 1
        body["stop"] = sampling.stop[0] if bare else list(sampling.stop)


def _encode_tool(tool: Tool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    if tool.parameters is not None:
        function["parameters"] = tool.parameters
    return {
        "type": "function",
        **without(tool.extra, "function"),
        "function": {**tool.extra.get("function", {}), **function},
    }


def _encode_choice(choice: str) -> Any:
    if choice.startswith("tool:"):
        return {"type": "function", "function": {"name": choice[5:]}}
    return choice


def _images_in_results(request: Request) -> list[str]:
    return [
        f"messages[{place}] (an image in a tool's result)"
        for place, message in enumerate(request.messages)
        for part in message.parts
        if isinstance(part, ToolResult) and any(isinstance(inner, Image) for inner in part.parts)
    ]


def _encode_message(message: Message, path: str, problems: list[str]) -> list[dict[str, Any]]:
    """The vendor's turns for one of ours: tool results are turns of their own there."""
    if message.form == "opaque" and len(message.parts) == 1 and isinstance(message.parts[0], OpaquePart):
        return [dict(message.parts[0].raw)]
    turns: list[dict[str, Any]] = []
    others: list[Part] = []
    for part in message.parts:
        if not isinstance(part, ToolResult):
            others.append(part)
            continue
        if others:
            turns.append(_encode_turn(message, others))
            others = []
        if part.is_error:
            problems.append(f"{path} (the failure flag of a tool's result: say it in the result's text)")
        own = message.extra if message.role == "tool" else {}
        content = _encode_content(part.parts, message.form.split(), default="")
        turns.append({**own, **part.extra, "role": "tool", "tool_call_id": part.id, **content})
    if others or not turns:
        turns.append(_encode_turn(message, others))
    return turns


def _encode_turn(message: Message, parts: list[Part]) -> dict[str, Any]:
    form = message.form.split()
    content = [part for part in parts if isinstance(part, Text | Image | OpaquePart)]
    thoughts = [part.text for part in parts if isinstance(part, Reasoning)]
    calls = [_encode_call(part) for part in parts if isinstance(part, ToolUse)]
    default = None if calls else ""
    turn = {**message.extra, "role": message.role, **_encode_content(content, form, default)}
    if thoughts:
        turn["reasoning" if "reasoning" in form else "reasoning_content"] = "".join(thoughts)
    if calls:
        turn["tool_calls"] = calls
    return turn


def _encode_content(parts: Sequence[Part], form: list[str], default: str | None) -> dict[str, Any]:
    """The `content` field, spelled as it was where that still fits; `default` is how nothing is spelled."""
    if not parts:
        if "absent" in form:
            return {}
        return {"content": None if "null" in form else [] if "list" in form else default}
    first = parts[0]
    if len(parts) == 1 and "list" not in form and isinstance(first, Text) and not first.extra:
        return {"content": first.text}
    return {"content": [_encode_part(part) for part in parts]}


def _encode_part(part: Part) -> Any:
    if isinstance(part, Text):
        if part.extra.get("type", part) is None:
            return part.text
        return {**part.extra, "type": "text", "text": part.text}
    if isinstance(part, Image):
        inner = part.extra.get("image_url", {})
        return {**part.extra, "type": "image_url", "image_url": {**inner, "url": part.url}}
    assert isinstance(part, OpaquePart)
    return part.raw


def _encode_call(call: ToolUse) -> dict[str, Any]:
    kind = call.extra.get("type", "function")
    key, words = ("custom", "input") if kind == "custom" else ("function", "arguments")
    inner = {**call.extra.get(key, {}), "name": call.name, words: call.arguments}
    encoded = {**call.extra, "id": call.id, "type": kind, key: inner}
    if kind is None:
        del encoded["type"]
    return encoded
