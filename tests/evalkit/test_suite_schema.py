"""The schema that editors check suites by says of them what the loader says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from typer.testing import CliRunner

from evalkit import config
from evalkit.cli import app
from evalkit.commands.init import SUITE
from evalkit.suite_schema import schema
from guardrails.errors import ConfigError
from guardrails.source import Source, parse_yaml

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^```ya?ml\n(.*?)^```", re.MULTILINE | re.DOTALL)
ENDPOINT = {"url": "http://a/v1", "model": "m"}
LEAST = {"golden": "short-facts", "endpoints": [ENDPOINT]}


@pytest.fixture(scope="module")
def validator() -> Any:
    made = schema()
    jsonschema.Draft202012Validator.check_schema(made)
    return jsonschema.Draft202012Validator(made)


def written() -> list[Any]:
    """Every YAML that users are shown: whole suites and policies."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    texts = [
        (f"{page.name}:{match.start()}", match[1])
        for page in pages
        for match in FENCE.finditer(page.read_text(encoding="utf-8"))
    ]
    files = sorted((ROOT / "examples").rglob("*.y*ml"))
    texts += [(str(file.relative_to(ROOT)), file.read_text(encoding="utf-8")) for file in files]
    texts.append(("evalkit init", SUITE))
    texts.append(("evalkit init, uncommented", SUITE.replace("\n  # ", "\n  ")))
    return [pytest.param(text, id=name) for name, text in texts]


@pytest.mark.parametrize("text", written())
def test_all_that_users_are_shown_fits(text: str, validator: Any) -> None:
    data = parse_yaml(text).data
    if not data.keys() & {"golden", "url", "type", "routes", "cascade"}:
        return  # a workflow of a CI service
    suite = data if "golden" in data else {**LEAST, "endpoints": [data]}
    assert [(list(each.path), each.message) for each in validator.iter_errors(suite)] == []


def loads(suite: dict[str, Any]) -> str | None:
    """What the loader has against it."""
    try:
        config.check(Source("suite.yaml", suite))
    except ConfigError as error:
        return str(error)
    return None


def endpoint(**fields: Any) -> dict[str, Any]:
    return {"endpoints": [{**ENDPOINT, **fields}]}


RIGHT: list[dict[str, Any]] = [
    {},
    endpoint(filters="default"),
    endpoint(filters={"input": ["pii"], "output": "strict", "tool_arguments": None}),
    endpoint(filters={"input": "pii", "output": [{"pii": {"action": "block"}}, {"secrets": None}]}),
    endpoint(filters={"input": [{"name": "pii", "options": {"threshold": 0.5}}]}),
    endpoint(layers=[{"deadline": {"seconds": 3}}, {"name": "deadline", "options": {"seconds": 3}}]),
    endpoint(type="http", dialect="anthropic", retry={"attempts": "3"}, admit={"limit": 5}),
    {"endpoints": [{"type": "function", "target": "os.path:join"}]},
    {"endpoints": [{"routes": [{"name": "a", **ENDPOINT}], "order": "weighted"}]},
    {"endpoints": [{"cascade": {"small": {"name": "s", **ENDPOINT}, "large": {"name": "l", **ENDPOINT}}}]},
    {"golden": [{"path": "a", "tags": "x", "where": {"any": "x", "not": ["y"]}}, "b"]},
    {"golden": {"path": "a", "fields": {"input": "q", "metadata.l": {"value": True}}, "sample": {"n": "3"}}},
    {"sampling": {"n": "3", "temperature": "0.5", "logprobs": "yes"}},
    {"concurrency": "8", "timeout": "5.5", "cache": "yes"},
    {"budget": {"max_usd": "5.25"}},
    {"judges": {"a": ENDPOINT}, "user": ENDPOINT, "scorers": {"rubric": {"model": "a", "criteria": "x"}}},
    {"judges": {"a": ENDPOINT}, "scorers": [{"not": {"contains": {"all": True}}}, "exact", {"exact": None}]},
    {"scorers": "none", "gates": "error_rate <= 5%"},
    {
        "gates": [
            "pass_rate[a b] on short-facts of m >= 90%",
            '"my scorer".pass_rate>=.5',
            "contains.mean_score > 0.5",
            "pass@5 ≥ 95%",
            'p99_ttft_ms <= "vendor" * 1.1',
            "p99_ttft_ms <= 0.8s on short-facts",
            {"gate": "pass_rate", "against": "baseline", "margin": "2%", "confidence": 0.9},
        ]
    },
]
WRONG: list[dict[str, Any]] = [
    endpoint(bogus=1),
    endpoint(timeout=5),
    endpoint(url="x"),
    endpoint(url="ftp://x"),
    endpoint(dialect="klingon"),
    endpoint(type="nosuch"),
    endpoint(filters="lenient"),
    endpoint(filters={"input": ["pi"]}),
    endpoint(filters={"input": [{"pi": {}}]}),
    endpoint(routes=[{"name": "a", **ENDPOINT}]),
    {"endpoints": [{"model": "m"}]},
    {"endpoints": [{"routes": [{"name": "a", **ENDPOINT, "bogus": 1}]}]},
    {"endpoints": [{"type": "function", "target": "os.path:join", "url": "http://a/v1"}]},
    {"golden": {}},
    {"golden": ""},
    {"golden": {"path": "a", "hf": "b"}},
    {"golden": {"path": "a", "subset": "b"}},
    {"golden": {"path": "a", "fields": {"input": "q", "bogus": "x"}}},
    {"golden": {"path": "a", "sample": {"n": 3, "by": "level"}}},
    {"scorers": ["contans"]},
    {"scorers": [{"numeric": {"tol": 0.1}}]},
    {"scorers": [{"numeric": {}, "exact": {}}]},
    {"gates": ["pass_rat >= 90%"]},
    {"gates": ["pass_rate == 90%"]},
    {"gates": [{"gate": "pass_rate >= 90%", "confidence": 2}]},
    {"gates": [{"gate": "pass_rate", "agains": "baseline"}]},
    {"gates": [{"gate": "pass_rate >= 90%", "margin": "2%"}]},
    {"budget": {"max_usd": "5$"}},
    {"budget": {"max_usd": True}},
    {"sampling": {"n": True}},
    {"concurrency": "many"},
    {"cache": "maybe"},
    {"user": {}},
    {"judges": {"a": {}}},
]


@pytest.mark.parametrize("given", RIGHT, ids=json.dumps)
def test_what_the_loader_takes_fits(given: dict[str, Any], validator: Any) -> None:
    suite = {**LEAST, **given}
    assert loads(suite) is None
    assert [(list(each.path), each.message) for each in validator.iter_errors(suite)] == []


@pytest.mark.parametrize("given", WRONG, ids=json.dumps)
def test_what_the_loader_refuses_does_not_fit(given: dict[str, Any], validator: Any) -> None:
    suite = {**LEAST, **given}
    assert loads(suite) is not None
    assert not validator.is_valid(suite)


def test_the_command_prints_it(validator: Any) -> None:
    assert json.loads(CliRunner().invoke(app, ["schema"]).output) == validator.schema
