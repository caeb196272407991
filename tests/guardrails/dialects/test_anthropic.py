"""Anthropic's Messages API: the laws, by generated bodies and streams, and the cases by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrails.call import (
    Delta,
    Event,
    Finish,
    Image,
    Message,
    Opaque,
    OpaquePart,
    Reasoning,
    Request,
    Sampling,
    Text,
    Tool,
    ToolHead,
    ToolResult,
    ToolUse,
    Usage,
    fold_response,
)
from guardrails.dialects import dialect
from guardrails.errors import EndpointError, Interrupted, Refused, Transient, Truncated

CLAUDE = dialect("anthropic")
ASK = Request.of("hello")

# --- strategies --------------------------------------------------------------------------------------------

WORD = st.text(max_size=6)
SCALAR = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | WORD
JSON = st.recursive(
    SCALAR, lambda j: st.lists(j, max_size=3) | st.dictionaries(WORD, j, max_size=3), max_leaves=5
)
VENDOR = st.dictionaries(st.sampled_from(["x", "cache_control", "type", "id", "source"]), JSON, max_size=2)


def some(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Objects that have any of these fields, each sometimes of a wrong type, and perhaps others."""
    loose = {name: value | JSON for name, value in fields.items()}
    return st.builds(lambda extra, own: {**extra, **own}, VENDOR, st.fixed_dictionaries({}, optional=loose))


SOURCE = st.one_of(
    st.just({"type": "base64", "media_type": "image/png", "data": "AA=="}),
    st.just({"type": "base64", "media_type": "image/png;base64,x", "data": "AA=="}),
    st.builds(lambda url: {"type": "url", "url": url}, WORD | st.just("data:image/png;base64,AA==")),
    some(type=st.just("url"), url=WORD),
)
KINDS = ["text", "image", "tool_use", "tool_result", "thinking", "redacted_thinking", "document"]


def block(content: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return some(
        type=st.sampled_from(KINDS),
        text=WORD,
        source=SOURCE,
        id=WORD,
        name=WORD,
        input=st.dictionaries(WORD, JSON, max_size=2),
        tool_use_id=WORD,
        content=content,
        is_error=st.booleans(),
        thinking=WORD,
        signature=WORD,
    )


BLOCKS = WORD | st.lists(block(WORD | st.lists(block(WORD), max_size=2)), max_size=3)
TURN = some(role=st.sampled_from(["user", "assistant", "system"]), content=BLOCKS)
BODY = st.builds(
    lambda messages, rest: {**rest, "messages": messages},
    st.lists(TURN, max_size=3),
    some(
        model=WORD,
        system=BLOCKS,
        max_tokens=st.integers(),
        temperature=st.floats(0, 1),
        top_p=st.floats(0, 1),
        top_k=st.integers(),
        stop_sequences=st.lists(WORD, max_size=2),
        tools=st.lists(
            some(name=WORD, description=WORD, input_schema=st.dictionaries(WORD, JSON, max_size=2)),
            max_size=2,
        ),
        tool_choice=st.sampled_from(["auto", "any", "none", "tool"]).map(lambda kind: {"type": kind})
        | WORD.map(lambda name: {"type": "tool", "name": name}),
        stream=st.booleans(),
        metadata=JSON,
    ),
)

DELTAS = {
    "text": st.fixed_dictionaries({"type": st.just("text_delta"), "text": WORD})
    | st.just({"type": "citations_delta", "citation": {"cited_text": "c"}}),
    "thinking": st.fixed_dictionaries({"type": st.just("thinking_delta"), "thinking": WORD})
    | st.just({"type": "signature_delta", "signature": "s"}),
    "tool_use": st.fixed_dictionaries({"type": st.just("input_json_delta"), "partial_json": WORD}),
    "server_tool_use": st.fixed_dictionaries({"type": st.just("input_json_delta"), "partial_json": WORD}),
}
STARTS: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "text": st.fixed_dictionaries({"text": st.just("") | WORD}),
    "thinking": st.just({"thinking": "", "signature": ""}),
    "tool_use": st.fixed_dictionaries({"id": WORD, "name": WORD, "input": st.just({})}),
    "server_tool_use": st.just({"id": "s", "name": "web_search", "input": {}}),
}


@st.composite
def streams(draw: st.DrawFn) -> list[dict[str, Any]]:
    usage = st.fixed_dictionaries(
        {"input_tokens": st.integers(0, 9), "output_tokens": st.integers(0, 9)},
        optional={"cache_read_input_tokens": st.integers(0, 9) | st.none()},
    )
    message = {"id": draw(WORD), "model": draw(WORD), "content": [], "usage": draw(usage)}
    raws: list[dict[str, Any]] = [{"type": "message_start", "message": message}, {"type": "ping"}]
    for index, kind in enumerate(draw(st.lists(st.sampled_from(list(STARTS)), max_size=3))):
        start = {"type": kind, **draw(STARTS[kind])}
        raws.append({"type": "content_block_start", "index": index, "content_block": start})
        deltas = draw(st.lists(DELTAS[kind], max_size=3))
        raws += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        raws += draw(st.sampled_from([[], [{"type": "ping"}], [{"type": "news", "x": 1}]]))
        raws.append({"type": "content_block_stop", "index": index})
    reason = draw(
        st.sampled_from(["end_turn", "max_tokens", "tool_use", "stop_sequence", "refusal", "pause_turn"])
    )
    delta = {"stop_reason": reason, "stop_sequence": None}
    return [*raws, {"type": "message_delta", "delta": delta, "usage": draw(usage)}, {"type": "message_stop"}]


def to_bytes(raws: list[dict[str, Any]]) -> bytes:
    return b"".join(
        b"event: " + raw["type"].encode() + b"\ndata: " + json.dumps(raw).encode() + b"\n\n" for raw in raws
    )


def read(data: bytes, *leniency: str) -> list[Event]:
    decoder = CLAUDE.decoder(frozenset(leniency))
    return decoder.feed(data) + decoder.close()


def write(events: list[Event]) -> bytes:
    encoder = CLAUDE.encoder(ASK, response_id="r", created=1, model="m")
    return b"".join([encoder.feed(event) for event in events]) + encoder.close()


def raws_of(data: bytes) -> list[Any]:
    frames = []
    for frame in data.split(b"\n\n"):
        if frame:
            name, _, payload = frame.partition(b"\ndata: ")
            raw = json.loads(payload)
            assert name == f"event: {raw['type']}".encode()
            frames.append(raw)
    return frames


# --- requests ----------------------------------------------------------------------------------------------


@given(BODY)
def test_any_body_comes_back_as_it_was(body: dict[str, Any]) -> None:
    assert CLAUDE.encode_request(CLAUDE.decode_request(body)) == body


def test_what_is_ours_is_lifted() -> None:
    body = {
        "model": "c",
        "system": [{"type": "text", "text": "be kind", "cache_control": {"type": "ephemeral"}}],
        "max_tokens": 9,
        "messages": [
            {"role": "user", "content": "look"},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "s"},
                    {"type": "redacted_thinking", "data": "d"},
                    {"type": "tool_use", "id": "1", "name": "f", "input": {"x": 1}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "1",
                        "content": [{"type": "image", "source": {"type": "url", "url": "https://x"}}],
                        "is_error": True,
                    },
                    {"type": "tool_result", "tool_use_id": "2", "content": [{"type": "text", "text": "a"}]},
                    {"type": "tool_result", "tool_use_id": "3", "is_error": False},
                    {
                        "type": "image",
                        "source": {"type": "base64", "media_type": "image/png", "data": "AA=="},
                    },
                ],
            },
        ],
        "tools": [{"name": "f", "description": "d", "input_schema": {"type": "object"}}],
        "tool_choice": {"type": "any"},
        "stop_sequences": ["x"],
        "top_k": 3,
        "metadata": {"user_id": "u"},
    }
    request = CLAUDE.decode_request(body)
    assert request.messages == (
        Message("system", (Text("be kind", {"cache_control": {"type": "ephemeral"}}),)),
        Message.of("user", "look"),
        Message(
            "assistant",
            (
                Reasoning("hm", {"signature": "s"}),
                OpaquePart({"type": "redacted_thinking", "data": "d"}),
                ToolUse("1", "f", '{"x":1}'),
            ),
        ),
        Message(
            "user",
            (
                ToolResult("1", (Image("https://x"),), is_error=True),
                ToolResult("2", (Text("a"),)),
                ToolResult("3", ()),
                Image("data:image/png;base64,AA=="),
            ),
        ),
    )
    assert request.tools == (Tool("f", "d", {"type": "object"}),)
    assert request.tool_choice == "required"
    assert request.sampling == Sampling(max_tokens=9, stop=("x",), top_k=3)
    assert request.extra == {"metadata": {"user_id": "u"}}
    assert CLAUDE.encode_request(request) == body


def test_a_request_from_python() -> None:
    request = Request.of("hi", system="be kind", temperature=0.5)
    assert CLAUDE.encode_request(replace(request, model="c")) == {
        "model": "c",
        "system": "be kind",
        "max_tokens": 4096,
        "messages": [{"role": "user", "content": "hi"}],
        "temperature": 0.5,
        "stream": True,
    }


def test_arguments_that_are_no_object_are_refused() -> None:
    request = Request((Message("assistant", (ToolUse("1", "f", '{"secret'),)),))
    with pytest.raises(Refused) as caught:
        CLAUDE.encode_request(request)
    assert caught.value.kind == "untranslatable"
    assert "messages[0].parts[0].arguments" in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("body", [{}, {"messages": "hi"}, {"messages": [1]}])
def test_a_body_that_is_no_request_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(Refused, match="messages"):
        CLAUDE.decode_request(body)


# --- streams -----------------------------------------------------------------------------------------------


@given(streams())
def test_an_untouched_stream_is_written_as_it_was_read(raws: list[dict[str, Any]]) -> None:
    assert raws_of(write(read(to_bytes(raws)))) == raws


@given(streams())
def test_reading_what_was_written_gives_the_same_events(raws: list[dict[str, Any]]) -> None:
    events = read(to_bytes(raws))
    assert read(write(events)) == events


def texts_of(events: list[Event]) -> dict[str, str]:
    texts: dict[str, str] = {}
    for event in events:
        if isinstance(event, Delta) and event.text:
            texts[event.channel] = texts.get(event.channel, "") + event.text
    return texts


def assert_well_formed(raws: list[dict[str, Any]]) -> None:
    """Blocks are numbered from 0, start and stop once, one at a time, and grow only while they are open."""
    raws = [raw for raw in raws if raw["type"] not in ("ping", "news")]
    assert (raws[0]["type"], raws[-1]["type"]) == ("message_start", "message_stop")
    number, is_open = -1, False
    for raw in raws:
        if raw["type"] == "content_block_start":
            assert not is_open
            number, is_open = number + 1, True
        if raw["type"].startswith("content_block"):
            assert is_open
            assert raw["index"] == number
        if raw["type"] == "content_block_stop":
            is_open = False
    assert not is_open


@given(streams(), st.data())
def test_replaced_dropped_and_late_events_are_what_is_written(
    raws: list[dict[str, Any]], data: st.DataObject
) -> None:
    changed: list[Event] = []
    late: Event | None = None
    for event in read(to_bytes(raws)):
        tool = isinstance(event, Delta) and event.channel.startswith("tool")
        if late is not None and (tool or isinstance(event, Finish)):
            changed.append(late)
            late = None
        match (
            "keep" if tool else data.draw(st.sampled_from(["keep", "drop", "strip", "text", "split", "late"]))
        ):
            case "drop":
                continue
            case "strip" if not isinstance(event, Opaque):
                changed.append(replace(event, origin=None))
            case "text" if isinstance(event, Delta):
                changed.append(replace(event, text=data.draw(WORD)))
            case "split" if isinstance(event, Delta):
                changed += [replace(event, text=event.text[:1]), replace(event, text=event.text[1:])]
            case "late" if isinstance(event, Delta) and late is None:
                late = event
            case _:
                changed.append(event)
    written = write(changed)
    again = read(written, "missing_stop")
    assert texts_of(again) == texts_of(changed)
    if any(isinstance(event, Delta | Finish) for event in changed):
        assert_well_formed(raws_of(written))


@given(streams())
def test_events_without_origin_mean_the_same(raws: list[dict[str, Any]]) -> None:
    events = [replace(event, origin=None) for event in read(to_bytes(raws)) if not isinstance(event, Opaque)]
    written = write(events)
    assert_well_formed(raws_of(written))
    assert fold_response(read(written)) == fold_response(events)


def start(index: int, **block: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def delta(index: int, **delta: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": delta}


def stop(index: int) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index}


HEAD = {
    "type": "message_start",
    "message": {
        "id": "msg_1",
        "model": "claude",
        "usage": {
            "input_tokens": 3,
            "cache_read_input_tokens": 4,
            "cache_creation_input_tokens": 5,
            "output_tokens": 1,
        },
    },
}
TAIL = {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 9}}
HAND = [
    HEAD,
    start(0, type="thinking", thinking="", signature=""),
    delta(0, type="thinking_delta", thinking="hm"),
    delta(0, type="signature_delta", signature="s"),
    stop(0),
    start(1, type="text", text=""),
    {"type": "ping"},
    delta(1, type="text_delta", text="é🙂"),
    stop(1),
    start(2, type="tool_use", id="a", name="f", input={}),
    delta(2, type="input_json_delta", partial_json=""),
    delta(2, type="input_json_delta", partial_json='{"x":1}'),
    stop(2),
    start(3, type="tool_use", id="b", name="g", input={}),
    stop(3),
    TAIL,
    {"type": "message_stop"},
]
EVENTS: list[Event] = [
    Opaque(HAND[0], "anthropic"),
    Opaque(HAND[1], "anthropic"),
    Delta("hm", "reasoning"),
    Opaque(HAND[3], "anthropic", structural=False),
    Opaque(HAND[4], "anthropic"),
    Opaque(HAND[5], "anthropic"),
    Opaque(HAND[6], "anthropic"),
    Delta("é🙂"),
    Opaque(HAND[8], "anthropic"),
    Delta("", "tool:0", tool=ToolHead("a", "f")),
    Opaque(HAND[10], "anthropic"),
    Delta('{"x":1}', "tool:0"),
    Opaque(HAND[12], "anthropic"),
    Delta("", "tool:1", tool=ToolHead("b", "g")),
    Opaque(HAND[14], "anthropic"),
    Finish("tool_calls", Usage(12, 9, cached_tokens=4, cache_write_tokens=5)),
]


def test_by_hand_at_every_split() -> None:
    data = to_bytes(HAND)
    assert read(data) == EVENTS
    assert read(data[:-2]) == EVENTS, "the last blank line may be missing"
    decoder = CLAUDE.decoder()
    assert [e for i in range(len(data)) for e in decoder.feed(data[i : i + 1])] + decoder.close() == EVENTS
    assert (decoder.model, decoder.response_id, decoder.done) == ("claude", "msg_1", True)
    for cut in range(len(data)):
        decoder = CLAUDE.decoder()
        assert decoder.feed(data[:cut]) + decoder.feed(data[cut:]) + decoder.close() == EVENTS


def test_a_text_released_after_its_block_gets_a_block_of_its_own() -> None:
    events = read(
        to_bytes(
            [
                HEAD,
                start(0, type="text", text=""),
                delta(0, type="text_delta", text="a"),
                stop(0),
                TAIL,
                HAND[-1],
            ]
        )
    )
    late = [*events[:2], events[3], events[2], events[4]]
    written = raws_of(write(late))
    assert_well_formed(written)
    assert [raw["index"] for raw in written if raw["type"] == "content_block_start"] == [0, 1]


@pytest.mark.parametrize(
    ("raw", "ours"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("pause_turn", "pause_turn"),
    ],
)
def test_reasons(raw: str, ours: str) -> None:
    (event,) = read(
        to_bytes([{"type": "message_delta", "delta": {"stop_reason": raw}}, {"type": "message_stop"}])
    )
    assert event == Finish(ours)


# --- ends and failures -------------------------------------------------------------------------------------


def failing(data: bytes, *leniency: str) -> EndpointError:
    with pytest.raises(EndpointError) as caught:
        read(data, *leniency)
    return caught.value


def test_an_end_without_message_stop_is_truncated() -> None:
    assert isinstance(failing(b""), Truncated)
    assert isinstance(failing(to_bytes(HAND[:8])), Truncated)
    assert "missing_stop" in str(failing(to_bytes(HAND[:-1])))
    assert read(to_bytes(HAND[:-1]), "missing_stop") == EVENTS
    assert isinstance(failing(to_bytes(HAND[:-2]), "missing_stop"), Truncated)


def test_an_error_inside_the_stream() -> None:
    error = to_bytes([{"type": "error", "error": {"type": "overloaded_error", "message": "m"}}])
    early = failing(to_bytes(HAND[:2]) + error)
    assert (type(early), early.kind) == (Transient, "overloaded")
    decoder = CLAUDE.decoder()
    assert decoder.feed(to_bytes(HAND[:3]) + error) == EVENTS[:3]
    assert decoder.done
    with pytest.raises(Interrupted) as late:
        decoder.close()
    assert (type(late.value), late.value.kind) == (Interrupted, "overloaded")


@pytest.mark.parametrize(
    "raw",
    [
        {"type": "message_start"},
        {"type": "content_block_start", "content_block": 1},
        {"type": "content_block_delta", "delta": []},
    ],
)
def test_malformed_events(raw: dict[str, Any]) -> None:
    assert failing(to_bytes([raw])).kind == "malformed"


def test_an_error_written_into_a_stream_is_read_again() -> None:
    encoder = CLAUDE.encoder(ASK, response_id="r", created=1)
    data = encoder.feed(Delta("a")) + encoder.fail(Transient("busy", kind="overloaded"))
    decoder = CLAUDE.decoder()
    assert texts_of(decoder.feed(data)) == {"text": "a"}
    with pytest.raises(Interrupted, match="overloaded"):
        decoder.close()


# --- whole answers -----------------------------------------------------------------------------------------

WHOLE = st.fixed_dictionaries(
    {
        "id": WORD,
        "type": st.just("message"),
        "role": st.just("assistant"),
        "model": WORD,
        "content": st.lists(
            st.fixed_dictionaries(
                {"type": st.just("text"), "text": WORD}, optional={"citations": st.none() | st.just([{}])}
            )
            | st.fixed_dictionaries({"type": st.just("thinking"), "thinking": WORD, "signature": WORD})
            | st.fixed_dictionaries(
                {
                    "type": st.just("tool_use"),
                    "id": WORD,
                    "name": WORD,
                    "input": st.dictionaries(WORD, JSON, max_size=2),
                }
            )
            | st.just({"type": "redacted_thinking", "data": "d"}),
            max_size=4,
        ),
        "stop_reason": st.sampled_from(["end_turn", "tool_use", None]),
        "usage": st.just({"input_tokens": 1, "output_tokens": 2}) | st.none(),
    }
)


@given(WHOLE)
def test_a_whole_answer_comes_back_as_it_was(body: dict[str, Any]) -> None:
    events, _, _ = CLAUDE.decode_response(body)
    assert CLAUDE.encode_response(events, ASK, response_id="r", created=1) == body


@given(WHOLE)
def test_a_whole_answer_with_other_texts(body: dict[str, Any]) -> None:
    events, _, _ = CLAUDE.decode_response(body)
    changed: list[Event] = []
    for event in events:
        text = isinstance(event, Delta) and event.tool is None
        changed.append(replace(event, text="new") if text else event)  # type: ignore[call-arg]
    again, _, _ = CLAUDE.decode_response(CLAUDE.encode_response(changed, ASK, response_id="r", created=1))
    assert texts_of(again) == texts_of(changed)


def test_a_whole_answer_made_of_events() -> None:
    events: list[Event] = [
        Delta("hm", "reasoning"),
        Delta("a"),
        Delta('{"x":1}', "tool:0", tool=ToolHead("1", "f")),
        Finish("tool_calls", Usage(3, 2, cached_tokens=1)),
    ]
    body = CLAUDE.encode_response(events, ASK, response_id="r", created=1, model="m")
    again, model, known = CLAUDE.decode_response(body)
    assert (model, known) == ("m", "r")
    assert fold_response(again) == fold_response(events)


def test_a_whole_answer_that_is_an_error_or_none() -> None:
    with pytest.raises(Transient):
        CLAUDE.decode_response({"type": "error", "error": {"type": "api_error"}})
    for body in ({}, {"content": None}, {"content": [1]}):
        with pytest.raises(Interrupted) as caught:
            CLAUDE.decode_response(body)
        assert caught.value.kind == "malformed"


def test_a_block_whose_first_text_was_split_starts_once() -> None:
    events = read(to_bytes([HEAD, start(0, type="text", text="ab"), stop(0), TAIL, HAND[-1]]))
    split = [replace(events[1], text="a"), replace(events[1], text="b")]  # type: ignore[call-arg]
    written = raws_of(write([events[0], *split, *events[2:]]))
    assert [raw["type"] for raw in written].count("content_block_start") == 1
    assert_well_formed(written)
