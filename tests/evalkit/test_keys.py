"""A key that is not there is said before anybody is asked, whoever would have needed it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evalkit.config import Suite
from evalkit.evaluate import evaluate
from evalkit.keys import check_keys
from evalkit.plan import Plan
from evalkit.stores import open_store
from guardrails.errors import ConfigError
from guardrails.testing import simulate

ABSENT = "EVALKIT_TEST_KEY_THAT_NOBODY_HAS"


def suite(folder: Path, **fields: Any) -> Suite:
    line = {"id": "a", "input": "q", "reference": "yes"}
    (folder / "g.jsonl").write_text(json.dumps(line) + "\n", encoding="utf-8")
    plain = {"golden": str(folder / "g.jsonl"), "out": folder / "kept"}
    return Suite.model_validate(plain | fields)


@pytest.mark.asyncio
async def test_the_second_endpoints_key_is_looked_for_before_the_first_is_asked(tmp_path: Path) -> None:
    async with simulate() as server:
        first = {"name": "first", "url": server.url, "model": "m"}
        second = {"name": "second", "url": server.url, "model": "m", "key_env": ABSENT}
        made = suite(tmp_path, endpoints=[first, second])
        store = open_store(made.database)

        with pytest.raises(ConfigError, match=f"second: the environment variable {ABSENT} is not set"):
            await evaluate(made, store=store)

        assert server.stats.requests == 0
    assert not store.runs(), "and there is no run of it"
    store.close()


HTTP = {"url": "http://127.0.0.1:9/v1", "model": "m"}


@pytest.mark.parametrize(
    "fields",
    [
        {
            "endpoints": [
                {"name": "e", "routes": [{**HTTP, "name": "a"}, {**HTTP, "name": "b", "key_env": ABSENT}]}
            ]
        },
        {"endpoints": [HTTP], "judges": {"j": {**HTTP, "key_env": ABSENT}}},
        {"endpoints": [HTTP], "user": {**HTTP, "key_env": ABSENT}},
    ],
)
def test_a_key_of_a_route_a_judge_or_a_simulated_user_is_missed(
    tmp_path: Path, fields: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Plan.of(suite(tmp_path, **fields))
    with pytest.raises(ConfigError, match=ABSENT):
        check_keys(made)
    monkeypatch.setenv(ABSENT, "here")
    check_keys(made)


def test_a_filter_may_do_without_its_key(tmp_path: Path) -> None:
    moderated = {**HTTP, "filters": {"input": [{"moderation": {"key_env": ABSENT}}]}}
    check_keys(Plan.of(suite(tmp_path, endpoints=[moderated])))
