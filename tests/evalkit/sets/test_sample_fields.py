"""Turns, simulated users, tools, tool calls and images of a sample."""

from __future__ import annotations

import base64
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from evalkit.sample import MAX_ATTACHMENT, Attachment, GoldenSetError, Sample, load
from guardrails.call import Image, Message, Text, Tool, ToolResult, ToolUse
from guardrails.dialects.openai_chat.requests import encode_request
from guardrails.errors import ConfigError

CALL = {"id": "c", "name": "f"}
PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 20


def only(folder: Path, **row: Any) -> Sample:
    (folder / "set.jsonl").write_text(json.dumps({"id": "a", "input": "x", **row}) + "\n", encoding="utf-8")
    return load("set.jsonl", folder).samples[0]


def refused(folder: Path, **row: Any) -> tuple[str, str]:
    with pytest.raises(GoldenSetError) as error:
        only(folder, **row)
    (problem,) = error.value.problems
    return problem.field, problem.reason


def test_a_sample_goes_on_for_several_turns(tmp_path: Path) -> None:
    assert only(tmp_path, turns=["and then?", "why?"]).turns == ("and then?", "why?")
    user = {"goal": "get a refund", "persona": "impatient", "max_turns": 3}
    assert only(tmp_path, user=user).user == user
    assert only(tmp_path, user={"goal": "x"}).user == {"goal": "x", "max_turns": 8}
    assert refused(tmp_path, user={"goal": "x"}, turns=["y"])[0] == "turns"
    assert refused(tmp_path, user={"persona": "x"}) == ("user.goal", "is missing")
    assert refused(tmp_path, user={"goal": "x", "max_turns": 101}) == (
        "user.max_turns",
        "must be 100 or less",
    )
    assert refused(tmp_path, turns=["x", " "]) == ("turns[1]", "must not be blank")
    with pytest.raises(ValueError, match="either turns or a simulated user"):
        Sample("a", "x", turns=("y",), user={"goal": "z"})


def test_tools_in_either_spelling(tmp_path: Path) -> None:
    plain = {"name": "find", "description": "Finds.", "parameters": {"type": "object"}}
    wrapped = {"type": "function", "function": {"name": "stop"}}
    sample = only(tmp_path, tools=[plain, wrapped])
    assert sample.tools == (Tool("find", "Finds.", {"type": "object"}), Tool("stop"))
    assert sample.request().tools == sample.tools
    assert refused(tmp_path, tools=[{"description": "x"}]) == ("tools[0].name", "is missing")


def test_a_conversation_may_hold_tool_calls_and_their_results(tmp_path: Path) -> None:
    messages = [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "tool_calls": [{"id": "c1", "name": "w", "arguments": {"at": "Oslo"}}]},
        {"role": "tool", "tool_call_id": "c1", "content": "rain"},
        {
            "role": "assistant",
            "content": "Wait.",
            "tool_calls": [{"id": "c2", "type": "function", "function": {"name": "w", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "c2", "content": "sun"},
    ]
    sample = only(tmp_path, input=None, messages=messages)
    assert sample.messages == (
        Message.of("user", "Weather?"),
        Message("assistant", (ToolUse("c1", "w", '{"at": "Oslo"}'),)),
        Message("tool", (ToolResult("c1", (Text("rain"),)),)),
        Message("assistant", (Text("Wait."), ToolUse("c2", "w", "{}"))),
        Message("tool", (ToolResult("c2", (Text("sun"),)),)),
    )
    assert sample.question().prompt == (
        'user: Weather?\n\nassistant: [calls w({"at": "Oslo"})]\n\ntool: rain\n\n'
        "assistant: Wait. [calls w({})]\n\ntool: sun"
    )


def test_a_request_with_tools_can_be_sent(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    sample = only(tmp_path, tools=[{"name": "find"}], attachments=["a.png"])
    encoded = json.dumps(encode_request(sample.request(model="m")))
    assert '"find"' in encoded
    assert base64.b64encode(PNG).decode() in encoded


@pytest.mark.parametrize(
    ("turn", "field"),
    [
        ({"role": "tool", "content": "x"}, "messages[1].tool_call_id"),
        ({"role": "user", "content": "x", "tool_call_id": "c"}, "messages[1].tool_call_id"),
        ({"role": "user", "content": "x", "tool_calls": [CALL]}, "messages[1].tool_calls"),
        ({"role": "assistant"}, "messages[1].content"),
        ({"role": "assistant", "tool_calls": [{"id": "c"}]}, "messages[1].tool_calls[0].name"),
        (
            {"role": "assistant", "tool_calls": [{**CALL, "arguments": 3}]},
            "messages[1].tool_calls[0].arguments",
        ),
    ],
)
def test_turns_that_do_not_fit_their_role(tmp_path: Path, turn: Any, field: str) -> None:
    assert refused(tmp_path, input=None, messages=[{"role": "user", "content": "x"}, turn])[0] == field


# --- attachments -------------------------------------------------------------------------------------------


def test_images_go_with_the_question(tmp_path: Path) -> None:
    (tmp_path / "img").mkdir()
    (tmp_path / "img" / "a.png").write_bytes(PNG)
    (tmp_path / "b").write_bytes(b"GIF")
    attachments = [
        {"path": "img/a.png"},
        {"path": "b", "media_type": "image/gif"},
        "https://example.com/c.jpg",
        "data:image/png;base64,AA==",
    ]
    sample = only(tmp_path, attachments=attachments, context=["One."])
    (message,) = sample.request().messages
    assert message.text.startswith("Answer the question")
    assert message.parts[1:] == (
        Image(f"data:image/png;base64,{base64.b64encode(PNG).decode()}"),
        Image("data:image/gif;base64,R0lG"),
        Image("https://example.com/c.jpg"),
        Image("data:image/png;base64,AA=="),
    )


@pytest.mark.parametrize(
    ("attachment", "said"),
    [
        ("../secret.png", "relative path inside"),
        ("img/../../secret.png", "relative path inside"),
        ("/etc/passwd", "media_type"),
        ({"path": "/etc/passwd", "media_type": "image/png"}, "relative path inside"),
        ("..\\secret.png", "relative path inside"),
        ("link.png", "leads out of"),
        ("folder/secret.png", "leads out of"),
        # From 3.13 on a loop of links resolves to itself, and is no file.
        ("loop.png", "is not a file" if sys.version_info >= (3, 13) else "cannot be used as a path"),
        ("img", "media_type"),
        ({"path": "img", "media_type": "image/png"}, "is not a file"),
        ("missing.png", "is not a file"),
        ("fifo.png", "is not a file"),
        ("large.png", "is larger than"),
        ("n" * 190 + "/" + "x.png", "is not a file"),
        ("http://example.com/a.png", "is not a file"),
        ({"url": "http://example.com/a.png"}, "must begin with https://"),
        ({"url": "file:///etc/passwd"}, "must begin with https://"),
        ({"url": "https://x/a.png", "path": "a.png"}, "either a path or a url"),
        ({}, "either a path or a url"),
        ({"path": "a.png\n"}, "control characters"),
        ({"path": "a.png", "media_type": "text/html"}, "must be image/png"),
    ],
)
def test_an_attachment_cannot_lead_out_of_the_folder(tmp_path: Path, attachment: Any, said: str) -> None:
    folder = tmp_path / "set"
    (folder / "img").mkdir(parents=True)
    (tmp_path / "secret.png").write_bytes(PNG)
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    (folder / "folder").symlink_to(tmp_path)
    (folder / "loop.png").symlink_to(folder / "loop.png")
    os.mkfifo(folder / "fifo.png")
    with (folder / "large.png").open("wb") as large:
        large.truncate(MAX_ATTACHMENT + 1)
    assert said in refused(folder, attachments=[attachment])[1]


def test_an_attachment_is_checked_again_when_it_is_sent(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "a.png").write_bytes(PNG)
    (tmp_path / "secret.png").write_bytes(b"secret")
    sample = only(folder, attachments=["a.png"])
    (folder / "a.png").unlink()
    (folder / "a.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(ConfigError, match="leads out of"):
        sample.request()


def test_a_key_follows_the_image_and_not_its_folder(tmp_path: Path) -> None:
    plain = []
    for name, content in (("one", b"a"), ("two", b"a"), ("three", b"b")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").write_bytes(content)
        plain.append(only(tmp_path / name, attachments=["a.png"]).plain())
    assert plain[0] == plain[1] != plain[2]
    assert Attachment("image/png", path="a.png", folder=tmp_path) == Attachment("image/png", path="a.png")


def test_the_plain_form_holds_what_was_given_and_nothing_else() -> None:
    assert Sample("a", "x").plain() == {"id": "a", "input": "x"}
    full = Sample(
        "a",
        messages=(Message.of("user", "x"), Message("assistant", (ToolUse("c", "f", "{}"),))),
        tools=(Tool("f"),),
        weight=2.0,
    )
    assert full.plain() == {
        "id": "a",
        "messages": [["user", "x"], ["assistant", ["c", "f", "{}"]]],
        "tools": [["f", None, None]],
        "weight": 2.0,
    }
    json.dumps(full.plain())
