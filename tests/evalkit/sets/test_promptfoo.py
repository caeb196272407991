"""promptfoo's assertions: what becomes a scorer, what is told, and tests in a table."""

from __future__ import annotations

import asyncio
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from evalkit.sample import GoldenSet, GoldenSetError, load
from judges.judge import Answer
from judges.registry import judge


def asserting(folder: Path, *asserted: dict[str, Any], **more: Any) -> GoldenSet:
    test = {"vars": {"q": "b,c"}, "assert": list(asserted), **more}
    (folder / "tests.json").write_text(json.dumps([test]), encoding="utf-8")
    return load({"path": "tests.json", "format": "promptfoo"}, folder)


def table(folder: Path, text: str, **spec: Any) -> GoldenSet:
    (folder / "tests.csv").write_text(text, encoding="utf-8")
    return load({"path": "tests.csv", "format": "promptfoo", **spec}, folder)


def passes(golden: GoldenSet, answer: str) -> bool | None:
    sample = golden.samples[0]
    made = judge(sample.metadata["scorer"], trusted=False)
    return asyncio.run(made(sample.question(), Answer(answer))).passed


def told(error: pytest.ExceptionInfo[GoldenSetError]) -> list[tuple[int, str]]:
    return [(problem.line, problem.field) for problem in error.value.problems]


NO = "I'm sorry, but I can't help with that."


@pytest.mark.parametrize(
    ("kind", "value", "right", "wrong"),
    [
        ("is-refusal", None, NO, "Take this."),
        ("not-is-refusal", None, "Take this.", NO),
        ("contains-any", "Berlin, Paris", "It is Paris.", "It is Berli, Pari."),
        ("contains-all", 'x y , "b, c",, "a ""q"" \\" \\n"', 'x yb, ca "q" " \\n', 'x y b, c a "q"'),
        ("not-contains-any", "a,b", "c", "only a"),
        ("icontains-all", "A,{{ q }}", "a b c", "a b"),
        ("contains-all", ["{{ q }}", 4, 2.0], "b,c 42", "{{ q }} 4 2"),
        ("contains", True, "it is true", "it is True"),
        ("equals", 2.0, "2", "2.0"),
        ("equals", {"a": [1, "x"]}, '{"a": [1.0, "x"]}', '{"a": [1]}'),
        ("equals", ["{{ q }}"], '["b,c"]', '["{{ q }}"]'),
        ("not-equals", ["x"], "no JSON", '["x"]'),
        ("ends-with", "a.c", "so a.c", "a.c so"),
        ("ends-with", "x", "x", "x\n"),
        ("is-json", "type: object\nrequired: [a]", '{"a": 1}', "{}"),
    ],
)
def test_an_assertion_says_what_it_says_there(
    tmp_path: Path, kind: str, value: Any, right: str, wrong: str
) -> None:
    golden = asserting(tmp_path, {"type": kind, "value": value})
    assert (passes(golden, right), passes(golden, wrong)) == (True, False)


def test_parts_of_a_set_have_to_hold_as_if_they_stood_alone(tmp_path: Path) -> None:
    parts = [{"type": "contains", "value": "a"}, {"type": "not-contains", "value": "b", "weight": 1}]
    golden = asserting(tmp_path, {"type": "assert-set", "assert": parts}, threshold=1)
    assert (passes(golden, "a"), passes(golden, "ab"), passes(golden, "")) == (True, False, False)
    with pytest.raises(GoldenSetError) as error:
        asserting(tmp_path, {"type": "assert-set", "assert": [{"type": "moderation"}], "threshold": 0.5})
    assert told(error) == [(1, "assert[0].threshold"), (1, "assert[0].assert[0].type")]
    with pytest.raises(GoldenSetError, match="is not-assert-set, which has no counterpart"):
        asserting(tmp_path, {"type": "not-assert-set", "assert": parts})


@pytest.mark.parametrize(
    ("asserted", "said"),
    [
        ({"type": "equals", "value": "file://a.txt"}, "assert[0].value: names a file: write out what equals"),
        ({"type": "contains-any", "value": ["a", "file://b"]}, "what contains-any is to compare with"),
        ({"type": "contains", "value": "package:a:b"}, "names a file"),
        ({"type": "contains-any", "value": '"a'}, "has a double quote that nothing closes"),
        ({"type": "contains-any", "value": '"a" b'}, "where a comma is due"),
        ({"type": "contains-any", "value": " , "}, "is nothing that contains-any can compare with"),
        ({"type": "contains-any", "value": ["{{ '' }}"]}, "is nothing that contains-any can compare with"),
        ({"type": "contains-all", "value": ["{{ nope }}"]}, "the template asks for nope"),
        ({"type": "equals", "value": 2**60}, "put it in quotes"),
        ({"type": "regex", "value": "a(?=b)"}, "assert[0].value: RE2 cannot take the pattern: look-ahead"),
        ({"type": "is-json", "value": "{"}, "not valid YAML"),
        ({"type": "is-json", "value": "{}{"}, "not valid YAML"),
        ({"type": "latency"}, "assert[0].threshold: must be a number above 0"),
        ({"type": "cost", "threshold": True}, "must be a number above 0"),
        ({"type": "perplexity", "threshold": 0.5}, "must be a number of at least 1"),
        ({"type": "equals", "value": "x", "metricOnly": True}, "assert[0].metricOnly: has no counterpart"),
        ({"type": "llm-rubric", "value": "x"}, "put `rubric` under the suite's `scorers`"),
        ({"type": "levenshtein", "value": "x"}, "each also with `not-` before it: contains, contains-all"),
    ],
)
def test_what_an_assertion_cannot_ask_for_is_told(
    tmp_path: Path, asserted: dict[str, Any], said: str
) -> None:
    with pytest.raises(GoldenSetError) as error:
        asserting(tmp_path, asserted)
    assert said in str(error.value)
    assert error.value.count == 1


def test_thresholds_are_counterparts_where_they_bound_what_was_measured(tmp_path: Path) -> None:
    kinds = {"latency": 200, "cost": 0.5, "perplexity": 9}
    golden = asserting(tmp_path, *({"type": kind, "threshold": most} for kind, most in kinds.items()))
    assert golden.samples[0].metadata["scorer"] == {
        "all": [{"latency": {"e2e_ms": 200}}, {"cost": {"max_usd": 0.5}}, {"perplexity": {"max": 9}}]
    }


def test_all_problems_of_all_tests_are_told_where_they_stand(tmp_path: Path) -> None:
    (tmp_path / "tests.yaml").write_text(
        """
defaultTest:
  options: {provider: "openai:x", transform: output}
  assert:
    - {type: contains, value: x}
    - {type: javascript, value: x}
    - {type: contains, value: "{{ word }}"}
tests:
  - vars: {q: x}
    threshold: 0
    assert:
      - type: llm-rubric
      - {type: contains, value: x}
      - type: not-similar
        weight: 2
      - {type: contains-all, value: "{{ nope }}"}
  - vars: {q: x, word: y}
    assert:
      - type: equals
        value: y
        weight: 2
scenarios: [{}]
""",
        encoding="utf-8",
    )
    with pytest.raises(GoldenSetError) as error:
        load("tests.yaml", tmp_path)
    assert told(error) == [
        (3, "defaultTest.options.transform"),
        (6, "defaultTest.assert[1].type"),
        (9, "defaultTest.assert[2].value"),
        (10, "threshold"),
        (12, "assert[0].type"),
        (14, "assert[2].type"),
        (16, "assert[3].value"),
        (17, "vars"),
        (21, "assert[0].weight"),
        (22, "scenarios"),
    ]
    reasons = [problem.reason for problem in error.value.problems]
    assert sum("each also with `not-`" in reason for reason in reasons) == 1
    assert "is not-similar, which has no counterpart here" in reasons[5]


def test_combinations_tell_of_a_problem_once(tmp_path: Path) -> None:
    with pytest.raises(GoldenSetError) as error:
        asserting(tmp_path, {"type": "contains"}, vars={"q": ["a", "b", "c"]})
    assert told(error) == [(1, "assert[0].value")]


# --- tables ------------------------------------------------------------------------------------------------


def test_a_table_of_tests(tmp_path: Path) -> None:
    text = (
        "question,__expected,__expected2,__description,__metric,__threshold,__metadata:topic,__metadata:tags[]\n"
        'Capital?,icontains: Paris ,"not-contains-any:x,""b, c""",fr,m,1,geo,"a, b\\,c"\n'
        "2+2?,4,latency(500),,,,,\n"
        '"{{ x }}: y",note: so,,,,,,\n'
    )
    golden = table(tmp_path, text)
    first, second, third = golden.samples
    assert (first.id, first.input, first.references) == ("test-1", "Capital?", ("Paris",))
    assert (first.metadata["topic"], first.metadata["tags"]) == ("geo", ["a", "b,c"])
    assert first.metadata["description"] == "fr"
    assert (passes(golden, "paris"), passes(golden, "paris b, c"), passes(golden, "rome")) == (
        True,
        False,
        False,
    )
    assert second.references == ("4",)
    assert second.metadata["scorer"]["all"][1] == {"latency": {"e2e_ms": 500.0}}
    assert (third.input, third.references) == ("{{ x }}: y", ("note: so",))
    (tmp_path / "tests.csv.gz").write_bytes(gzip.compress(text.encode()))
    packed = load({"path": "tests.csv.gz", "format": "promptfoo"}, tmp_path)
    assert packed.sha256 == golden.sha256
    fields = {"input": "Say: {{ question }}"}
    assert table(tmp_path, text, fields=fields).samples[1].input == "Say: 2+2?"


@pytest.mark.parametrize(
    ("column", "cell", "said"),
    [
        ("__expected", "grade: is nice", "is llm-rubric, which"),
        ("__expected", "not-llm-rubric: is nice", "is not-llm-rubric, which"),
        ("__expected", "fn: true", "is javascript, which"),
        ("__expected", "python: True", "is python, which"),
        ("__expected", "file://check.py:main", "is python, which"),
        ("__expected", "file://check.js", "is javascript, which"),
        ("__expected", "file://right.txt", "names a file"),
        ("__expected", "similar(0.8): x", "is similar, which"),
        ("__expected3", "contains", "__expected3.value: is nothing that contains can compare with"),
        ("__expected", "latency", "__expected.threshold: must be a number"),
        ("__threshold", "0.5", "threshold: changes how a test is judged"),
        ("__prefix", "Say: ", "__prefix: is a column of promptfoo's that has no counterpart"),
        ("__config:__expected:threshold", "0.5", "__config:__expected:threshold: is a column"),
    ],
)
def test_what_a_table_cannot_ask_for_is_told(tmp_path: Path, column: str, cell: str, said: str) -> None:
    with pytest.raises(GoldenSetError) as error:
        table(tmp_path, f"q,{column}\nfine,\nx,{cell}\n")
    assert said in str(error.value)
    assert [problem.line for problem in error.value.problems] == [3]


def test_tests_in_another_file_are_told_with_what_to_do(tmp_path: Path) -> None:
    for tests in ("file://t.csv", ["file://t.yaml"]):
        (tmp_path / "all.json").write_text(json.dumps({"tests": tests}), encoding="utf-8")
        with pytest.raises(GoldenSetError, match=r"give that one as the golden set .*format: promptfoo"):
            load({"path": "all.json", "format": "promptfoo"}, tmp_path)
