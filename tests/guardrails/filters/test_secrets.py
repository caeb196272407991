from __future__ import annotations

import gzip
import json
import os
import random
import string
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardrails.errors import ConfigError
from guardrails.filters import Window, redact, scan
from guardrails.filters.detector import Finding
from guardrails.filters.secret_rules import RULES
from guardrails.filters.secrets import KINDS, Secrets

SECRETS = Secrets()
HEX, UPPER, BASE32 = (
    "0123456789abcdef",
    string.ascii_uppercase + string.digits,
    string.ascii_uppercase + "234567",
)
ALNUM = string.ascii_letters + string.digits
WORD, BASE64 = ALNUM + "_-", ALNUM + "+/"

# Kind, then what a key is made of: literal parts, and (alphabet, length) for the random ones.
Part = str | tuple[str, int]
SHAPES: list[tuple[str, *tuple[Part, ...]]] = [
    ("ANTHROPIC_KEY", "sk-ant-api03-", (WORD, 93), "AA"),
    ("OPENROUTER_KEY", "sk-or-v1-", (HEX, 64)),
    ("LANGFUSE_KEY", "sk-lf-", (HEX, 8), "-", (HEX, 4), "-", (HEX, 4), "-", (HEX, 4), "-", (HEX, 12)),
    ("OPENAI_KEY", "sk-", (ALNUM, 20), "T3BlbkFJ", (ALNUM, 20)),
    ("OPENAI_KEY", "sk-proj-", (WORD, 74), "T3BlbkFJ", (WORD, 74)),
    ("OPENAI_KEY", "sk-svcacct-", (WORD, 74), "T3BlbkFJ", (WORD, 74)),
    ("GROQ_KEY", "gsk_", (ALNUM, 52)),
    ("XAI_KEY", "xai-", (ALNUM, 80)),
    ("PERPLEXITY_KEY", "pplx-", (ALNUM, 48)),
    ("REPLICATE_KEY", "r8_", (ALNUM, 37)),
    ("NVIDIA_KEY", "nvapi-", (WORD, 64)),
    ("FIREWORKS_KEY", "fw_1", (ALNUM, 23)),
    ("PINECONE_KEY", "pcsk_", (ALNUM, 70)),
    ("LANGSMITH_KEY", "lsv2_pt_", (HEX, 32), "_", (HEX, 10)),
    ("TAVILY_KEY", "tvly-", (ALNUM, 32)),
    ("HUGGINGFACE_TOKEN", "hf_", (string.ascii_letters, 34)),
    ("AWS_ACCESS_KEY", "AKIA", (BASE32, 16)),
    ("AWS_ACCESS_KEY", "ASIA", (BASE32, 16)),
    ("AWS_SECRET_KEY", "aws_secret_access_key = ", (ALNUM + "/+", 40)),
    ("AWS_BEDROCK_KEY", "ABSK", (BASE64, 128)),
    ("GOOGLE_API_KEY", "AIza", (WORD, 35)),
    ("GOOGLE_OAUTH_TOKEN", "ya29.a0", (WORD, 60)),
    ("GOOGLE_CLIENT_SECRET", "GOCSPX-", (WORD, 28)),
    ("AZURE_CLIENT_SECRET", (ALNUM, 3), "8Q~", (ALNUM + "_~.-", 34)),
    ("AZURE_STORAGE_KEY", "DefaultEndpointsProtocol=https;AccountName=x;AccountKey=", (BASE64, 86), "=="),
    ("AZURE_ACCESS_KEY", "SharedAccessKeyName=all;SharedAccessKey=", (BASE64, 43), "="),
    ("AZURE_SAS_TOKEN", "https://x.blob.core.windows.net/c?sv=2024&sig=", (ALNUM, 45), "%3D"),
    ("DIGITALOCEAN_TOKEN", "dop_v1_", (HEX, 64)),
    ("ALIBABA_ACCESS_KEY", "LTAI5", (ALNUM, 19)),
    ("HEROKU_KEY", "HRKU-AA", (WORD, 58)),
    ("FLY_TOKEN", "fo1_", (WORD, 43)),
    ("FLY_TOKEN", "fm2_", (BASE64, 200), "=="),
    ("CLOUDFLARE_ORIGIN_KEY", "v1.0-", (HEX, 24), "-", (HEX, 146)),
    ("SUPABASE_TOKEN", "sbp_", (HEX, 40)),
    ("PLANETSCALE_TOKEN", "pscale_tkn_", (WORD, 43)),
    ("DATABRICKS_TOKEN", "dapi", (HEX, 32)),
    ("CLICKHOUSE_KEY", "4b1d", (ALNUM, 38)),
    ("PULUMI_TOKEN", "pul-", (HEX, 40)),
    ("TERRAFORM_TOKEN", (ALNUM, 14), ".atlasv1.", (ALNUM, 67)),
    ("VAULT_TOKEN", "hvs.", (WORD, 95)),
    ("VAULT_TOKEN", "s.12", (ALNUM, 22)),
    ("GITHUB_TOKEN", "ghp_", (ALNUM, 36)),
    ("GITHUB_TOKEN", "github_pat_", (ALNUM, 22), "_", (ALNUM, 59)),
    ("GITLAB_TOKEN", "glpat-", (WORD, 20)),
    ("GITLAB_TOKEN", "GR1348941", (WORD, 20)),
    ("NPM_TOKEN", "npm_1", (ALNUM, 35)),
    ("PYPI_TOKEN", "pypi-AgEIcHlwaS5vcmc", (WORD, 120)),
    ("RUBYGEMS_KEY", "rubygems_", (HEX, 48)),
    ("CRATES_TOKEN", "cio12", (ALNUM, 30)),
    ("DOCKER_TOKEN", "dckr_pat_", (WORD, 27)),
    ("ARTIFACTORY_KEY", "AKCp1", (ALNUM, 68)),
    ("SOURCEGRAPH_TOKEN", "sgp_", (HEX, 16), "_", (HEX, 40)),
    ("ATLASSIAN_TOKEN", "ATATT3", (ALNUM + "_=-", 186)),
    ("LINEAR_KEY", "lin_api_", (ALNUM, 40)),
    ("PREFECT_KEY", "pnu_", (ALNUM, 36)),
    ("OCTOPUS_KEY", "API-12", (UPPER, 24)),
    ("INFRACOST_KEY", "ico-1", (ALNUM, 31)),
    ("README_KEY", "rdme_", (string.ascii_lowercase + string.digits, 70)),
    ("POSTMAN_KEY", "PMAK-", (HEX, 24), "-", (HEX, 34)),
    ("FIGMA_TOKEN", "figd_", (WORD, 40)),
    ("OPENSHIFT_TOKEN", "sha256~", (WORD, 43)),
    ("SENTRY_TOKEN", "sntrys_", (BASE64, 120), "_", (ALNUM, 43)),
    ("GRAFANA_TOKEN", "glsa_", (ALNUM, 32), "_", (HEX, 8)),
    ("GRAFANA_TOKEN", "glc_1", (BASE64, 120), "="),
    ("NEW_RELIC_KEY", "NRAK-", (UPPER, 27)),
    ("POSTHOG_KEY", "phx_", (ALNUM, 43)),
    ("DOPPLER_TOKEN", "dp.pt.", (ALNUM, 43)),
    ("DYNATRACE_TOKEN", "dt0c01.", (BASE32, 24), ".", (BASE32, 64)),
    ("SLACK_TOKEN", "xoxb-", (string.digits, 12), "-", (string.digits, 12), "-", (ALNUM, 24)),
    ("SLACK_TOKEN", "xoxe.xoxp-1-", (ALNUM, 163)),
    ("SLACK_TOKEN", "xapp-1-", (UPPER, 11), "-", (string.digits, 13), "-", (HEX, 64)),
    ("SLACK_WEBHOOK", "https://hooks.slack.com/services/", (UPPER, 9), "/", (UPPER, 9), "/", (ALNUM, 24)),
    ("DISCORD_WEBHOOK", "https://discord.com/api/webhooks/", (string.digits, 18), "/", (WORD, 68)),
    ("DISCORD_TOKEN", "M", (ALNUM, 23), ".", (WORD, 6), ".", (WORD, 27)),
    ("TELEGRAM_TOKEN", (string.digits, 10), ":AA", (WORD, 33)),
    ("STRIPE_KEY", "sk_live_", (ALNUM, 24)),
    ("STRIPE_WEBHOOK_SECRET", "whsec_", (ALNUM, 32)),
    ("SQUARE_TOKEN", "sq0csp-", (WORD, 43)),
    ("TWILIO_KEY", "SK", (HEX, 32)),
    ("SENDGRID_KEY", "SG.", (WORD, 22), ".", (WORD, 43)),
    ("MAILGUN_KEY", "key-", (HEX, 32)),
    ("MAILCHIMP_KEY", (HEX, 32), "-us14"),
    ("BREVO_KEY", "xkeysib-", (HEX, 64), "-", (ALNUM, 16)),
    ("SHOPIFY_TOKEN", "shpat_", (HEX, 32)),
    ("NOTION_TOKEN", "ntn_", (string.digits, 11), (ALNUM, 35)),
    ("NOTION_TOKEN", "secret_", (ALNUM, 43)),
    ("AIRTABLE_TOKEN", "pat", (ALNUM, 14), ".", (HEX, 64)),
    ("DROPBOX_TOKEN", "sl.", (WORD, 140)),
    ("EASYPOST_KEY", "EZAK1", (ALNUM, 53)),
    ("SHIPPO_KEY", "shippo_live_", (HEX, 40)),
    ("TYPEFORM_TOKEN", "tfp_", (ALNUM, 44)),
    ("CONTENTFUL_TOKEN", "CFPAT-", (WORD, 43)),
    ("FACEBOOK_TOKEN", "EAAM", (ALNUM, 180)),
    ("FACEBOOK_APP_SECRET", (string.digits, 16), "|", (WORD, 27)),
    ("INTRA42_SECRET", "s-s4t2ud-", (HEX, 64)),
    ("ONEPASSWORD_TOKEN", "ops_eyJ", (BASE64, 300)),
    ("ONEPASSWORD_SECRET_KEY", "A3-", (UPPER, 6), "-", (UPPER, 11), *("-", (UPPER, 5)) * 3),
    ("AGE_SECRET_KEY", "AGE-SECRET-KEY-1", (UPPER, 58)),
    ("JWT", "eyJ", (WORD, 33), ".eyJ", (WORD, 60), ".", (WORD, 43)),
    ("CONNECTION_STRING", "postgresql+asyncpg://app:", (ALNUM, 14), "@db.internal:5432/main"),
]  # fmt: skip


def made(shape: tuple[str, *tuple[Part, ...]], seed: int) -> str:
    """A key of this shape, the same for the same seed."""
    rng = random.Random(f"{shape[0]} {seed}")
    parts = (
        part if isinstance(part, str) else "".join(rng.choices(part[0], k=part[1])) for part in shape[1:]
    )
    text = "".join(parts)
    return text[:-1] + "a" if text[-1] in "-_" else text  # a boundary that no issuer promises either way


PEM = (
    "-----BEGIN RSA PRIVATE KEY-----\n"
    + "\n".join("".join(random.Random(n).choices(BASE64, k=64)) for n in range(25))
    + "\nq1w2e3r4==\n-----END RSA PRIVATE KEY-----"
)


def kinds(text: str) -> list[str]:
    return [f.kind for f in SECRETS.detect(text)]


def values(text: str) -> list[str]:
    return [text[f.start : f.end] for f in SECRETS.detect(text)]


def test_every_kind_has_a_case() -> None:
    covered = {shape[0] for shape in SHAPES} | {"PRIVATE_KEY", "GENERIC_SECRET"}
    assert set(KINDS) == covered


@pytest.mark.parametrize(
    "shape", SHAPES, ids=lambda shape: "".join(p for p in shape if isinstance(p, str))[:30]
)
def test_keys_are_found_in_prose_code_and_json(shape: tuple[str, *tuple[Part, ...]]) -> None:
    for seed in range(8):
        key = made(shape, seed)
        for text in (
            key,
            f"I use {key} here.",
            f"Schlüssel „{key}“",
            json.dumps({"a": [key]}),
            f"x = '{key}'\n",
        ):
            found = [f for f in SECRETS.detect(text) if f.kind == shape[0]]
            assert len(found) == 1, text
            secret = text[found[0].start : found[0].end]
            assert secret in key
            assert all(part[1] <= len(secret) for part in shape[1:] if isinstance(part, tuple))


def test_only_the_secret_is_in_the_span() -> None:
    assert values("postgres://me:s3cr3tpw@db/x") == ["s3cr3tpw"]
    assert values('{"password": "hunter2!x"}') == ["hunter2!x"]
    assert values("db.password = 'Hy^ed(ScLk.'") == ["Hy^ed(ScLk."]
    assert values("PASSWORD=Passw@rd, then") == ["Passw@rd"]
    assert values("my password is hunter2zz, ok?") == ["hunter2zz"]
    assert values("export API_KEY=9f8a7b6c5d4e3f2a1b0c") == ["9f8a7b6c5d4e3f2a1b0c"]
    assert values("Authorization: Bearer 9f8a7b6c5d4e3f2a1b0c") == ["9f8a7b6c5d4e3f2a1b0c"]
    assert values("curl -u jo:9f8A7b6c https://x.org") == ["9f8A7b6c"]
    assert values("кодовое слово: 🔑 password=hunter2x1") == ["hunter2x1"]


@pytest.mark.parametrize(
    "text",
    [
        "password = os.environ['DB_PASSWORD_2']",
        "password: str | None = None",
        "api_key=${API_KEY_1}",
        "token = get_token(user1)",
        "API_KEY=your-api-key-1-here-123",
        "token: {{ secrets.token_1 }}",
        "ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        "public_token = 9Cnzj4p4WGeKLs1Pt8QuKUpRKfFLfRYC9AIK",
        "The secret of good bread is time: 24 hours of it.",
        "AKIAIOSFODNN7EXAMPLE",
        "https://user:password@example.org",
        "-----BEGIN PRIVATE KEY----- is how such a file begins.",
        "-----BEGIN CERTIFICATE-----\nMIIDXTCCAkWgAwIBAgIJAJC1HiIAZAiIMA0GCSqG\n-----END CERTIFICATE-----",
        "max_tokens: 4096, and the keyboard, the monkey and the turkey",
        "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    ],
)
def test_what_only_looks_like_a_secret_passes(text: str) -> None:
    assert values(text) == []


def test_a_word_within_a_word_is_seen() -> None:
    """The hint `key` ends in the middle of the hint `eyJ`."""
    token = made(("JWT", "eyJ", (WORD, 33), ".eyJ", (WORD, 60), ".", (WORD, 43)), 1)
    assert kinds(f"k{token} {token}") == ["JWT"]


def test_kinds_and_threshold_pick() -> None:
    text = f"AKIA2OGYBAH6QLVPX5MZ password=hunter2!x {PEM}"
    assert kinds(text) == ["AWS_ACCESS_KEY", "GENERIC_SECRET", "PRIVATE_KEY"]
    assert [f.kind for f in Secrets(("PRIVATE_KEY",)).detect(text)] == ["PRIVATE_KEY"]
    assert [f.kind for f in Secrets(threshold=0.9).detect(text)] == ["AWS_ACCESS_KEY", "PRIVATE_KEY"]
    with pytest.raises(ConfigError, match="NOTHING"):
        Secrets(("NOTHING",))
    with pytest.raises(ConfigError, match="threshold"):
        Secrets(threshold=0)


# --- private keys -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "block",
    [
        PEM,
        PEM.replace("RSA ", "OPENSSH "),
        PEM.replace("\n", "\r\n"),
        PEM.replace("\n", "\\n"),
        PEM.replace("\n", "\\\\n"),
        PEM.replace("\n", '" +\n  "'),
        PEM.replace("\n", "\n> "),
        PEM.replace(
            "KEY-----\n", "KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,0123456789\n\n", 1
        ),
        PEM.replace("RSA PRIVATE KEY", "PGP PRIVATE KEY BLOCK"),
    ],
)
def test_a_private_key_is_found_as_one_block(block: str) -> None:
    assert values(f"Here: {block} and on.") == [block]


@given(st.integers(40, len(PEM)))
def test_a_block_is_found_as_far_as_it_has_come(size: int) -> None:
    assert values("Key:\n" + PEM[:size]) == [PEM[:size]]


def released(pieces: list[str], window: Window) -> Iterator[tuple[str, str]]:
    """After each piece: all that came, and what of it has left."""
    sent, found = "", list[Finding]()
    for piece in pieces:
        sent += piece
        found += window.push(piece)
        yield sent, redact(sent[: window.decided], found)
    found += window.finish()
    yield sent, redact(sent, found)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 90), st.sampled_from([PEM, PEM.replace("\n", "\\n"), PEM.replace("\n", "\r\n ")]))
def test_no_part_of_a_streamed_block_leaves(size: int, block: str) -> None:
    text = f"Of course, this is the key of the server:\n\n{block}\nKeep it well, and tell nobody. "
    expected = redact(text, scan(text, SECRETS.detect, SECRETS.reach))
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    out = ""
    for _, out in released(pieces, Window(SECRETS.detect, SECRETS.reach)):
        assert expected.startswith(out)
    assert out == expected == text.replace(block, "<PRIVATE_KEY>")


SCRAPS = (
    "password: |hunter2!x|token = |9f8a7b6c5d4e3f2a|the |is |\n| |漢字|AKIA2OGYBAH6QLVPX5MZ|x|curl -u jo:|"
    "-----|-----BEGIN PRIVATE KEY-----|-----END PRIVATE KEY-----|\nMIIEvQIBADANBgkqhkiG9w0BAQEFAA\n|Ab1=\n|"
    "-----BEGIN |PRIVATE |KEY-----|\nComment: me\n"
)
words = st.sampled_from(SCRAPS.split("|"))


@settings(max_examples=200, deadline=None)
@given(st.lists(words, max_size=40).map("".join), st.integers(1, 40))
def test_streaming_and_scanning_agree(text: str, size: int) -> None:
    window = Window(SECRETS.detect, SECRETS.reach)
    whole = window.push(text) + window.finish()
    expected, out = redact(text, whole), ""
    for _, out in released(
        [text[at : at + size] for at in range(0, len(text), size)], Window(SECRETS.detect, 64)
    ):
        assert expected.startswith(out)
    assert out == expected


# --- bounds and measures ------------------------------------------------------------------------------------

HOSTILE = [
    "a.",
    "@",
    "{",
    "1-",
    "\u200b",
    "sk-",
    "eyJ",
    "s.",
    "password=",
    "token is ",
    "://a:",
    "-----BEGIN ",
]


@pytest.mark.parametrize(
    "unit", [*HOSTILE, "-----BEGIN PRIVATE KEY-----", "xoxb-1-", "token=a1b2c3d4e5f6 ", "\ud800"]
)
def test_hostile_texts_take_linear_steps(unit: str) -> None:
    """Each rule reads the text once, in linear time; the hints stop at most once for each of their words."""
    text = unit * (20_000 // len(unit))
    SECRETS.detect(text)
    whole, half = steps(SECRETS.detect, text), steps(SECRETS.detect, text[: len(text) // 2])
    assert whole <= 2.1 * half + 1000
    assert whole <= 30 * len(text)
    assert all(0 <= f.start < f.end <= len(text) for f in SECRETS.detect(text))


def steps(work: Callable[[str], object], text: str) -> int:
    """How many functions are called, Python's and C's."""
    count, before = 0, sys.getprofile()

    def note(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        work(text)
    finally:
        sys.setprofile(before)
    return count


@given(st.text(max_size=200))
def test_any_text_is_read(text: str) -> None:
    for f in SECRETS.detect(text):
        assert 0 <= f.start < f.end <= len(text)


def test_rules_name_their_secret_and_a_word_that_must_be_there() -> None:
    import re2

    for rule in RULES:
        assert "s" in re2.compile(rule.pattern).groupindex
        assert all(word == word.lower() for word in rule.words if rule.anycase)


def shared(name: str) -> Iterator[dict[str, object]]:
    folder = Path(os.environ.get("EVALKIT_SHARED") or Path(__file__).parents[4] / "shared")
    path = folder / "data" / f"{name}.jsonl.gz"
    if not path.exists():
        pytest.skip(f"no {path}: set EVALKIT_SHARED to the folder of public data")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def test_published_cases_stay_as_well_found_as_the_docstring_says() -> None:
    right = wrong = 0
    for row in shared("secrets/gitleaks_literal_cases"):
        text = str(row["text"])
        found = bool(SECRETS.detect(text))
        right += found and row["label"] == 1
        wrong += found and row["label"] == 0 and "AIza" not in text
    assert right >= 88
    assert wrong <= 10


def test_code_and_documentation_hold_no_secret() -> None:
    assert sum(bool(SECRETS.detect(str(row["text"]))) for row in shared("jailbreak/benign_code_docs")) == 0
