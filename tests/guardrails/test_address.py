"""What could never be sent is refused when an endpoint is made, without a word of what may be secret."""

from __future__ import annotations

from typing import Any

import pytest

import guardrails
from guardrails import Call, ConfigError, Request, collect
from guardrails.endpoints.address import check_headers, check_variable, key_for, target

SECRET = "not-to-be-seen"


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://h", "http://h/v1/chat/completions"),
        ("http://h/v1/", "http://h/v1/chat/completions"),
        ("https://h:8443/v1/chat/completions", "https://h:8443/v1/chat/completions"),
        ("http://[::1]:8000/v1", "http://[::1]:8000/v1/chat/completions"),
        ("http://bücher.de/v1", "http://bücher.de/v1/chat/completions"),
        ("http://h:65535", "http://h:65535/v1/chat/completions"),
    ],
)
def test_an_address_is_the_base_and_the_dialects_path(url: str, address: str) -> None:
    assert target(url, "/v1/chat/completions") == address


@pytest.mark.parametrize(
    "url",
    [
        "localhost:8000/v1",
        "ftp://h/v1",
        "http://",
        "http:///v1",
        "http://[::1/v1",
        "http://[zz]/v1",
        "http://h:999999/v1",
        "http://h:0/v1",
        "http://h:-1/v1",
        "http://h:port/v1",
        "http://two words/v1",
        "http://h\n/v1",
        "http://.../v1",
        f"http://{'a' * 64}.de/v1",
        "http://xn--/v1",
        "http://h/v1?x=1",
        f"http://u:{SECRET}@h/v1",
    ],
)
def test_what_can_be_no_address_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="an endpoint's url must") as refused:
        guardrails.endpoint(url, model="m")
    assert refused.value.hint
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    "headers",
    [
        {"x-key": f"{SECRET}\n"},
        {"x-key": f"{SECRET}\r\nx-other: 1"},
        {"x-key": f"{SECRET}\0"},
        {"x-key": f"{SECRET} é"},
        {f"authorization: bearer {SECRET}": ""},
        {f"authorization bearer {SECRET}": ""},
        {f"authorization={SECRET}": ""},
        {f"authorization\t{SECRET}": ""},
        {f"1{SECRET} ": ""},
        {"two words": "x"},
        {"": "x"},
        {"é": "x"},
    ],
)
def test_a_header_that_cannot_be_sent_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"cannot be (sent|a header's name)") as refused:
        guardrails.endpoint("http://h/v1", model="m", headers=headers)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("headers", [{"x-key": 5}, {"x-key": None}, {"x-key": SECRET.encode()}, {5: SECRET}])
def test_a_header_that_is_no_text_is_refused(headers: Any) -> None:
    with pytest.raises(ConfigError, match=r"cannot be (sent|a header's name)") as refused:
        check_headers(headers)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("name", ["Content-Length", "transfer-encoding"])
def test_a_header_that_follows_from_the_body_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be set"):
        guardrails.endpoint("http://h/v1", model="m", headers={name: "5"})


def test_what_httpx_takes_for_no_address_is_refused_at_once_where_it_is_used() -> None:
    guardrails.endpoint("http://☃.net/v1", model="m")
    with pytest.raises(ConfigError, match="httpx can make no address"):
        guardrails.endpoint("http://☃.net/v1", model="m", transport="httpx")


def test_headers_that_can_be_sent_are_taken() -> None:
    check_headers({"X-Api-Key": "a b\t~!", "x_y": "", "Accept": "*/*"})


@pytest.mark.parametrize("name", ["", " ", f"sk-{SECRET}", "A=B", "1A", "$KEY"])
def test_what_no_variable_is_called_is_refused_and_not_repeated(name: str) -> None:
    with pytest.raises(ConfigError, match="key_env must be the name of an environment variable") as refused:
        guardrails.endpoint("http://h/v1", model="m", key_env=name)
    assert SECRET not in str(refused.value)


def test_any_name_of_a_variable_is_taken() -> None:
    for name in (None, "OPENAI_API_KEY", "_k1", "key"):
        check_variable(name)


@pytest.mark.asyncio
@pytest.mark.parametrize("end", ["\n", "\r", "é"])
async def test_a_key_that_cannot_be_sent_ends_a_run_at_once(
    monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    """As `config`, which says that no later call can work either; it was `internal`, call after call."""
    monkeypatch.setenv("MY_KEY", SECRET + end)
    for options in ({"key_env": "MY_KEY"}, {"key": SECRET + end}, {"key": lambda: SECRET + end}):
        async with guardrails.endpoint("http://127.0.0.1:1/v1", model="m", **options) as llm:
            with pytest.raises(ConfigError, match="cannot be sent: it has a line break") as refused:
                await collect(llm, Call(Request.of("hi")))
        assert refused.value.kind == "config"
        assert SECRET not in str(refused.value)


@pytest.mark.asyncio
async def test_a_vendors_key_goes_to_that_vendor_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    assert await key_for(None, None, "https://api.openai.com/v1") == "k"
    assert await key_for(None, None, "https://api.openai.com.evil.example/v1") is None
    assert await key_for("mine", None, "https://api.openai.com/v1") == "mine"
    with pytest.raises(ConfigError, match="NO_SUCH_KEY is not set"):
        await key_for(None, "NO_SUCH_KEY", "https://api.openai.com/v1")
