"""OpenAI's chat completions: the laws, by generated bodies and streams, and the cases by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
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
from guardrails.dialects.openai_chat.answers import events_of, plain_delta
from guardrails.errors import EndpointError, Interrupted, Refused, Transient, Truncated

CHAT = dialect("openai_chat")
ASK = Request.of("hello")

# --- strategies --------------------------------------------------------------------------------------------

WORD = st.text(max_size=6)
SCALAR = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | WORD
JSON = st.recursive(
    SCALAR, lambda j: st.lists(j, max_size=3) | st.dictionaries(WORD, j, max_size=3), max_leaves=5
)
VENDOR = st.dictionaries(st.sampled_from(["x", "name", "type", "id", "detail", "strict"]), JSON, max_size=2)


def some(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Objects that have any of these fields, each sometimes of a wrong type, and perhaps others."""
    loose = {name: value | JSON for name, value in fields.items()}
    return st.builds(lambda extra, own: {**extra, **own}, VENDOR, st.fixed_dictionaries({}, optional=loose))


FUNCTION = some(name=WORD, description=WORD, parameters=st.dictionaries(WORD, JSON, max_size=2))
CALL = some(
    id=WORD,
    type=st.sampled_from(["function", "custom"]),
    function=some(name=WORD, arguments=WORD),
    custom=some(name=WORD, input=WORD),
)
PART = some(
    type=st.sampled_from(["text", "image_url", "input_audio"]),
    text=WORD,
    image_url=some(url=WORD, detail=st.just("low")),
    input_audio=JSON,
)
MESSAGE = some(
    role=st.sampled_from(["system", "developer", "user", "assistant", "tool", "function"]),
    content=WORD | st.lists(PART | WORD, max_size=3),
    name=WORD,
    tool_calls=st.lists(CALL, max_size=2),
    tool_call_id=WORD,
    reasoning_content=WORD,
    reasoning=WORD,
)
BODY = st.builds(
    lambda messages, rest: {**rest, "messages": messages},
    st.lists(MESSAGE, max_size=3),
    some(
        model=WORD,
        tools=st.lists(some(type=st.just("function"), function=FUNCTION), max_size=2),
        tool_choice=st.sampled_from(["auto", "none", "required"])
        | st.builds(lambda name: {"type": "function", "function": {"name": name}}, WORD),
        max_tokens=st.integers(),
        max_completion_tokens=st.integers(),
        temperature=st.floats(0, 2),
        top_p=st.floats(0, 1),
        top_k=st.integers(),
        seed=st.integers(),
        n=st.integers(),
        stop=WORD | st.lists(WORD, max_size=2),
        stream=st.booleans(),
        stream_options=st.just({"include_usage": True}),
        logprobs=st.booleans(),
    ),
)

NUMBER = st.integers(0, 2)
FINITE = st.integers(-(2**53), 2**53) | WORD | st.none() | st.booleans()
DELTA = st.fixed_dictionaries(
    {},
    optional={
        "role": st.just("assistant") | st.none(),
        "content": WORD | st.none(),
        "reasoning_content": WORD | st.none(),
        "reasoning": WORD | st.none(),
        "refusal": WORD | st.none(),
        "audio": st.dictionaries(WORD, FINITE, max_size=1),
        "tool_calls": st.lists(
            st.fixed_dictionaries(
                {"index": NUMBER},
                optional={
                    "id": WORD,
                    "type": st.just("function"),
                    "function": st.fixed_dictionaries(
                        {}, optional={"name": WORD, "arguments": WORD | st.none()}
                    ),
                },
            ),
            max_size=2,
        ),
    },
)
USAGE = st.fixed_dictionaries(
    {"prompt_tokens": st.integers(0, 99), "completion_tokens": st.integers(0, 99)},
    optional={"prompt_tokens_details": st.none() | st.just({"cached_tokens": 1}), "cost": st.floats(0, 1)},
)
CHOICE = st.fixed_dictionaries(
    {"delta": DELTA},
    optional={
        "index": NUMBER,
        "logprobs": st.none() | st.just({"content": [{"token": "a"}]}),
        "finish_reason": st.none() | st.sampled_from(["stop", "length", "tool_calls", "eos"]),
        "token_ids": st.just([1, 2]),
    },
)
CHUNK = st.fixed_dictionaries(
    {"choices": st.lists(CHOICE, max_size=2)},
    optional={
        "id": WORD,
        "object": st.just("chat.completion.chunk"),
        "created": st.integers(0, 2**31),
        "model": WORD,
        "usage": USAGE | st.none(),
        "x": FINITE,
    },
)
STREAM = st.lists(CHUNK, min_size=1, max_size=5)


def to_bytes(chunks: list[dict[str, Any]], end: bytes = b"data: [DONE]\n\n") -> bytes:
    return b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks) + end


def read(data: bytes, *leniency: str) -> list[Event]:
    decoder = CHAT.decoder(frozenset(leniency))
    return decoder.feed(data) + decoder.close()


def write(events: list[Event], request: Request = ASK) -> bytes:
    encoder = CHAT.encoder(request, response_id="r", created=1, model="m")
    return b"".join([encoder.feed(event) for event in events]) + encoder.close()


def chunks_of(data: bytes) -> list[Any]:
    lines = [line.removeprefix(b"data: ") for line in data.split(b"\n\n") if line]
    return [line if line == b"[DONE]" else json.loads(line) for line in lines]


# --- requests ----------------------------------------------------------------------------------------------


@given(BODY)
def test_any_body_comes_back_as_it_was(body: dict[str, Any]) -> None:
    assert CHAT.encode_request(CHAT.decode_request(body)) == body


def test_what_is_ours_is_lifted() -> None:
    body = {
        "model": "m",
        "messages": [
            {"role": "system", "content": "be kind"},
            {
                "role": "user",
                "name": "ann",
                "content": [
                    {"type": "text", "text": "look"},
                    {"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "low"}},
                    {"type": "input_audio", "input_audio": {"data": "AA"}},
                ],
            },
            {
                "role": "assistant",
                "content": None,
                "reasoning_content": "hm",
                "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
            },
            {"role": "tool", "tool_call_id": "1", "content": "42"},
        ],
        "tools": [
            {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}, "strict": True}}
        ],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "max_tokens": 5,
        "stop": "x",
        "temperature": None,
        "stream": False,
        "response_format": {"type": "text"},
    }
    request = CHAT.decode_request(body)
    audio = OpaquePart({"type": "input_audio", "input_audio": {"data": "AA"}})
    image = Image("https://x/y.png", {"image_url": {"detail": "low"}})
    assert request.messages == (
        Message.of("system", "be kind"),
        Message("user", (Text("look"), image, audio), {"name": "ann"}),
        Message("assistant", (Reasoning("hm"), ToolUse("1", "f", "{}"))),
        Message("tool", (ToolResult("1", (Text("42"),)),)),
    )
    assert request.tools == (Tool("f", None, {"type": "object"}, {"function": {"strict": True}}),)
    assert request.tool_choice == "tool:f"
    assert request.sampling == Sampling(max_tokens=5, stop=("x",))
    assert not request.stream
    assert request.extra == {"temperature": None, "response_format": {"type": "text"}}
    assert CHAT.encode_request(request) == body


def test_a_request_from_python_is_spelled_the_modern_way() -> None:
    request = Request.of("hi", system="be kind", max_tokens=3, stop=("a",), seed=7)
    assert CHAT.encode_request(replace(request, model="m")) == {
        "model": "m",
        "messages": [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hi"}],
        "max_completion_tokens": 3,
        "stop": ["a"],
        "seed": 7,
        "stream": True,
    }


def test_a_changed_text_keeps_its_spelling() -> None:
    request = CHAT.decode_request(
        {"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": []}]}
    )
    changed = replace(
        request, messages=(replace(request.messages[0], parts=(Text("b"),)), request.messages[1])
    )
    assert CHAT.encode_request(changed)["messages"] == [
        {"role": "user", "content": "b"},
        {"role": "user", "content": []},
    ]


@pytest.mark.parametrize("body", [{}, {"messages": "hi"}, {"messages": [1]}, {"messages": None}])
def test_a_body_that_is_no_request_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(Refused, match="messages") as caught:
        CHAT.decode_request(body)
    assert caught.value.kind == "bad_request"


def test_usage_is_asked_of_streams_only() -> None:
    assert CHAT.ask_usage({"stream": False}) == {"stream": False}
    asked = CHAT.ask_usage({"stream": True, "stream_options": {"x": 1}})
    assert asked["stream_options"] == {"x": 1, "include_usage": True}


# --- streams -----------------------------------------------------------------------------------------------


@given(STREAM)
def test_an_untouched_stream_is_written_as_it_was_read(chunks: list[dict[str, Any]]) -> None:
    written = write(read(to_bytes(chunks)))
    assert chunks_of(written) == [*chunks, b"[DONE]"]


@given(STREAM)
def test_reading_what_was_written_gives_the_same_events(chunks: list[dict[str, Any]]) -> None:
    events = read(to_bytes(chunks))
    assert read(write(events)) == events


def texts_of(events: list[Event]) -> dict[tuple[int, str], str]:
    texts: dict[tuple[int, str], str] = {}
    for event in events:
        if isinstance(event, Delta) and event.text:
            key = event.choice, event.channel
            texts[key] = texts.get(key, "") + event.text
    return texts


@given(STREAM, st.data())
def test_replaced_and_dropped_events_are_what_is_written(
    chunks: list[dict[str, Any]], data: st.DataObject
) -> None:
    """Whatever a filter does to events, the texts written are those of its events, and no others."""
    changed: list[Event] = []
    for event in read(to_bytes(chunks)):
        match data.draw(st.sampled_from(["keep", "drop", "strip", "text", "split"])):
            case "drop":
                continue
            case "strip":
                changed.append(replace(event, origin=None))
            case "text" if isinstance(event, Delta):
                changed.append(replace(event, text=data.draw(WORD)))
            case "split" if isinstance(event, Delta):
                changed += [
                    replace(event, text=event.text[:1]),
                    replace(event, text=event.text[1:], tool=None),
                ]
            case _:
                changed.append(event)
    again = read(write(changed))
    assert texts_of(again) == texts_of(changed)
    reasons = [(e.choice, e.reason) for e in changed if isinstance(e, Finish) and e.reason]
    assert [(e.choice, e.reason) for e in again if isinstance(e, Finish) and e.reason] == reasons


@given(STREAM)
def test_events_without_origin_mean_the_same(chunks: list[dict[str, Any]]) -> None:
    events = [
        replace(event, origin=None) for event in read(to_bytes(chunks)) if not isinstance(event, Opaque)
    ]
    assert texts_of(read(write(events))) == texts_of(events)
    mine, again = fold_response(events), fold_response(read(write(events)))
    assert [choice.tool_calls for choice in again.choices] == [choice.tool_calls for choice in mine.choices]


@given(CHUNK)
def test_the_short_way_reads_what_the_long_way_reads(chunk: dict[str, Any]) -> None:
    short = plain_delta(chunk)
    if short is not None:
        assert [short] == events_of(chunk, "delta", final_usage=False)
        assert short.origin is not None
        assert (short.origin.raw, short.origin.parts) == (chunk, 1)
        assert repr(short) == repr(Delta(short.text, "text", short.choice))


def test_the_short_way_is_taken() -> None:
    assert plain_delta({"choices": [{"index": 1, "delta": {"content": "a"}}]}) == Delta("a", choice=1)


def chunk(delta: dict[str, Any], reason: str | None = None, **more: Any) -> dict[str, Any]:
    head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "gpt"}
    return {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}], **more}


def call(index: int, arguments: str, **head: str) -> dict[str, Any]:
    named = {"id": head["id"], "type": "function"} if head else {}
    function = {"name": head["name"], "arguments": arguments} if head else {"arguments": arguments}
    return chunk({"tool_calls": [{"index": index, **named, "function": function}]})


TOOLS = [
    chunk({"role": "assistant", "content": None}),
    chunk({"reasoning_content": "let me see"}),
    call(0, "", id="a", name="f"),
    call(0, '{"x":'),
    call(0, "1}"),
    call(1, "{}", id="b", name="g"),
    chunk({}, "tool_calls"),
    {**chunk({}), "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}},
]
HAND: dict[str, tuple[bytes, list[Event]]] = {
    "tools": (
        to_bytes(TOOLS),
        [
            Opaque(TOOLS[0], "openai_chat"),
            Delta("let me see", "reasoning"),
            Delta("", "tool:0", tool=ToolHead("a", "f")),
            Delta('{"x":', "tool:0"),
            Delta("1}", "tool:0"),
            Delta("{}", "tool:1", tool=ToolHead("b", "g")),
            Finish("tool_calls"),
            Finish(None, Usage(3, 4)),
        ],
    ),
    "all in one chunk": (
        to_bytes(
            [chunk({"content": "é🙂", "refusal": "no"}, "stop", usage={"prompt_tokens": 1, "cost": 0.1})]
        ),
        [Delta("é🙂"), Delta("no", "refusal"), Finish("stop", Usage(1, cost=Decimal("0.1")))],
    ),
    "comments, names, CRLF, no last blank line": (
        b": OPENROUTER PROCESSING\r\n\r\nevent: x\r\ndata: "
        + json.dumps(chunk({"content": "a"}, "stop")).encode()
        + b"\r\n\r\ndata: \r\n\r\ndata:[DONE]",
        [Delta("a"), Finish("stop")],
    ),
}


@pytest.mark.parametrize("case", HAND)
def test_by_hand_at_every_split(case: str) -> None:
    data, events = HAND[case]
    assert read(data) == events
    decoder = CHAT.decoder()
    assert [e for i in range(len(data)) for e in decoder.feed(data[i : i + 1])] + decoder.close() == events
    for cut in range(len(data)):
        decoder = CHAT.decoder()
        assert decoder.feed(data[:cut]) + decoder.feed(data[cut:]) + decoder.close() == events


def test_what_a_chunk_says_about_itself() -> None:
    decoder = CHAT.decoder()
    decoder.feed(to_bytes([chunk({"content": "a"}, "stop")]))
    assert (decoder.model, decoder.response_id, decoder.done) == ("gpt", "c", True)
    assert decoder.feed(to_bytes([chunk({"content": "after the end"})])) == []


def test_a_running_usage_counts_once_at_the_end() -> None:
    running = [chunk({"content": "a"}, usage={"completion_tokens": n}) for n in (1, 2)]
    last = chunk({"content": "b"}, "stop", usage={"completion_tokens": 3})
    events = read(to_bytes([*running, last]))
    assert [e.usage for e in events if isinstance(e, Finish)] == [Usage(output_tokens=3)]
    assert chunks_of(write(events)) == [*running, last, b"[DONE]"]


def test_usage_in_all_its_words() -> None:
    usage = {
        "prompt_tokens": 10,
        "completion_tokens": 20,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 5},
        "cost": 0.00014,
    }
    (event,) = read(to_bytes([{"choices": [], "usage": usage}]))
    assert event == Finish(None, Usage(10, 20, 4, 0, 5, Decimal("0.00014")))


def test_logprobs_ride_on_the_text_and_go_with_it() -> None:
    raw = chunk({"content": "secret"})
    raw["choices"][0] |= {"logprobs": {"content": [{"token": "secret"}]}, "token_ids": [7]}
    raw["choices"][0]["delta"]["note"] = "secret"
    events = read(to_bytes([raw]))
    assert isinstance(events[0], Delta)
    assert events[0].logprobs == {"content": [{"token": "secret"}]}
    for changed in (
        [replace(events[0], text="[PII]"), *events[1:]],
        [replace(events[0], text="[P"), replace(events[0], text="II]")],
    ):
        written = write(changed)
        assert b"secret" not in written
        assert texts_of(read(written)) == {(0, "text"): "[PII]"}


def test_fields_that_nobody_reads_can_be_dropped_by_a_filter() -> None:
    raw = chunk({"content": "a", "audio": {"transcript": "spoken"}})
    events = read(to_bytes([raw]))
    unread = Opaque(
        {"choices": [{"index": 0, "delta": {"audio": {"transcript": "spoken"}}}]}, "openai_chat", False
    )
    assert events == [Delta("a"), unread]
    assert b"spoken" not in write(events[:1])
    assert chunks_of(write(events[1:]))[0]["choices"] == unread.raw["choices"]


def test_an_emptied_chunk_is_left_out_but_for_its_role() -> None:
    events = read(to_bytes([chunk({"role": "assistant", "content": "a"}), chunk({"content": "b"}, "stop")]))
    emptied = [replace(event, text="") if isinstance(event, Delta) else event for event in events]
    written = chunks_of(write(emptied))
    assert [c["choices"][0]["delta"] for c in written[:-1]] == [
        {"role": "assistant", "content": ""},
        {"content": ""},
    ]
    (gone,) = read(to_bytes([chunk({"content": "a"})]))
    assert write([replace(gone, text="")]) == b"data: [DONE]\n\n"  # type: ignore[arg-type]


def test_new_events_take_the_envelope_of_the_stream() -> None:
    events = read(to_bytes([chunk({"content": "a"})]))
    second = chunks_of(write([*events, Delta("b")]))[1]
    assert (second["id"], second["created"], second["model"]) == ("c", 1, "gpt")
    first = chunks_of(write([Delta("b")]))[0]
    assert (first["id"], first["created"], first["model"]) == ("r", 1, "m")
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": "b"}


def test_a_usage_chunk_goes_only_to_those_who_asked() -> None:
    events = read(HAND["tools"][0])
    plain = CHAT.decode_request({"messages": [], "stream": True})
    asked = CHAT.decode_request({"messages": [], "stream": True, "stream_options": {"include_usage": True}})
    assert all(c["choices"] for c in chunks_of(write(events, plain))[:-1])
    assert all(c["choices"] for c in chunks_of(write([Finish("stop", Usage(1, 1))], plain))[:-1])
    assert chunks_of(write(events, asked))[-2] == TOOLS[-1]


# --- ends and failures -------------------------------------------------------------------------------------


def failing(data: bytes, *leniency: str) -> tuple[list[Event], EndpointError]:
    """The events before a failure, and the failure: the same for one piece and for single bytes."""
    outcomes = []
    for pieces in ([data], [data[i : i + 1] for i in range(len(data))]):
        decoder = CHAT.decoder(frozenset(leniency))
        events: list[Event] = []
        try:
            for piece in pieces:
                events += decoder.feed(piece)
                if decoder.done:
                    break
            events += decoder.close()
        except EndpointError as error:
            outcomes.append((events, type(error), error.kind, error))
    assert len(outcomes) == 2
    assert outcomes[0][:3] == outcomes[1][:3]
    return outcomes[0][0], outcomes[1][3]


def test_an_end_without_done_is_truncated() -> None:
    events, error = failing(to_bytes([chunk({"content": "a"})], end=b""))
    assert events == [Delta("a")]
    assert isinstance(error, Truncated)
    assert "without a finish reason" in str(error)
    _, error = failing(to_bytes([chunk({"content": "a"}, "stop")], end=b""))
    assert isinstance(error, Truncated)
    assert "missing_done" in str(error)


def test_missing_done_is_allowed_by_name_for_finished_answers_only() -> None:
    finished = to_bytes([chunk({"content": "a"}, "stop")], end=b"")
    assert read(finished, "missing_done") == [Delta("a"), Finish("stop")]
    assert read(finished[:-2], "missing_done") == [Delta("a"), Finish("stop")]
    assert isinstance(failing(to_bytes([chunk({"content": "a"})], end=b""), "missing_done")[1], Truncated)
    two = {
        "choices": [
            {"index": 0, "delta": {}, "finish_reason": "stop"},
            {"index": 1, "delta": {"content": "b"}},
        ]
    }
    assert isinstance(failing(to_bytes([two], end=b""), "missing_done")[1], Truncated)
    assert isinstance(failing(finished[:-5], "missing_done")[1], Truncated)


@pytest.mark.parametrize("data", [b"", b"\n\n", b": keep-alive\n\n", b"data: "])
def test_an_empty_stream_is_truncated(data: bytes) -> None:
    events, error = failing(data)
    assert events == []
    assert isinstance(error, Truncated)


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"<!DOCTYPE html><html><body>404</body></html>", "/v1"),
        (b"\n <html>\n\n</html>", "/v1"),
        (b'{"id": "c", "choices": [{"message": {"content": "hi"}}]}', "stream=false"),
        (b"Not Found", "/v1"),
    ],
)
def test_what_is_no_stream_says_where_to_look(data: bytes, word: str) -> None:
    events, error = failing(data)
    assert events == []
    assert isinstance(error, Refused)
    assert error.kind == "not_inference"
    assert word in str(error)


IN_BAND = [
    (b'data: {"error": {"message": "m", "type": "server_error"}}\n\n', Transient, "server_error"),
    (b'data: {"error": {"message": "m", "code": 429}}\n\n', Transient, "rate_limited"),
    (b'data: {"error": {"code": "context_length_exceeded"}}\n\n', Refused, "context_length"),
    (b'event: error\ndata: {"message": "m"}\n\n', Transient, "server_error"),
    (b'data: {"error": "overloaded"}\n\n', Transient, "server_error"),
    (b'data: {"choices": [{"delta": {}}], "error": {"code": 502}}\n\n', Transient, "bad_gateway"),
    (b'{"error": {"type": "overloaded_error"}}', Transient, "overloaded"),
]


@pytest.mark.parametrize(("data", "kind", "word"), IN_BAND)
def test_an_error_inside_the_stream(data: bytes, kind: type[Exception], word: str) -> None:
    _, error = failing(data)
    assert type(error) is kind
    assert getattr(error, "kind", "") == word
    if data.startswith(b"{"):
        return
    events, late = failing(to_bytes([chunk({"content": "a"})], end=data))
    assert events == [Delta("a")]
    assert type(late) is Interrupted
    assert late.kind == word


def test_a_role_is_no_answer_yet() -> None:
    data = to_bytes([chunk({"role": "assistant", "content": ""})], end=IN_BAND[0][0])
    assert type(failing(data)[1]) is Transient


@pytest.mark.parametrize(
    "payload",
    [
        b"{",
        b"[1]",
        b"null",
        b"[DONE",
        b'"choices"',
        b'{"choices": {}}',
        b'{"choices": [1]}',
        b'{"choices": [{"delta": []}]}',
        b'{"choices": [{"delta": {"content": "\xff"}}]}',
        b"[" * 100_000,
        b'{"a":' * 5000 + b"1" + b"}" * 5000,
        b"1" * 10_000,
    ],
)
def test_malformed_data_is_named_and_not_repeated(payload: bytes) -> None:
    events, error = failing(
        b'data: {"choices": [{"delta": {"content": "my secret"}}]}\n\ndata: ' + payload + b"\n\n"
    )
    assert events == [Delta("my secret")]
    assert type(error) is Interrupted
    assert error.kind == "malformed"
    assert "expected" in str(error)
    assert "event 2" in str(error)
    assert "secret" not in str(error)
    assert error.__cause__ is None
    assert error.__context__ is None


def test_an_endless_event_is_cut_off() -> None:
    decoder = CHAT.decoder()
    for _ in range(16):
        assert decoder.feed(b"x" * 1024 * 1024) == []
    with pytest.raises(Interrupted) as caught:
        decoder.feed(b"x")
    assert caught.value.kind == "oversized"


# --- whole answers -----------------------------------------------------------------------------------------

WHOLE = st.builds(
    lambda chunk: {
        **chunk,
        "choices": [
            {**{k: v for k, v in c.items() if k != "delta"}, "message": c["delta"]} for c in chunk["choices"]
        ],
    },
    CHUNK,
)


@given(WHOLE)
def test_a_whole_answer_comes_back_as_it_was(body: dict[str, Any]) -> None:
    events, _, _ = CHAT.decode_response(body)
    assert CHAT.encode_response(events, ASK, response_id="r", created=1) == body


@given(WHOLE)
def test_a_whole_answer_with_other_texts(body: dict[str, Any]) -> None:
    events, _, _ = CHAT.decode_response(body)
    changed = [replace(e, text=e.text.upper()) if isinstance(e, Delta) else e for e in events]
    again, _, _ = CHAT.decode_response(CHAT.encode_response(changed, ASK, response_id="r", created=1))
    assert texts_of(again) == texts_of(changed)


def test_a_whole_answer_made_of_events() -> None:
    events: list[Event] = [
        Delta("a"),
        Delta("b"),
        Delta("{}", "tool:0", tool=ToolHead("1", "f")),
        Finish("stop", Usage(1, 2)),
    ]
    body = CHAT.encode_response(events, ASK, response_id="r", created=1, model="m")
    assert (body["id"], body["object"], body["model"]) == ("r", "chat.completion", "m")
    again, model, known = CHAT.decode_response(body)
    assert (model, known) == ("m", "r")
    assert fold_response(again) == fold_response(events)


def test_a_whole_answer_that_is_an_error_or_none() -> None:
    with pytest.raises(Transient):
        CHAT.decode_response({"error": {"code": 500}})
    for body in ({}, {"choices": None}, {"choices": [1]}):
        with pytest.raises(Interrupted) as caught:
            CHAT.decode_response(body)
        assert caught.value.kind == "malformed"


def test_a_chunk_whose_text_was_split_is_written_once() -> None:
    (event,) = read(to_bytes([chunk({"content": "ab"}, usage={"prompt_tokens": 1})]))
    assert isinstance(event, Delta)
    written = chunks_of(write([replace(event, text="a"), replace(event, text="b")]))
    assert ["usage" in raw for raw in written[:-1]] == [True, False]


def test_thinking_under_two_names_is_read_once_if_it_is_the_same() -> None:
    (same,) = read(to_bytes([chunk({"reasoning": "a", "reasoning_content": "a"})]))
    assert same == Delta("a", "reasoning")
    (raw, _) = chunks_of(write([replace(same, text="b")]))  # type: ignore[arg-type]
    assert raw["choices"][0]["delta"] == {"reasoning": "b", "reasoning_content": "b"}
    two = read(to_bytes([chunk({"reasoning": "a", "reasoning_content": "b"})]))
    assert two == [Delta("a", "reasoning"), Delta("b", "reasoning")]
