"""A suite file is right as a whole, or every mistake in it is named with its line."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from evalkit import config
from evalkit.config import Suite
from evalkit.plan import Plan
from guardrails.errors import ConfigError
from judges.judge import Answer, Question

ROOT = Path(__file__).resolve().parents[2]
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
    with pytest.raises(ConfigError, match="two endpoints are called 'm'"):
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


def mistakes(folder: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        config.load(write(folder, text))
    assert refused.value.message.startswith(f"{len(str(refused.value).splitlines()) - 1} mistake")
    return [line.strip().removeprefix(str(folder)) for line in str(refused.value).splitlines()[1:]]


def test_the_short_form_of_a_prompt_is_checked_as_the_long_one_is(tmp_path: Path) -> None:
    (short,) = mistakes(tmp_path, GOOD + 'system: "{{ x"\n')
    (long,) = mistakes(tmp_path, GOOD + 'prompts: [{system: "{{ x"}]\n')

    assert short.startswith("/suite.yaml:4: system: the template is not valid: ")
    assert long == short.replace("system:", "prompts.0.system:")


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("sampling: {n: true}", "sampling.n"),
        ("sampling: {temperature: yes}", "sampling.temperature"),
        ("sampling: {seed: false}", "sampling.seed"),
        ("concurrency: true", "concurrency"),
        ("timeout: on", "timeout"),
        ("limit: true", "limit"),
        ("budget: {max_usd: true}", "budget.max_usd"),
        ("max_error_rate: false", "max_error_rate"),
        ("user: {url: 'http://h/v1', deadline: true}", "user.deadline"),
        ("user: {url: 'http://h/v1', retry: {attempts: true}}", "user.retry.attempts"),
        ("user: {url: 'http://h/v1', connect_timeout: true}", "user.connect_timeout"),
        ("user: {url: 'http://h/v1', admit: {limit: true}}", "user.admit.limit"),
        (
            "user: {url: 'http://h/v1', filters: {input: [{pii: {sample: true}}]}}",
            "user.filters.input.0.pii.sample",
        ),
    ],
)
def test_a_truth_value_is_no_number(tmp_path: Path, line: str, field: str) -> None:
    (said,) = mistakes(tmp_path, GOOD + line)
    assert said.startswith(f"/suite.yaml:4: {field}: input should be a number, and ")


@pytest.mark.parametrize("field", ["limit: true", "sample: {n: true}", "sample: {n: 3, seed: true}"])
def test_a_truth_value_is_no_number_of_samples(tmp_path: Path, field: str) -> None:
    (said,) = mistakes(tmp_path, GOOD.replace("short-facts", f"{{path: short-facts, {field}}}"))
    assert said.startswith("/suite.yaml:1: golden.0: ")
    assert said.endswith("input should be a number, and true is none")


def test_numbers_as_text_and_words_of_truth_are_taken_as_before(tmp_path: Path) -> None:
    text = GOOD + "sampling: {n: '3', temperature: '0.5', logprobs: 'yes'}\nconcurrency: '8'\ncache: 1\n"
    suite = config.load(write(tmp_path, text))

    assert (suite.sampling.n, suite.sampling.temperature, suite.sampling.logprobs) == (3, 0.5, True)
    assert (suite.concurrency, suite.cache) == (8, True)


@pytest.mark.timeout(20)
def test_a_pipe_or_a_device_is_no_suite(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    for path in (tmp_path / "pipe.yaml", Path("/dev/zero")):
        with pytest.raises(ConfigError, match="is a pipe or a device"):
            config.load(path)


def test_one_mistake_hides_no_other(tmp_path: Path) -> None:
    (tmp_path / "wrong.yaml").write_text("user: hello\nsystm: hello\n", encoding="utf-8")
    found = mistakes(
        tmp_path,
        """\
golden: short-facts
endpoints: [{name: a, url: http://h/v1, model: m}]
prompts:
  - {name: p, user: "{{ input.__class__ }}", few_shot: [{user: x}]}
  - {name: p, file: nope.yaml}
  - {name: q, file: wrong.yaml}
system: hello
gates:
  - pass_rate on nowhere >= 90%
  - pass_rate of nobody >= 90%
  - pass_rate on short-facts of a/p >= 90%
  - pass_rat >= 90%
""",
    )

    assert [each.partition(" – ")[0][:90] for each in found] == [
        "/suite.yaml:4: prompts.0.user: the template may not use the attribute '__class__' (line 1)",
        "/suite.yaml:4: prompts.0.few_shot.0.assistant: field required",
        "/suite.yaml:7: system: is the short form of one prompt: with `prompts`, write it into each",
        "/suite.yaml:12: gates.3: there is no metric 'pass_rat'; did you mean pass_rate?",
        "/suite.yaml:3: prompts: two prompts are called 'p': give each a `name` of its own",
        f"/suite.yaml:5: prompts.1.file: {tmp_path}/nope.yaml does not exist"[:90],
        "/wrong.yaml:2: systm: is not a known field",
        "/suite.yaml:9: gates.0: the run has no golden set 'nowhere'",
        "/suite.yaml:10: gates.1: the run has no endpoint 'nobody'",
    ]


def test_a_gate_on_a_misspelt_set_says_which_is_meant(tmp_path: Path) -> None:
    found = mistakes(
        tmp_path,
        "golden: short-facts\nendpoints: [{url: http://h/v1}]\ngates: [pass_rate on shrt-facts > 0]\n",
    )
    assert found == [
        "/suite.yaml:3: gates.0: the run has no golden set 'shrt-facts' – did you mean `short-facts`?"
    ]


@pytest.mark.parametrize(
    "golden",
    ["sets/*.jsonl", "[short-facts, {hf: a/b}]", "{path: x/samples.jsonl}", "{path: a.jsonl, name: x}"],
)
def test_what_only_reading_the_sets_can_tell_is_not_guessed(tmp_path: Path, golden: str) -> None:
    text = GOOD.replace("short-facts", golden) + "gates: [pass_rate on x >= 90%]\n"
    assert len(config.load(write(tmp_path, text)).gates) == 1


def test_a_set_may_be_meant_by_its_file_s_name(tmp_path: Path) -> None:
    text = GOOD.replace("short-facts", "sets/a.v2.jsonl.gz") + "gates: [pass_rate on a.v2 >= 90%]\n"
    assert len(config.load(write(tmp_path, text)).gates) == 1
    assert mistakes(tmp_path, text.replace("on a.v2", "on b.v2"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOD.replace("model: m", "model: m, bogus: 1"), "3: endpoints.0.bogus: is not a known field"),
        (GOOD.replace("http://localhost:1/v1", "x"), "3: endpoints.0: an endpoint's url must look like"),
        (GOOD + "judges: {a: {url: 3}}", "4: judges.a.url: input should be a valid string"),
        (GOOD + "judges: {1: {url: 'http://h/v1'}}", "4: judges.1: a name here should be a text"),
        (
            GOOD + "prompts: hello",
            "4: prompts.0: input should be a mapping with fields such as name, file, sys",
        ),
        (GOOD + "sampling: 5", "4: sampling: input should be a mapping with fields such as n, max_tokens"),
        (GOOD + "sampling: {stop: x}", "4: sampling.stop: input should be a list"),
        (GOOD + "endpoint: 5", "4: endpoint: is not a known field – did you mean `endpoints`?"),
        ("golden: a\nendpoints: 5", "2: endpoints: input should be a list"),
        (GOOD + "scorers: [3]", "4: scorers.0: input should be a valid string or a mapping (`name: value`)"),
        (GOOD + "gates: 3", "4: gates: input should be a list"),
        (
            GOOD + "user: {url: 'http://h/v1', retry: 3}",
            "4: user.retry: input should be a mapping with fields such",
        ),
        (
            GOOD + "user: {url: 'http://h/v1', filters: 3}",
            "4: user.filters: is default or strict, or a mapping",
        ),
        (
            GOOD + "user: {url: 'http://h/v1', admit: {limit: x}}",
            "4: user.admit.limit: input should be 'two_sign",
        ),
    ],
)
def test_a_mistake_says_its_whole_path_and_what_is_allowed(tmp_path: Path, text: str, said: str) -> None:
    (found,) = mistakes(tmp_path, text)
    assert found.startswith(f"/suite.yaml:{said}")


def test_a_mistake_in_an_option_is_not_looked_for_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "suite.yaml"
    path.write_text(
        "golden: g.jsonl\nendpoints: [{url: http://x/v1}]\ngates: ['pass_rate >= 0.9']\nlimit: no\n",
        encoding="utf-8",
    )
    with pytest.raises(ConfigError) as caught:
        config.load(path, gates=["pass_rate == 5%"])
    said = str(caught.value)
    assert f"given beside {path}: gates.0: cannot read the gate 'pass_rate == 5%'" in said
    assert f"{path}:4: limit" in said


# --- in Python ---------------------------------------------------------------------------------------------

TYPED = """
from evalkit.config import Suite

def mine(question: object, answer: object) -> bool:
    return True

suite = Suite(
    golden="short-facts",
    endpoints=[{"url": "http://localhost:8000/v1", "model": "my-model"}],
    prompts=[{"name": "terse", "system": "Be brief."}],
    sampling={"n": 3},
    scorers=["exact", mine, {"numeric": {"tolerance": 0.1}}],
    gates=["error_rate <= 40%", {"gate": "pass_rate >= 1%"}],
    budget={"max_usd": 5},
    out=".evalkit",
)
names: tuple[dict[str, object], ...] = suite.endpoints
calls: int = suite.sampling.n
"""


@pytest.mark.timeout(300)
def test_what_the_docs_write_in_python_is_right_for_type_checkers(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.py", tmp_path / "bad.py"
    good.write_text(TYPED, encoding="utf-8")
    bad.write_text("from evalkit.config import Suite\nSuite(golden='x', endpoint=[])\n", encoding="utf-8")

    def checked(file: Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", str(file)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)

    assert (done := checked(good)).returncode == 0, done.stdout + done.stderr
    assert 'Unexpected keyword argument "endpoint"' in checked(bad).stdout


def test_the_types_of_the_constructor_are_of_all_fields_and_no_others() -> None:
    assert config.Given.__annotations__.keys() == Suite.model_fields.keys()


ENDPOINT = {"url": "http://a/v1", "model": "m"}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"endpoint": [ENDPOINT]}, "the suite: endpoint: is not a known field – did you mean `endpoints`?"),
        ({"endpoints": [ENDPOINT], "scorers": ["contians"]}, "scorers.0: there is no judge 'contians' – did"),
        ({"endpoints": [ENDPOINT], "sampling": {"n": 0}}, "the suite: sampling.n: input should be greater"),
        ({"endpoints": [ENDPOINT], "scorers": [lambda: 1]}, "scorers.0: a scorer may be a function of a"),
    ],
)
def test_a_mistake_in_python_is_told_as_one_in_a_file(fields: Any, said: str) -> None:
    with pytest.raises(ConfigError) as found:
        Suite(golden="short-facts", **fields)
    assert said in str(found.value)
    assert "pydantic" not in str(found.value)


def polite(question: Question, answer: Answer) -> bool:
    return "please" in answer.text


def test_a_scorer_may_be_a_function_itself() -> None:
    target = f"{__name__}:polite"
    suite = Suite(
        golden="short-facts",
        endpoints=[ENDPOINT],
        scorers=[
            {"all": ["exact", {"not": polite}]},
            {"python": {"target": polite, "threshold": 0.7}},
            polite,
        ],
    )

    combined, optioned, alone = suite.model_dump(mode="json")["scorers"]
    named = alone["python"]
    assert named["target"] == target
    assert combined == {"all": ["exact", {"not": {"python": named}}]}
    assert optioned == {"python": {**named, "threshold": 0.7}}
    assert Suite(golden="short-facts", endpoints=[ENDPOINT], scorers=polite).scorers == (alone,)


def test_a_mistake_in_an_endpoint_of_python_says_which_one_it_is() -> None:
    wrong = [{"url": "http://b/v1", "modle": "m"}, {"url": "http://c/v1", "filters": "defualt"}]
    suite = Suite(golden="short-facts", endpoints=[ENDPOINT, *wrong], judges={"j": {"urll": "http://x"}})

    with pytest.raises(ConfigError) as found:
        Plan.of(suite)

    said = str(found.value)
    assert "suite: endpoints.1.modle: is not a known field – did you mean `model`?" in said
    assert "suite: endpoints.2.filters: unknown policy 'defualt'" in said
    assert "suite: judges.j.urll: is not a known field" in said


def test_a_plan_knows_what_a_sample_asks_and_what_is_expected() -> None:
    plan = Plan.of(Suite(golden="short-facts", endpoints=[ENDPOINT], limit=2))
    first, second, third = (plan.parts[0].golden.samples[number] for number in range(3))

    assert plan.asked("short-facts", second.id) == second.question() != first.question()
    assert plan.asked("short-facts", third.id) is None, "the run does not ask it"
