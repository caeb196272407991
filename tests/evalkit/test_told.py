"""A run is kept for good, so what opens a door is not written into it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from evalkit.config import Suite
from evalkit.content import digest
from evalkit.plan import Plan, about
from evalkit.told import shown, told, told_scorer

SECRETS = {
    "headers of a route": {"routes": [{"url": "http://x/v1", "headers": {"x-api-key": "S3CRET"}}]},
    "headers of a filter's endpoint": {
        "filters": {"input": [{"guard": {"endpoint": {"headers": {"authorization": "S3CRET"}}}}]}
    },
    "headers of both of a cascade": {"cascade": {"small": {"headers": {"a": "S3CRET"}}, "large": {}}},
    "a password in a URL": {"store": {"redis": "redis://:S3CRET@h/0"}},
    "one with an at sign in it": {"url": "http://user:p@S3CRET@h/v1"},
    "a key in a query": {"url": "https://h/v1?api-version=2&subscription-key=S3CRET"},
    "a key behind another value": {"url": "https://h/v1?key=S3CRET&alt=sse"},
    "an option of a plug-in": {"type": "mine", "api_key": "S3CRET"},
    "an option of one in a list": {"layers": [{"mine": {"bearer_token": "S3CRET"}}]},
}


@pytest.mark.parametrize("config", SECRETS.values(), ids=SECRETS)
def test_no_secret_is_written_down(config: dict[str, Any]) -> None:
    said = about(config)

    assert "S3CRET" not in json.dumps(said)
    assert told(said) == said, "what is told once can be told again"


def test_what_is_hidden_leaves_its_name() -> None:
    said = about({"name": "e", "url": "http://u:p@h/v1?sig=x&v=1", "headers": {"b": "1", "a": "2"}})

    assert said == {"url": "http://***@h/v1?sig=***&v=1", "headers": ["a", "b"]}


def test_a_plain_endpoint_keeps_the_digest_that_its_rows_have() -> None:
    """Runs of versions before would otherwise be asked all over again."""
    plain = {
        "url": "https://h:8000/v1/models/a@latest?api-version=2024-01-01",
        "model": "m",
        "key_env": "KEY",
        "timeouts": {"whole": 1.5},
        "filters": {"input": ["pii", "secrets"], "output": [{"pii": {"entities": ("A", "B")}}]},
        "rate_limit": {"tokens": 100, "per": 60.0},
        "routes": [{"target": "mod:fn", "max_tokens": 3, "restart": False, "prices": None}],
    }

    assert digest(about({"name": "e", **plain})) == digest(plain)


def test_a_text_that_only_looks_like_it_stays() -> None:
    for text in ("write to a@b.example", "http://h/a?b=c", "key=1", "http://h/user@home", "a://b c@d"):
        assert shown(text) == text


SIMILAR = {"similar": {"url": "https://u:S3CRET@h/v1/embeddings?sig=S3CRET"}}


@pytest.mark.parametrize(
    "scorer",
    [
        SIMILAR,
        {"all": ["exact", SIMILAR]},
        {"any": {"of": SIMILAR}},
        {"not": SIMILAR},
        {"not": {"all": [SIMILAR]}},
    ],
    ids=["alone", "listed", "an option", "negated", "deep"],
)
def test_a_scorer_is_told_without_the_password_of_its_url(scorer: dict[str, Any]) -> None:
    said = json.dumps(told_scorer(scorer))

    assert "S3CRET" not in said
    assert "https://***@h/v1/embeddings?sig=***" in said


@pytest.mark.parametrize(
    "name", ["eos_token", "mask_token", "pad-token", "decoder_start_token", "fim_prefix_token", "EOS_TOKEN"]
)
def test_a_mark_of_a_tokenizer_tells_endpoints_apart(name: str) -> None:
    """With another one the model answers otherwise, and the answers of one were taken for the other's."""
    one, other = ({"url": "http://x/v1", "extra": {name: mark}} for mark in ("</s>", "<end>"))

    assert about(one) == one
    assert digest(about(one)) != digest(about(other))


@pytest.mark.parametrize("name", ["token", "bot_token", "vendor-token", "access_token", "mask_token_secret"])
def test_any_other_token_is_hidden(name: str) -> None:
    assert about({"extra": {name: "S3CRET"}}) == {"extra": {name: "***"}}


@pytest.mark.parametrize(
    "text",
    ["?", "&", "?key", "?a&", "://", "@", ":a", "token", "?=", "://?"],
    ids=lambda text: f"many {text}",
)
def test_a_hostile_text_takes_no_longer_than_another(text: str) -> None:
    began = time.process_time()
    shown("://" + text * (20_000 // len(text)))

    assert time.process_time() - began < 2


def test_a_question_mark_in_a_query_hides_no_key() -> None:
    assert (
        shown("https://h/?a?key=S3CRET&to=https://g/?sig=S3CRET")
        == "https://h/?a?key=***&to=https://g/?sig=***"
    )


def test_neither_store_nor_numbers_hold_a_secret_of_the_suite(tmp_path: Path) -> None:
    (tmp_path / "g.jsonl").write_text('{"id": "a", "input": "q", "reference": "yes"}\n', encoding="utf-8")
    route = {"name": "one", "url": "http://x/v1", "model": "m", "headers": {"x-api-key": "S3CRET"}}
    judge = {"url": "http://j/v1", "model": "j", "headers": {"x": "S3CRET"}}
    suite = Suite.model_validate(
        {
            "golden": str(tmp_path / "g.jsonl"),
            "endpoints": [{"name": "r", "routes": [route], "store": {"redis": "redis://:S3CRET@h/0"}}],
            "judges": {"j": judge},
            "user": judge,
            "scorers": [
                "contains",
                {"similar": {"url": "http://u:S3CRET@x/v1/embeddings", "threshold": None}},
            ],
            "out": tmp_path,
        }
    )

    lineage = json.dumps(Plan.of(suite).lineage(), default=str)

    assert "S3CRET" not in lineage
    assert "x-api-key" in lineage
