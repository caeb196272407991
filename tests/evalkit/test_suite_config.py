"""A suite file is right as a whole, or every mistake in it is named with its line."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import orjson
import pytest

from evalkit import config
from evalkit.config import Suite
from evalkit.plan import Plan
from guardrails.errors import ConfigError

GOOD = """\
golden: short-facts
endpoints:
  - {name: a, url: http://localhost:1/v1, model: m}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "suite.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_least_suite_has_defaults(tmp_path: Path) -> None:
    suite = config.load(write(tmp_path, GOOD))

    assert [spec.path for spec in suite.golden] == ["short-facts"]
    assert (suite.concurrency, suite.undecided, suite.scorers) == (16, "report", ())


def test_every_mistake_is_named_with_its_line(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """\
golden: short-facts
endpoints:
  - name: a
    url: not a url
    model: m
  - {name: b, url: "http://h/v1", model: m, dialect: klingon}
scorers: [contains, sixth-sense]
concurrency: 0
gates:
  - pass_rate >= 90%
  - quality >= 1
temprature: 1
""",
    )

    with pytest.raises(ConfigError) as caught:
        config.load(path)

    said = str(caught.value)
    for part in (
        "suite.yaml:3",
        "suite.yaml:6",
        "suite.yaml:7",
        "suite.yaml:8",
        "suite.yaml:11",
        "suite.yaml:12",
    ):
        assert part in said, said
    for word in ("http://host:port/v1", "klingon", "sixth-sense", "quality", "temprature"):
        assert word in said, said


def test_a_golden_set_is_found_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text('{"id": "a", "input": "q", "reference": "r"}\n', encoding="utf-8")
    suite = config.load(write(tmp_path, GOOD.replace("short-facts", "mine.jsonl")))

    assert Plan.of(suite, [], folder=tmp_path).name == "mine"


def test_an_endpoint_s_own_files_are_found_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text('[models."m"]\ninput = 1\noutput = 2\n', encoding="utf-8")
    suite = config.load(write(tmp_path, GOOD.replace("model: m", "model: m, prices: p.toml")))

    assert Plan.of(suite, folder=tmp_path).targets[0].name == "a"
    with pytest.raises(ConfigError, match=r"p\.toml"):
        Plan.of(suite, folder=tmp_path / "elsewhere")


def test_options_of_the_command_line_go_before_the_file(tmp_path: Path) -> None:
    suite = config.load(write(tmp_path, GOOD), concurrency=3, gates=["pass_rate >= 50%"])

    assert (suite.concurrency, suite.gates) == (3, ("pass_rate >= 50%",))


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just words"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="expected fields"):
        config.load(write(tmp_path, text))


def test_two_endpoints_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="two endpoints are called 'm'"):
        Suite(
            golden="short-facts",
            endpoints=({"url": "http://a/v1", "model": "m"}, {"url": "http://b", "name": "m"}),
        )


def test_a_single_gate_and_scorer_need_no_list() -> None:
    suite = Suite.model_validate(
        {
            "golden": "short-facts",
            "endpoints": [{"url": "http://a/v1", "model": "m"}],
            "gates": "pass_rate >= 1%",
            "scorers": {"numeric": {"tolerance": 0.1}},
        }
    )

    assert suite.gates == ("pass_rate >= 1%",)
    assert suite.scorers == ({"numeric": {"tolerance": 0.1}},)


def test_an_option_replaces_of_a_mapping_what_it_names(tmp_path: Path) -> None:
    path = tmp_path / "suite.yaml"
    path.write_text(
        "golden: g\nendpoints: [{url: 'http://x/v1'}]\nbudget: {max_usd: 5, assumed_output: 100}\n"
        "gates: [pass_rate >= 90%]\n",
        encoding="utf-8",
    )
    suite = config.load(path, budget={"max_usd": "2"}, gates=["error_rate <= 1%"])

    assert suite.budget is not None
    assert (str(suite.budget.max_usd), suite.budget.assumed_output) == ("2", 100)
    assert suite.gates == ("error_rate <= 1%",)


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        (GOOD + "scorer: [exact]\n", 4, "scorer: is not a known field – did you mean `scorers`?"),
        (GOOD + "sampling: {max_token: 5}\n", 4, "sampling.max_token: is not a known field – did you mean"),
        (GOOD + "temprature: 1\n", 4, "is not a known field – did you mean `sampling.temperature`?"),
        (GOOD + "max_usd: 1\n", 4, "did you mean `budget.max_usd`?"),
        (
            GOOD.replace("short-facts", "{path: g, wher: x}"),
            1,
            "golden.0.wher: is not a known field – did you",
        ),
        (GOOD.replace("short-facts", "{path: g, where: {nto: x}}"), 1, "did you mean `not`?"),
        (GOOD.replace("model: m", "modle: m"), 3, "modle: is not a known field – did you mean `model`?"),
        (GOOD + "user: {url: http://x/v1, key_evn: K}\n", 4, "key_evn: is not a known field – did you mean"),
        (GOOD + "user: {url: http://x/v1, filters: {inptu: []}}\n", 4, "did you mean `input`?"),
    ],
)
def test_a_misspelt_field_says_which_one_may_be_meant(
    tmp_path: Path, text: str, line: int, said: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        config.load(write(tmp_path, text))
    (mistake,) = str(refused.value).splitlines()[1:]
    assert f"suite.yaml:{line}: " in mistake
    assert said in mistake


def test_a_field_that_is_like_none_gets_no_guess(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"frobnicate: is not a known field$"):
        config.load(write(tmp_path, GOOD + "frobnicate: 1\n"))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("two.jsonl", '{"id": "a", "input": "x"}\n{"id": "b", "input": "y"}\n'),
        ("one.jsonl", '{"id": "a", "input": "x"}\n'),
        ("rows.csv", "id,input\na,x\n"),
        ("list.json", '[{"id": "a", "input": "x"}]'),
        ("with space.json", '{"samples": [{"id": "a", "input": "x"}]}'),
        ("large.jsonl", '{"id": "a", "input": "x"}\n' * 200_000),
        ("packed.jsonl.gz", "\x1f\x8b"),
    ],
)
def test_a_golden_set_in_the_place_of_a_suite_says_how_to_run_it(
    tmp_path: Path, name: str, text: str
) -> None:
    path = tmp_path / name
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match="is no suite: it looks like a golden set") as refused:
        config.load(path)
    assert refused.value.hint == f"evalkit run --golden {shlex.quote(str(path))} --endpoint URL --model NAME"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("absent.jsonl", None, "does not exist"),
        ("suite.yaml", "golden: [", "not valid YAML"),
        ("suite.json", '{"golden": "short-facts", "input": 1}', "input: is not a known field"),
    ],
)
def test_other_mistakes_stay_what_they_are(tmp_path: Path, name: str, text: str | None, said: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=said):
        config.load(tmp_path / name)


@pytest.mark.parametrize(
    ("line", "field"),
    [
        (f"limit: {2**63}", "limit"),
        (f"shuffle: {-(2**63)}", "shuffle"),
        (f"sampling: {{seed: {2**63 - 10_000}}}", "sampling.seed"),
        (f"sampling: {{max_tokens: {10**23}}}", "sampling.max_tokens"),
        (f"sampling: {{top_k: {2**63}}}", "sampling.top_k"),
        (f"budget: {{max_usd: 1, assumed_output: {2**63}}}", "budget.assumed_output"),
        ("sampling: {temperature: .inf}", "sampling.temperature"),
        ("sampling: {temperature: .nan}", "sampling.temperature"),
    ],
)
def test_a_number_that_could_be_sent_or_kept_nowhere_is_named(tmp_path: Path, line: str, field: str) -> None:
    with pytest.raises(ConfigError, match=rf"suite\.yaml:4: {field}: input should be"):
        config.load(write(tmp_path, GOOD + line))


def test_the_largest_numbers_that_can_be_sent_and_kept_are_taken(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD + f"limit: {2**63 - 1}\nsampling: {{seed: {2**63 - 10_001}, n: 10000}}\n")
    plan = Plan.of(config.load(path))
    last = plan.sampling(9_999).seed
    assert last is not None
    assert json.loads(orjson.dumps({"seed": last, "suite": plan.lineage()["suite"]}))["seed"] == last


def test_a_mistake_in_a_list_is_one_mistake(tmp_path: Path) -> None:
    endpoints = "\nendpoints: [{url: 'http://x/v1'}]\n"
    with pytest.raises(
        ConfigError, match=r"1 mistake in .*suite\.yaml:\n.*golden\.0\.wher: is not a known field"
    ):
        config.load(write(tmp_path, "golden: [{path: g, wher: x}]" + endpoints))
    with pytest.raises(ConfigError, match="names no golden set"):
        config.load(write(tmp_path, "golden: []" + endpoints))
