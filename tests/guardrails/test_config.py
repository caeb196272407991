from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from guardrails import Call, ConfigError, Request, collect
from guardrails.client import endpoint
from guardrails.config import Filters, Named, Policy, build
from guardrails.endpoints.http import HttpEndpoint

GOOD = """
name: vendor
type: http
url: http://127.0.0.1:9/v1
model: gpt-4o-mini
key_env: SOME_KEY
timeouts: {first_event: 20, between_events: 10, whole: 120}
deadline: 60
filters:
  input: [pii]
  output:
    - pii: {entities: [EMAIL_ADDRESS], action: block}
records: calls.jsonl
"""


async def echo(request: Request) -> str:
    """Found by name in the tests below."""
    return request.messages[-1].text


def write(folder: Path, text: str) -> Path:
    path = folder / "policy.yaml"
    path.write_text(text)
    return path


def test_a_whole_file_builds(tmp_path: Path) -> None:
    llm = build(write(tmp_path, GOOD))
    assert (llm.name, llm.model) == ("vendor", "gpt-4o-mini")


def test_every_mistake_is_reported_at_once_with_its_line(tmp_path: Path) -> None:
    text = """
type: http
url: ftp://nowhere
modle: x
timeouts: {first: 3}
filters:
  input: [pie]
  output:
    - pii: {entities: [PERSON], action: block}
    - pii: {action: destroy}
layers:
  - deadline: {seconds: -1}
"""
    with pytest.raises(ConfigError) as caught:
        build(write(tmp_path, text))
    said = str(caught.value)
    for line, word in [
        (4, "modle"),
        (5, "first"),
        (7, "pie"),
        (9, "PERSON"),
        (10, "action"),
        (12, "seconds"),
    ]:
        assert any(f"policy.yaml:{line}: " in row and word in row for row in said.splitlines()), said


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"url": "nowhere"}, "must look like http://"),
        ({"url": "http://user:pw@h/v1"}, "no query, fragment or credentials"),
        ({"dialect": "klingon"}, "use one of openai_chat, anthropic"),
        ({"leniency": ["anything"]}, "allowed: missing_done"),
        ({"type": "carrier-pigeon"}, "use one of function, http, replay"),
        ({"deadline": 0}, "greater than 0"),
        ({"prices": "absent.toml"}, "absent.toml"),
    ],
)
def test_what_cannot_work_says_what_is_allowed(change: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        build({"url": "http://h/v1", **change})


@pytest.mark.asyncio
async def test_objects_say_the_same_as_a_file(tmp_path: Path) -> None:
    policy = Policy(
        name="mine",
        type="function",
        filters=Filters(input=[Named(name="pii", options={"entities": ["EMAIL_ADDRESS"]})]),
        records=tmp_path / "calls.jsonl",
        target=f"{__name__}:echo" if "." in __name__ else "tests_config_echo:echo",  # type: ignore[call-arg]
    )
    import sys

    sys.modules.setdefault("tests_config_echo", sys.modules[__name__])
    llm = build(policy)
    answer = await llm.ask("write to jane@example.com")
    assert answer.text == "write to <EMAIL_ADDRESS>"
    row = orjson.loads((tmp_path / "calls.jsonl").read_bytes())
    assert row["findings"][0]["kind"] == "EMAIL_ADDRESS"
    assert "jane" not in str(row)


@pytest.mark.asyncio
async def test_the_simplest_use() -> None:
    async with endpoint(echo, model="echo-1") as llm:
        assert (await llm.ask("hello")).text == "hello"
        async with llm.stream("hello") as events:
            assert [event async for event in events]
        response = await collect(llm, Call(Request.of("hello")))
        assert response.text == "hello"


def test_unknown_options_of_an_endpoint_are_named() -> None:
    with pytest.raises(ConfigError, match="unknown option modell"):
        endpoint("http://h/v1", modell="x")


@pytest.mark.parametrize(
    ("url", "dialect", "target"),
    [
        ("http://h:1/v1", "openai_chat", "http://h:1/v1/chat/completions"),
        ("http://h:1/v1/", "openai_chat", "http://h:1/v1/chat/completions"),
        ("http://h:1/v1/chat/completions", "openai_chat", "http://h:1/v1/chat/completions"),
        ("https://api.anthropic.com", "anthropic", "https://api.anthropic.com/v1/messages"),
        ("https://api.anthropic.com/v1", "anthropic", "https://api.anthropic.com/v1/messages"),
    ],
)
def test_base_urls_are_understood_as_people_write_them(url: str, dialect: str, target: str) -> None:
    llm = endpoint(url, dialect=dialect)
    assert isinstance(llm._endpoint, HttpEndpoint)
    assert llm._endpoint._url == target
