from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrails.call import Message, Request, Tool, ToolResult, fold_response
from guardrails.errors import ConfigError
from guardrails.testing import Profile
from guardrails.testing.answers import Golden, Known, source
from guardrails.testing.compose import Composed, compose, example, pieces

CAPITALS = [
    Known("au", "What is the capital of Australia?", "Canberra.", "Sydney."),
    Known("ca", "What is the capital of Canada?", "Ottawa.", "Toronto."),
    Known("who", "My mail is ann@example.com. How long is my guarantee?", "Two years.", "One year."),
]


def answer(request: Request, profile: Profile) -> Composed:
    texts = [source(profile.answers)(request, choice) for choice in range(request.sampling.n or 1)]
    return compose(request, profile, texts)


def text_of(request: Request, profile: Profile | None = None) -> str:
    profile = profile or Profile()
    return fold_response(list(answer(request, profile).events())).text


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("What is the capital of Canada?", "Ottawa."),
        ("Answer in one word. What is the capital of Canada? Be brief.", "Ottawa."),
        ("My mail is <EMAIL_ADDRESS_1>. How long is my guarantee?", "Two years."),
        ("Zzz", "I do not know."),
    ],
)
def test_golden_finds_the_nearest_sample(prompt: str, expected: str) -> None:
    assert Golden(CAPITALS)(Request.of(prompt), 0) == expected


def test_golden_reads_the_last_user_turn() -> None:
    turns = (
        Message.of("user", CAPITALS[0].prompt),
        Message.of("assistant", "?"),
        Message.of("user", CAPITALS[1].prompt),
    )
    assert Golden(CAPITALS)(Request(turns), 0) == "Ottawa."


def test_golden_is_as_accurate_as_asked_and_reproducible() -> None:
    samples = [Known(str(n), f"question number{n}", "right", "wrong") for n in range(2000)]

    def answers(seed: int) -> list[str]:
        golden = Golden(samples, accuracy=0.8, seed=seed)
        return [golden(Request.of(sample.prompt), 0) for sample in samples]

    assert answers(1) == answers(1)
    assert answers(1) != answers(2)
    assert 1520 <= answers(1).count("right") <= 1680  # 0.8 ± 4.5 standard errors


def test_golden_draws_anew_for_each_asking_and_choice_but_not_for_the_same_seed() -> None:
    golden = Golden(CAPITALS, accuracy=0.5)
    request = Request.of(CAPITALS[0].prompt)
    assert {golden(request, 0) for _ in range(40)} == {"Canberra.", "Sydney."}
    assert {golden(request, choice) for choice in range(40)} == {"Canberra.", "Sydney."}
    assert len({golden(Request.of(CAPITALS[0].prompt, seed=7), 0) for _ in range(40)}) == 1


def test_golden_file(tmp_path: Path) -> None:
    path = tmp_path / "set.jsonl"
    turns = [{"role": "user", "content": [{"type": "text", "text": "Which sea?"}]}]
    lines = [
        {"id": "1", "input": "Which river?", "references": ["Rhine"]},
        {"id": "2", "messages": turns, "metadata": {"answer": "The Baltic.", "wrong": "The Dead Sea."}},
    ]
    path.write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    assert source(f"golden:{path}")(Request.of("Which river?"), 0) == "Rhine"
    assert source(f"golden:{path}")(Request.of("Which sea?"), 0) == "The Baltic."
    assert source(f"golden:{path}", accuracy=0)(Request.of("Which sea?"), 0) == "The Dead Sea."


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", "has no line"),
        ("nonsense\n", "line 1: no JSON object"),
        ('{"input": "a", "references": ["b"]}\n[1]\n', "line 2: no JSON object"),
        ('{"input": "a"}\n', "line 1: the sample has no answer"),
        ('{"references": ["a"]}\n', "line 1: the sample has no prompt"),
        ('{"input": 3, "references": ["a"], "metadata": 4}\n', "no prompt"),
        ('{"messages": [3, {"role": "user", "content": [1]}], "references": "a"}\n', "no prompt"),
    ],
)
def test_a_bad_golden_file_is_named_with_its_line(tmp_path: Path, content: str, complaint: str) -> None:
    path = tmp_path / "set.jsonl"
    path.write_text(content)
    with pytest.raises(ConfigError, match=complaint):
        source(f"golden:{path}")


def test_replay_goes_round(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text('{"answer": "one"}\n{"text": "two"}\n')
    replay = source(f"replay:{path}")
    assert [replay(Request.of("?"), 0) for _ in range(3)] == ["one", "two", "one"]


@pytest.mark.parametrize(
    "spec", ["", "parrot", "echo:x", "golden", "golden:", "replay", "lorem:many", "golden:/no"]
)
def test_an_unknown_source_is_refused_by_name(spec: str) -> None:
    with pytest.raises(ConfigError, match=r"use one of|words|cannot read"):
        source(spec)


@given(st.text())
def test_pieces_joined_are_the_text(text: str) -> None:
    assert "".join(pieces(text)) == text
    assert all(1 <= len(piece) <= 7 for piece in pieces(text))


@given(st.text(min_size=1), st.integers(1, 10), st.integers(1, 3))
def test_max_tokens_cuts_every_choice(text: str, limit: int, n: int) -> None:
    composed = answer(Request.of(text, max_tokens=limit, n=n), Profile())
    response = fold_response(list(composed.events()))
    assert len(response.choices) == n
    cut = len(pieces(text)) > limit
    for choice in response.choices:
        assert choice.text == "".join(pieces(text)[:limit])
        assert choice.finish_reason == ("length" if cut else "stop")
    assert composed.usage.output_tokens == n * min(limit, len(pieces(text)))
    assert len(composed.steps) == min(limit, len(pieces(text)))


def test_stop_cuts_at_the_first_of_them() -> None:
    assert text_of(Request.of("one two three", stop=("three", "two"))) == "one "


def test_reasoning_comes_first_and_is_counted() -> None:
    composed = answer(Request.of("hi"), Profile(reasoning=3))
    response = fold_response(list(composed.events()))
    assert response.choices[0].reasoning == "lorem ipsum dolor"
    assert response.text == "hi"
    assert response.usage is not None
    assert response.usage.reasoning_tokens == len(pieces("lorem ipsum dolor"))


def test_an_offered_tool_is_called_until_it_has_answered() -> None:
    schema = {
        "properties": {
            "city": {"type": "string"},
            "days": {"type": "integer"},
            "unit": {"enum": ["C", "F"]},
            "later": {"type": "string"},
        },
        "required": ["city", "days", "unit"],
    }
    tools = (Tool("weather", parameters=schema), Tool("time"))
    request = Request((Message.of("user", "hi"),), tools=tools)
    response = fold_response(list(answer(request, Profile()).events()))
    (call,) = response.choices[0].tool_calls
    assert call.name == "weather"
    assert json.loads(call.arguments) == {"city": "example", "days": 1, "unit": "C"}
    assert response.choices[0].finish_reason == "tool_calls"

    wanted = Request((Message.of("user", "hi"),), tools=tools, tool_choice="tool:time")
    response = fold_response(list(answer(wanted, Profile()).events()))
    assert response.choices[0].tool_calls[0].name == "time"

    answered = Request(
        (Message.of("user", "hi"), Message("tool", (ToolResult("call_sim0", ()),))), tools=tools
    )
    assert text_of(answered) == "hi"
    assert text_of(Request((Message.of("user", "hi"),), tools=tools, tool_choice="none")) == "hi"


def test_usage_can_be_kept_secret() -> None:
    composed = answer(Request.of("hi"), Profile(usage=False))
    assert fold_response(list(composed.events())).usage is None


def test_a_schema_that_refers_to_itself_ends() -> None:
    schema: dict[str, object] = {"type": "array"}
    schema["items"] = schema
    assert json.dumps(example(schema)).count("[") == 9
