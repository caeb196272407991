"""The registry itself: light to import, and clear about what it does not know."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from guardrails.errors import ConfigError
from judges.judge import Score
from judges.registry import JUDGES, judge, kind_of

HEAVY = {
    "absl",
    "httpx",
    "jsonschema",
    "nltk",
    "numpy",
    "presidio_analyzer",
    "pydantic",
    "re2",
    "rouge_score",
    "sacrebleu",
}


def test_importing_the_registry_loads_no_judge() -> None:
    program = "import sys, json, judges.registry; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout))
    assert loaded & HEAVY == set()
    assert {name for name in loaded if name.startswith("judges.")} == {
        "judges.answer",
        "judges.judge",
        "judges.registry",
    }


@pytest.mark.parametrize("name", sorted(JUDGES))
def test_every_name_is_a_judge_with_a_docstring_and_the_options_it_declares(name: str) -> None:
    kind = kind_of(name)
    fields = kind.__dataclass_fields__
    assert kind.__doc__
    assert kind.__dataclass_params__.frozen
    assert getattr(kind, "shorthand", "name") in fields
    assert set(getattr(kind, "targets", ())) <= set(fields)


def test_a_value_in_place_of_options() -> None:
    assert judge({"rouge": "rouge1"}) == judge({"rouge": {"kind": "rouge1"}})
    assert judge({"f1": 0.7}) == judge({"f1": {"threshold": 0.7}})
    assert judge({"findings": "toxicity"}) == judge({"findings": {"kinds": ["toxicity"]}})
    assert judge({"contains": "sorry"}) == judge({"contains": {"words": ["sorry"]}})
    with pytest.raises(ConfigError, match="written as its name"):
        judge({"numeric": 0.1})
    with pytest.raises(ConfigError, match="threshold"):
        judge({"f1": "high"})


def test_a_sample_may_have_its_program_run_in_a_sandbox_and_not_without_one() -> None:
    assert judge("code", trusted=False).name == "code"
    assert judge({"code": None}, trusted=False).name == "code"
    for spec in ({"code": {"sandbox": "unsafe_subprocess"}}, {"all": [{"code": {"imports": ["os"]}}]}):
        assert judge(spec).name
        with pytest.raises(ConfigError, match="'code' with options runs code"):
            judge(spec, trusted=False)


def test_a_score_is_a_value_or_an_error() -> None:
    assert Score.verdict(True, "why") == Score(1.0, True, "why")
    for value, passed, error in [
        (None, True, "x"),
        (0.5, None, "x"),
        (None, None, None),
        (float("inf"), True, None),
    ]:
        with pytest.raises(ValueError, match="judge that"):
            Score(value, passed, "why", error)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("contians", "there is no judge 'contians' – did you mean `contains`? the judges are"),
        ("zzz", "there is no judge 'zzz' – the judges are"),
        ({"numeric": {"tolerence": 1}}, "no option 'tolerence' – did you mean `tolerance`? its options are"),
        ({"not": {"contians": "a"}}, "there is no judge 'contians' – did you mean `contains`?"),
        ({"all": {"judges": ["exact"]}}, "the judge 'all' takes other judges, and 'judges' is none – write"),
    ],
)
def test_a_misspelt_judge_or_option_says_which_one_may_be_meant(spec: Any, said: str) -> None:
    with pytest.raises(ConfigError) as found:
        judge(spec)
    assert said in str(found.value)
