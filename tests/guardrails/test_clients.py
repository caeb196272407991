"""Own clients as endpoints: do their exceptions mean what they mean on the wire?"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from http import HTTPStatus
from typing import Any

import httpx
import pytest

from guardrails import EndpointError, Interrupted, Llm, Refused, Request, Transient, endpoint
from guardrails.call import Call
from guardrails.endpoints.clients import read
from guardrails.endpoints.function import FunctionEndpoint
from guardrails.flow.retry import Backoff, Retry
from guardrails.flow.spent import used
from guardrails.handler import stack
from guardrails.recorder import Record

SECRET = "a secret of the prompt"


def client(status: int, library: Any = httpx) -> Any:
    """An HTTP client that always gets this answer; 0: that never reaches the server."""

    def answer(_: Any) -> Any:
        if not status:
            raise library.ConnectError(SECRET)
        body = {"error": {"message": SECRET, "type": "some_error"}}
        return library.Response(status, json=body, headers={"retry-after": "7"})

    return library.AsyncClient(transport=library.MockTransport(answer))


async def by_openai(status: int) -> str:
    sdk = pytest.importorskip("openai").AsyncOpenAI(api_key="k", http_client=client(status), max_retries=0)
    return str(await sdk.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}]))


async def by_anthropic(status: int) -> str:
    module = pytest.importorskip("anthropic")
    own = client(status, pytest.importorskip("httpx2"))  # what its recent versions are built on
    sdk = module.AsyncAnthropic(api_key="k", http_client=own, max_retries=0)
    turn = {"role": "user", "content": "hi"}
    return str(await sdk.messages.create(model="m", max_tokens=1, messages=[turn]))


async def by_httpx(status: int) -> str:
    response: httpx.Response = await client(status).post("https://h/v1")
    return response.raise_for_status().text


every_client = pytest.mark.parametrize("ask", [by_openai, by_anthropic, by_httpx])


async def failure(function: Any) -> EndpointError:
    with pytest.raises(EndpointError) as caught:
        await endpoint(function, name="mine").ask("hi")
    assert SECRET not in f"{caught.value}{caught.value.__cause__}"
    assert caught.value.endpoint == "mine"
    return caught.value


@pytest.mark.asyncio
@every_client
@pytest.mark.parametrize(
    ("status", "cls", "kind"),
    [
        (429, Transient, "rate_limited"),
        (500, Transient, "server_error"),
        (503, Transient, "unavailable"),
        (401, Refused, "auth"),
        (404, Refused, "not_found"),
    ],
)
async def test_a_status_means_what_it_means_on_the_wire(
    ask: Any, status: int, cls: type[EndpointError], kind: str
) -> None:
    error = await failure(lambda _: ask(status))
    assert (type(error), error.kind, error.status) == (cls, kind, status)
    assert f"mine answered {status}" in error.message
    assert "the function raised " in error.message
    if isinstance(error, Transient):
        assert error.retry_after == 7.0
    if kind == "auth":
        assert "the client that the function uses" in error.hint


@pytest.mark.asyncio
@every_client
async def test_a_lost_connection_may_be_tried_again(ask: Any) -> None:
    error = await failure(lambda _: ask(0))
    assert (type(error), error.kind) == (Transient, "connect")


def sdk_error(name: str, cause: Exception) -> Exception:
    """What the SDKs raise for their HTTP client's error."""
    openai = pytest.importorskip("openai")

    error: Exception = getattr(openai, name)(request=httpx.Request("POST", "https://h/v1"))
    error.__cause__ = cause
    return error


def connector_error() -> Exception:
    from aiohttp.client_reqrep import ConnectionKey

    aiohttp = pytest.importorskip("aiohttp")
    key = ConnectionKey("h", 443, True, True, None, None, None)
    made: Exception = aiohttp.ClientConnectorError(key, OSError(111, SECRET))
    return made


LOST: list[tuple[Callable[[], Exception], str]] = [
    (lambda: httpx.ConnectTimeout(SECRET), "connect"),
    (connector_error, "connect"),
    (lambda: sdk_error("APITimeoutError", httpx.ConnectTimeout(SECRET)), "connect"),
    (lambda: httpx.ReadError(SECRET), "reset"),
    (lambda: httpx.RemoteProtocolError(SECRET), "reset"),
    (lambda: httpx.WriteError(SECRET), "reset"),
    (lambda: sdk_error("APIConnectionError", httpx.ReadError(SECRET)), "reset"),
    (lambda: sdk_error("APIConnectionError", ValueError(SECRET)), "reset"),
    (lambda: pytest.importorskip("aiohttp").ServerDisconnectedError(SECRET), "reset"),
    (lambda: httpx.ReadTimeout(SECRET), "timeout"),
    (lambda: sdk_error("APITimeoutError", httpx.ReadTimeout(SECRET)), "timeout"),
]


@pytest.mark.asyncio
@pytest.mark.parametrize(("raised", "kind"), LOST)
async def test_only_a_connection_that_never_came_about_costs_nothing(
    raised: Callable[[], Exception], kind: str
) -> None:
    async def function(_: Request) -> str:
        raise raised()

    call = Call(Request.of("word " * 1000))
    with pytest.raises(Transient) as caught:
        async with stack(FunctionEndpoint(function, model="gpt-4o"), Record())(call):
            pass
    record = call.journal.record
    assert record is not None
    assert caught.value.kind == kind
    assert SECRET not in str(caught.value)
    assert (record.cost_usd == 0) == (kind == "connect")
    assert (used(call.journal.attempts[0], 1000) is None) == (kind == "connect")


@pytest.mark.asyncio
@pytest.mark.parametrize("cls", [httpx.UnsupportedProtocol, httpx.LocalProtocolError])
async def test_a_request_that_cannot_be_sent_is_not_tried_again(cls: type[Exception]) -> None:
    async def function(_: Request) -> str:
        raise cls(SECRET)

    async def by_sdk(_: Request) -> str:
        raise sdk_error("APIConnectionError", cls(SECRET))

    for each in (function, by_sdk):
        error = await failure(each)
        assert (type(error), error.kind) == (Refused, "exception")


@pytest.mark.asyncio
async def test_requests_and_aiohttp_are_understood_too() -> None:
    requests = pytest.importorskip("requests")
    aiohttp = pytest.importorskip("aiohttp")
    response = requests.Response()
    response.status_code, response.headers["Retry-After"] = 503, "7"
    told = requests.HTTPError(SECRET, response=response)
    for raised in (told, aiohttp.ClientResponseError(None, (), status=503, headers={"Retry-After": "7"})):

        async def function(_: Request, raised: Exception = raised) -> str:
            raise raised

        error = await failure(function)
        assert isinstance(error, Transient)
        assert (error.status, error.retry_after) == (503, 7.0)


@pytest.mark.asyncio
async def test_a_retry_asks_an_own_client_again() -> None:
    asked = 0

    async def function(_: Request) -> str:
        nonlocal asked
        asked += 1
        return await by_httpx(503) if asked < 3 else "at last"

    llm: Llm = endpoint(function, Retry(3, Backoff(base=0.0)))
    assert (await llm.ask("hi")).text == "at last"


@pytest.mark.asyncio
async def test_after_the_first_token_nothing_may_be_tried_again() -> None:
    async def function(_: Request) -> AsyncIterator[str]:
        yield "one"
        await by_httpx(503)

    error = await failure(function)
    assert (type(error), error.kind) == (Interrupted, "unavailable")
    assert "`holdback`" in error.hint


@pytest.mark.asyncio
@pytest.mark.parametrize("place", ["status_code", "status"])
async def test_a_status_with_a_name_is_read_too(place: str) -> None:
    class Named(Exception):
        pass

    async def function(_: Request) -> str:
        error = Named(SECRET)
        setattr(error, place, HTTPStatus.TOO_MANY_REQUESTS)
        raise error

    error = await failure(function)
    assert (type(error), error.kind, error.status) == (Transient, "rate_limited", 429)
    assert "answered 429" in error.message


@pytest.mark.asyncio
async def test_an_attribute_may_break_but_a_cancellation_goes_on() -> None:
    class Odd(Exception):
        def __init__(self, inner: type[BaseException]) -> None:
            self.inner = inner

        @property
        def status_code(self) -> int:
            raise self.inner

    assert read(Odd(RuntimeError), "mine", entered=False) is None
    with pytest.raises(asyncio.CancelledError):
        read(Odd(asyncio.CancelledError), "mine", entered=False)


@pytest.mark.asyncio
@pytest.mark.parametrize("status", [200, 302, 999, "503", None, True])
async def test_what_says_nothing_is_refused_with_advice(status: object) -> None:
    class Odd(Exception):
        status_code = status

        @property
        def response(self) -> None:
            raise RuntimeError(SECRET)

    async def function(_: Request) -> str:
        raise Odd(SECRET)

    error = await failure(function)
    assert (type(error), error.kind) == (Refused, "exception")
    assert "guardrails.Transient" in error.hint
