"""Sets in other people's formats."""

from __future__ import annotations

import asyncio
import datetime
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from evalkit import datasets as builtin
from evalkit.rows import Problems
from evalkit.sample import GoldenSet, GoldenSetError, load
from evalkit.sets import hugging
from evalkit.sets.parquet import read as read_parquet
from guardrails.errors import ConfigError
from judges.judge import Answer
from judges.registry import judge

ROOT = Path(__file__).resolve().parents[3]


# --- OpenAI's evals ----------------------------------------------------------------------------------------


def evals(tmp_path: Path, *rows: Any) -> GoldenSet:
    (tmp_path / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return load({"path": "samples.jsonl", "format": "openai-evals", "name": "evals"}, tmp_path)


def test_samples_of_openais_evals(tmp_path: Path) -> None:
    chat = [
        {"role": "system", "content": "Be short."},
        {"role": "system", "content": "2+2", "name": "example_user"},
        {"role": "system", "content": "4", "name": "example_assistant"},
        {"role": "user", "content": "3+3"},
    ]
    first, second = evals(
        tmp_path,
        {"input": chat, "ideal": ["6", "six"], "difficulty": 1},
        {"input": "2+3", "ideal": "5"},
    ).samples
    assert [(turn.role, turn.text) for turn in first.messages] == [
        ("system", "Be short."),
        ("user", "2+2"),
        ("assistant", "4"),
        ("user", "3+3"),
    ]
    assert (first.id, first.references, first.metadata) == ("row-1", ("6", "six"), {"difficulty": 1})
    assert (second.id, second.input, second.references) == ("row-2", "2+3", ("5",))


def test_a_sample_of_openais_evals_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "own.jsonl").write_text('{"id": "a", "input": "x", "ideal": "y"}', encoding="utf-8")
    with pytest.raises(GoldenSetError, match="write `format: openai-evals`"):
        load("own.jsonl", tmp_path)
    with pytest.raises(GoldenSetError, match="input: is missing"):
        evals(tmp_path, {"ideal": "x"})
    with pytest.raises(GoldenSetError, match=r"messages\[0\].role: must be system"):
        evals(tmp_path, {"input": [{"role": "robot", "content": "x"}, {"role": "user", "content": "x"}]})


# --- promptfoo ---------------------------------------------------------------------------------------------


def promptfoo(tmp_path: Path, text: str, **spec: Any) -> GoldenSet:
    (tmp_path / "tests.yaml").write_text(text, encoding="utf-8")
    return load({"path": "tests.yaml", **spec}, tmp_path)


def test_tests_of_promptfoo(tmp_path: Path) -> None:
    golden = promptfoo(
        tmp_path,
        """
prompts: ["Answer in one word: {{ question }}"]
defaultTest:
  vars: {tone: dry}
  assert: [{type: not-icontains, value: "as an ai"}]
tests:
  - description: a capital
    vars: {question: "Capital of France?"}
    assert:
      - {type: icontains, value: paris}
      - {type: latency, threshold: 2000}
  - vars: {question: [one, two]}
    assert: [{type: equals, value: "{{ question }}!"}]
""",
    )
    first, second, third = golden.samples
    assert first.input == "Answer in one word: Capital of France?"
    assert first.references == ("paris",)
    assert first.metadata == {
        "vars": {"tone": "dry", "question": "Capital of France?"},
        "description": "a capital",
        "scorer": {
            "all": [
                {
                    "not": {
                        "contains": {
                            "words": ["as an ai"],
                            "all": False,
                            "casefold": True,
                            "whitespace": False,
                        }
                    }
                },
                {"contains": {"words": ["paris"], "all": False, "casefold": True, "whitespace": False}},
                {"latency": {"e2e_ms": 2000}},
            ]
        },
    }
    assert [second.id, third.id] == ["test-2-1", "test-2-2"]
    assert (third.input, third.references) == ("Answer in one word: two", ("two!",))
    for sample in golden.samples:
        judge(sample.metadata["scorer"], trusted=False)


@pytest.mark.parametrize(
    ("asserted", "right", "wrong"),
    [
        ("{type: contains, value: Paris}", "It is Paris.", "It is paris."),
        ("{type: contains-all, value: [a, b]}", "b a", "a"),
        ("{type: icontains-any, value: [X, Y]}", "say y", "a"),
        ("{type: equals, value: 'a.b'}", "a.b", "axb"),
        ("{type: starts-with, value: 'I (am)'}", "I (am) he", "Yes, I (am)"),
        ("{type: regex, value: '^[0-9]+$'}", "42", "4x"),
        ("{type: not-regex, value: '[0-9]'}", "x", "4"),
        ("{type: is-json}", '{"a": 1}', "a"),
        ("{type: is-json, value: {type: object, required: [a]}}", '{"a": 1}', "{}"),
    ],
)
def test_an_assertion_becomes_a_scorer(tmp_path: Path, asserted: str, right: str, wrong: str) -> None:
    golden = promptfoo(tmp_path, f"tests:\n  - vars: {{q: x}}\n    assert: [{asserted}]\n")
    sample = golden.samples[0]
    made = judge(sample.metadata["scorer"], trusted=False)
    for answer, passed in ((right, True), (wrong, False)):
        assert asyncio.run(made(sample.question(), Answer(answer))).passed is passed


@pytest.mark.parametrize(
    ("text", "line", "field"),
    [
        ("tests:\n  - vars: {q: x}\n    assert: [{type: llm-rubric, value: nice}]\n", 3, "assert[0].type"),
        ("tests:\n  - vars: {q: x}\n    assert: [{type: javascript, value: nice}]\n", 3, "assert[0].type"),
        ("tests:\n  - vars: {q: x}\n    assert: [{type: contains}]\n", 3, "assert[0].value"),
        (
            "tests:\n  - vars: {q: x}\n    assert: [{type: equals, value: x, weight: 0}]\n",
            3,
            "assert[0].weight",
        ),
        ("tests:\n  - vars: {q: x}\n    threshold: 0.5\n", 3, "threshold"),
        ("tests:\n  - vars: {q: 'file://x'}\n", 2, "vars.q"),
        ("tests:\n  - vars: {a: x, b: y}\n", 2, "vars"),
        ("tests:\n  - vars: [1]\n", 2, "vars"),
        ("tests:\n  - x\n", 2, "test"),
        ("tests: file://more.yaml\n", 1, "tests"),
        ("prompts: ['{{ nosuch }}']\ntests:\n  - vars: {q: x}\n", 3, "prompts[0]"),
        ("prompts: ['Say {{ q }}', 'Sing {{ q }}']\ntests:\n  - vars: {q: x}\n", 1, "prompts"),
        ("tests:\n  - vars: {q: x}\nprompts: [{raw: 'Say {{ q }}'}]\n", 3, "prompts[0]"),
        ("prompts: file://say.txt\ntests:\n  - vars: {q: x}\n", 1, "prompts[0]"),
        ("prompts: [prompts/*.txt]\ntests:\n  - vars: {q: x}\n", 1, "prompts[0]"),
        ("prompts: [say.py:main]\ntests:\n  - vars: {q: x}\n", 1, "prompts[0]"),
        ('prompts: [\'[{"role": "user"}]\']\ntests:\n  - vars: {q: x}\n', 1, "prompts[0]"),
    ],
)
def test_what_has_no_counterpart_is_told(tmp_path: Path, text: str, line: int, field: str) -> None:
    with pytest.raises(GoldenSetError) as error:
        promptfoo(tmp_path, text)
    (problem,) = error.value.problems
    assert (problem.line, problem.field) == (line, field)


def test_the_suite_may_say_which_variable_is_what(tmp_path: Path) -> None:
    text = "- vars: {a: x, b: y}\n  assert: [{type: contains, value: z}]\n"
    (sample,) = promptfoo(tmp_path, text, fields={"input": "b", "context": "a"}).samples
    assert (sample.id, sample.input, sample.context, sample.references) == ("test-1", "y", ("x",), ("z",))
    assert "scorer" in sample.metadata


def test_prompts_that_are_said_by_the_suite_need_not_be_ours(tmp_path: Path) -> None:
    text = "prompts: [a.txt, 'Say {{ q }}']\ntests:\n  - vars: {q: x}\n"
    (sample,) = promptfoo(tmp_path, text, fields={"input": "Say {{ q }}"}).samples
    assert sample.input == "Say x"
    for prompt, asked in (("See https://x.example: **{{ q }}**", "See https://x.example: **x**"), ("", "x")):
        text = f"prompts: {json.dumps([prompt] if prompt else [])}\ntests:\n  - vars: {{q: x}}\n"
        assert promptfoo(tmp_path, text).samples[0].input == asked


@pytest.mark.parametrize(
    "prompt",
    [
        "[INST] {{ q }} [/INST]",
        "[{{ q }}] is what?",
        "[1, 2, 3]",
        "https://x.example/{{ q }} explain",
        "https://x.example/a.json",
        "2*3*4=?",
        "E=mc*2",
        "node.js",
        "翻译**这句话**",
        "**{{ q }}**",
        "{{ q }}.txt",
        "Summarise notes.md",
        "[" * 3_000,
    ],
)
def test_a_prompt_that_only_looks_like_a_file_is_one(tmp_path: Path, prompt: str) -> None:
    text = f"prompts: {json.dumps([prompt])}\ntests:\n  - vars: {{q: x}}\n"
    assert promptfoo(tmp_path, text).samples[0].input == prompt.replace("{{ q }}", "x")


@pytest.mark.parametrize(
    ("prompt", "what"),
    [
        ("file://say it.txt", "a file"),
        ("prompts.txt", "a file"),
        ("prompts/**/*.j2", "a file"),
        ("C:\\prompts\\say.md", "a file"),
        ("./say.js", "a file"),
        ("say.py:main", "a file"),
        ("beside.js", "a file"),
        ('[{"role": "user", "content": {{ q }}}]', "a conversation"),
    ],
)
def test_a_prompt_that_names_a_file_or_is_a_conversation_is_told(
    tmp_path: Path, prompt: str, what: str
) -> None:
    (tmp_path / "beside.js").touch()
    with pytest.raises(GoldenSetError, match=what):
        promptfoo(tmp_path, f"prompts: {json.dumps([prompt])}\ntests:\n  - vars: {{q: x}}\n")


def test_combinations_are_bounded(tmp_path: Path) -> None:
    values = json.dumps(list(map(str, range(40))))
    with pytest.raises(GoldenSetError, match="more than 1,000 combinations"):
        promptfoo(tmp_path, f"tests:\n  - vars: {{input: {values}, b: {values}}}\n")


def test_a_yaml_bomb_is_refused(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    with pytest.raises(ConfigError, match="more than 200000 values"):
        promptfoo(tmp_path, "\n".join([*lines, "tests: *a9", ""]))
    with pytest.raises(ConfigError, match="nested too deeply"):
        promptfoo(tmp_path, "[" * 5_000)


# --- Parquet and Hugging Face ------------------------------------------------------------------------------


def test_rows_of_a_parquet_file(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow", reason="the extra `parquet` is not installed")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [
        {"question": f"q{n}", "answers": [str(n), "x"], "at": datetime.date(2026, 1, 1), "level": n}
        for n in range(1_000)
    ]
    parquet.write_table(arrow.Table.from_pylist(rows), tmp_path / "set.parquet")
    fields = {"input": "question", "references": "answers", "metadata.at": "at", "tags": "level"}
    golden = load({"path": "set.parquet", "fields": fields, "where": {"not": "0"}}, tmp_path)
    assert len(golden) == 999
    assert golden.samples[0].id == "row-2"
    assert golden.samples[-1].references == ("999", "x")
    assert golden.samples[-1].metadata == {"at": "2026-01-01"}
    plain = arrow.Table.from_pylist([{"input": "x", "reference": "y"}, {"input": "z", "reference": None}])
    parquet.write_table(plain, tmp_path / "plain.parquet")
    assert [sample.id for sample in load("plain.parquet", tmp_path).samples] == ["row-1", "row-2"]


def test_a_parquet_file_that_is_none_or_holds_bytes(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow", reason="the extra `parquet` is not installed")
    parquet = pytest.importorskip("pyarrow.parquet")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1nonsense")
    with pytest.raises(GoldenSetError, match="cannot be read as Parquet"):
        load("bad.parquet", tmp_path)
    table = arrow.Table.from_pylist([{"input": "x", "metadata": {"image": b"\x00"}}])
    parquet.write_table(table, tmp_path / "bytes.parquet")
    with pytest.raises(GoldenSetError, match="metadata: holds what JSON cannot store"):
        load("bytes.parquet", tmp_path)


def test_a_parquet_file_that_unpacks_to_too_much_is_not_unpacked(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow", reason="the extra `parquet` is not installed")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "bomb.parquet"
    rows = [{"input": "x" * 50_000 + str(n)} for n in range(100)]
    parquet.write_table(arrow.Table.from_pylist(rows), path, row_group_size=50, compression="zstd")
    assert path.stat().st_size < 100_000, "5 MB packed"

    problems = Problems()
    assert [row for row in read_parquet(path, problems, most=2_000_000) if not isinstance(row, str)] == []
    assert "unpacks to 2.4 MiB, more than 2;" in problems.kept[0].reason
    problems = Problems()
    assert len(list(read_parquet(path, problems, most=3_000_000))) == 101, "a row group at a time"
    assert problems.count == 0


def test_a_table_with_two_columns_of_one_name_is_refused(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow", reason="the extra `parquet` is not installed")
    parquet = pytest.importorskip("pyarrow.parquet")
    columns = [arrow.array([text]) for text in ("q", "one", "other")]
    table = arrow.Table.from_arrays(columns, names=["input", "reference", "reference"])
    parquet.write_table(table, tmp_path / "two.parquet")
    with pytest.raises(GoldenSetError, match="reference: is the name of two columns"):
        load("two.parquet", tmp_path)


def test_a_label_of_hugging_face_is_read_as_its_name(tmp_path: Path) -> None:
    library = pytest.importorskip("datasets", reason="the extra `hf` is not installed")
    if not hasattr(library, "Dataset"):
        pytest.skip("the extra `hf` is not installed")
    label = library.ClassLabel(names=["no", "yes"])
    text = library.Value("string")
    kinds = library.Features({"q": text, "label": label, "all": [label], "deep": {"label": label}})
    rows = [
        {"q": "a", "label": 1, "all": [0, 1], "deep": {"label": 0}},
        {"q": "b", "label": -1, "all": [], "deep": {"label": None}},
    ]
    library.Dataset.from_list(rows, features=kinds).save_to_disk(str(tmp_path / "set"))
    fields = {"input": "q", "reference": "label", "metadata.all": "all", "metadata.deep": "deep.label"}
    first, second = load({"hf": "set", "fields": fields}, tmp_path).samples
    assert (first.references, first.metadata) == (("yes",), {"all": ["no", "yes"], "deep": "no"})
    assert (second.references, second.metadata) == ((), {"all": [], "deep": None})
    choices = {"value": ["False", "True"]}
    mapped = {"doc_to_text": "q", "doc_to_target": "label", "doc_to_choice": choices}
    first = load({"hf": "set", "fields": mapped, "limit": 1}, tmp_path).samples[0]
    assert first.references == ("True",)
    with pytest.raises(ConfigError, match="no split 'dev': it is one table without splits"):
        load({"hf": "set", "split": "dev", "fields": fields}, tmp_path)


def test_a_sequence_of_objects_of_an_older_library_has_its_labels_too() -> None:
    class ClassLabel:
        names = ("no", "yes")

    class Sequence:
        feature: Any = {"label": ClassLabel()}  # noqa: RUF012 - stands for the library's

    assert hugging._labelled({"all": Sequence()}, {"all": {"label": [1, 0]}}) == {
        "all": {"label": ["yes", "no"]}
    }


def test_a_saved_data_set_of_hugging_face(tmp_path: Path) -> None:
    library = pytest.importorskip("datasets", reason="the extra `hf` is not installed")
    if not hasattr(library, "Dataset"):
        pytest.skip("the extra `hf` is not installed")
    rows = [{"question": f"q{n}", "answer": n} for n in range(50)]
    table = library.Dataset.from_list(rows)
    table.save_to_disk(str(tmp_path / "one"))
    library.DatasetDict({"train": table, "test": table.select(range(9))}).save_to_disk(str(tmp_path / "two"))
    fields = {"input": "question", "reference": "answer"}
    one = load({"hf": "one", "fields": fields}, tmp_path)
    assert (len(one), one.name, one.samples[3].references) == (50, "one", ("3",))
    two = load({"hf": "two", "split": "test", "fields": fields}, tmp_path)
    assert (len(two), two.name) == (9, "two-test")
    assert one.sha256 != two.sha256
    assert one.sha256 == load({"hf": "two", "split": "train", "fields": fields}, tmp_path).sha256
    with pytest.raises(ConfigError, match=r"has 2 splits.*") as error:
        load({"hf": "two", "fields": fields}, tmp_path)
    assert "test, train" in error.value.hint
    with pytest.raises(ConfigError, match="no split 'dev'"):
        load({"hf": "two", "split": "dev", "fields": fields}, tmp_path)
    library.Dataset.from_list(rows, split="train").save_to_disk(str(tmp_path / "named"))
    with pytest.raises(ConfigError, match="named has no split 'dev': it is the split 'train' alone"):
        load({"hf": "named", "split": "dev", "fields": fields}, tmp_path)


def test_a_data_set_that_breaks_is_told_without_its_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> Any:
        yield {"input": "fine"}
        raise ValueError("row 2 says zqxsecret")

    monkeypatch.setattr(hugging, "_table", lambda spec, folder: broken())
    with pytest.raises(ConfigError, match="a row of x cannot be read: ValueError") as error:
        load({"hf": "x"}, tmp_path)
    assert "zqx" not in str(error.value)


def test_a_set_that_the_hub_would_have_is_not_reached_offline(tmp_path: Path) -> None:
    pytest.importorskip("datasets", reason="the extra `hf` is not installed")
    code = (
        "from evalkit.sample import load\nfrom guardrails.errors import ConfigError\n"
        "try:\n    load({'hf': 'nobody/nothing-of-this-name', 'fields': {'input': 'x'}})\n"
        "except ConfigError as error:\n    print('refused', error.hint)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True,
        env={"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}, timeout=100,
    )  # fmt: skip
    assert done.stdout.startswith("refused"), done.stderr


@pytest.mark.parametrize("installed", [True, False])
def test_our_folder_of_that_name_hides_nothing(tmp_path: Path, installed: bool) -> None:
    (tmp_path / "datasets").mkdir()
    site = tmp_path / "site"
    (site / "datasets").mkdir(parents=True)
    if installed:
        (site / "datasets" / "__init__.py").write_text("load_from_disk = load_dataset = None\n")
    code = (
        "import sys\nfrom evalkit.sets.hugging import library\nfrom guardrails.errors import ConfigError\n"
        f"sys.path[:] = ['', {str(site)!r}, *(path for path in sys.path if 'site-packages' not in path)]\n"
        "try:\n    print(library().__file__)\nexcept ConfigError as error:\n    print(error.hint)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60,
        env={"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    expected = str(site / "datasets" / "__init__.py") if installed else "evalkit-guardrails[hf]"
    assert expected in done.stdout, done.stderr


def test_the_built_in_sets_are_no_package() -> None:
    assert not (builtin.folder() / "__init__.py").exists()
