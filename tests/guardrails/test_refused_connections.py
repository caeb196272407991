"""No secure connection, or a key that is not taken: is the reason told, and what to do about it?"""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from pathlib import Path

import httpx
import pytest

import guardrails
from guardrails import Llm, Refused, Transient
from guardrails.endpoints.http import HttpConfig, HttpEndpoint


class Failing(httpx.AsyncBaseTransport):
    """A transport whose TLS handshake fails in OpenSSL's words."""

    def __init__(self, said: str) -> None:
        self._said = said

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        refused = ssl.SSLCertVerificationError(1, "certificate verify failed")
        refused.verify_message = self._said
        raise httpx.ConnectError("failed") from refused


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("self-signed certificate", "SSL_CERT_FILE"),
        ("unable to get local issuer certificate", "SSL_CERT_FILE"),
        ("certificate has expired", "renew"),
        ("certificate is not yet valid", "clock"),
        ("Hostname mismatch, certificate is not valid for 'h'.", "host in the url"),
    ],
)
async def test_the_reason_of_a_failed_handshake_is_told(said: str, hint: str) -> None:
    llm = Llm(HttpEndpoint(HttpConfig("https://h/v1", model="m"), transport=Failing(said)))
    with pytest.raises(Transient) as caught:
        await llm.ask("hi")
    assert caught.value.kind == "tls"
    assert f"no secure connection to h: {said.rstrip('.')}" in caught.value.message
    assert hint in caught.value.hint


@pytest.fixture
def self_signed(tmp_path: Path) -> ssl.SSLContext:
    """A server's side of TLS with a certificate that nobody else has signed."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl here")
    key, cert = tmp_path / "key", tmp_path / "cert"
    options = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=localhost"]
    subprocess.run(
        [openssl, "req", "-x509", *options, "-keyout", key, "-out", cert], check=True, capture_output=True
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return context


@pytest.mark.asyncio
@pytest.mark.parametrize("transport", ["aiohttp", "httpx"])
async def test_a_self_signed_certificate_on_a_real_socket(
    transport: str, self_signed: ssl.SSLContext
) -> None:
    async def nothing(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(nothing, "127.0.0.1", 0, ssl=self_signed) as listener:
        url = f"https://localhost:{listener.sockets[0].getsockname()[1]}/v1"
        async with guardrails.endpoint(url, model="m", transport=transport) as llm:
            with pytest.raises(Transient, match="self-signed certificate") as caught:
                await llm.ask("hi")
    assert "SSL_CERT_FILE" in caught.value.hint


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("url", "options", "hint"),
    [
        ("http://h/v1", {"key_env": "MY_KEY"}, "the key in MY_KEY was sent"),
        ("https://api.openai.com/v1", {}, "the key in OPENAI_API_KEY was sent"),
        ("http://h/v1", {"key": "sk-secret"}, "the key in key= was sent"),
        ("http://h/v1", {}, "`key_env: NAME` in YAML"),
    ],
)
async def test_a_401_names_the_endpoint_and_the_variable_in_use(
    url: str, options: dict[str, str], hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MY_KEY", "OPENAI_API_KEY"):
        monkeypatch.setenv(name, "sk-secret")
    refusing = httpx.MockTransport(lambda _: httpx.Response(401, json={"error": {"code": "invalid_api_key"}}))
    llm = Llm(HttpEndpoint(HttpConfig(url, model="m", name="main", **options), transport=refusing))  # type: ignore[arg-type]
    with pytest.raises(Refused) as caught:
        await llm.ask("hi")
    assert caught.value.kind == "auth"
    assert caught.value.message.startswith("main answered 401")
    assert hint in caught.value.hint
    assert "sk-secret" not in str(caught.value)
