"""Sets that mean harm, or were made by a broken program: told or read, never a crash or a full memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.sample import GoldenSetError, load
from guardrails.errors import ConfigError

ROOT = Path(__file__).resolve().parents[3]
MiB = 2**20

MEASURE = """
import resource, sys
from evalkit.sample import load
load(sys.argv[1]).samples[0]          # imports are paid
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
golden = load(sys.argv[2])
n = sum(1 for sample in golden.samples if sample.input)
assert n == len(golden)
print(n, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def grown(small: Path, large: Path) -> tuple[int, float]:
    """How many samples `large` has, and by how many MiB a process grows that loads and reads them all."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(small), str(large)],
        cwd=ROOT, capture_output=True, text=True, timeout=110,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    n, kib = done.stdout.split()
    return int(n), int(kib) / 1024


def test_a_large_file_is_streamed(tmp_path: Path) -> None:
    line = json.dumps({"id": "q%06d", "input": "x" * 20_000})
    small, large = tmp_path / "small.jsonl", tmp_path / "large.jsonl"
    small.write_text(line.replace("%06d", "0"), encoding="utf-8")
    with large.open("w", encoding="utf-8") as out:
        for number in range(5_000):
            out.write(line.replace("%06d", f"{number:06d}") + "\n")
    assert large.stat().st_size > 95 * MiB
    n, mib = grown(small, large)
    assert n == 5_000
    assert mib < 8


def test_a_field_of_50_mb_is_read_and_does_not_stay(tmp_path: Path) -> None:
    small, large = tmp_path / "small.jsonl", tmp_path / "large.jsonl"
    small.write_text('{"id": "a", "input": "x"}\n', encoding="utf-8")
    large.write_text(
        "".join(json.dumps({"id": f"q{n}", "input": "x" * 50_000_000}) + "\n" for n in range(2)), "utf-8"
    )
    n, mib = grown(small, large)
    assert n == 2
    assert mib < 6 * 50


def test_ten_thousand_tags(tmp_path: Path) -> None:
    tags = [f"t{n}" for n in range(10_000)]
    rows = [{"id": "all", "input": "x", "tags": tags}]
    rows += [{"id": tag, "input": "x", "tags": [tag]} for tag in tags]
    (tmp_path / "s.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    golden = load({"path": "s.jsonl", "where": "t77", "sample": {"n": 2, "by": "tag"}}, tmp_path)
    assert [sample.id for sample in golden.samples] == ["all", "t77"]
    assert len(load({"path": "s.jsonl", "sample": {"n": 500, "by": "tag"}}, tmp_path)) == 500


def test_mixed_encodings_are_told_line_by_line(tmp_path: Path) -> None:
    good = '{"id": "%d", "input": "größer"}\n'
    lines = [
        (good % 1).encode(),
        (good % 2).encode("latin-1"),
        (good % 3).encode("utf-16-le"),
        (good % 4).encode(),
        b'{"id": "5", "input": "a\0b"}\n',
        b'{"id": "6", "input": "\xed\xa0\x80"}\n',
    ]
    (tmp_path / "s.jsonl").write_bytes(b"".join(lines))
    with pytest.raises(GoldenSetError) as error:
        load("s.jsonl", tmp_path)
    said = {problem.line: problem.reason for problem in error.value.problems}
    assert "not UTF-8" in said[2]
    assert 1 not in said
    assert any("NUL byte" in reason for reason in said.values())
    assert "größer" not in str(error.value)


@pytest.mark.parametrize("mark", ["\x1b[31m", "\n", "\x00", "\u202e", "\x7f", "\u2028"])
def test_ids_that_would_play_tricks_on_a_terminal(tmp_path: Path, mark: str) -> None:
    (tmp_path / "s.jsonl").write_text(json.dumps({"id": f"a{mark}b", "input": "x"}), encoding="utf-8")
    with pytest.raises(GoldenSetError, match="id: must not hold control characters") as error:
        load("s.jsonl", tmp_path)
    assert mark not in str(error.value).replace("\n", "", 2)


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 200_000,
        b'{"id": "a", "input": "x", "metadata": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}",
    ],
    ids=["open", "closed"],
)
def test_deep_nesting(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "s.jsonl").write_bytes(content)
    with pytest.raises(GoldenSetError, match="nested too deeply"):
        load("s.jsonl", tmp_path)


def nested(field: str, levels: int) -> str:
    """A row whose `field` is an object of so many levels: of objects outside, of lists inside."""
    lists = levels // 2
    value = '{"a":' * (levels - lists) + "[" * lists + "]" * lists + "}" * (levels - lists)
    return '{"id": "a", "input": "x", ' + field.replace("VALUE", value) + "}"


@pytest.mark.parametrize("levels", [101, 300, 500, 900])
@pytest.mark.parametrize(
    ("field", "place"),
    [
        ('"metadata": VALUE', "metadata"),
        ('"tools": [{"name": "t", "parameters": VALUE}]', r"tools\[0\].parameters"),
    ],
)
def test_what_json_can_read_and_nobody_can_copy_is_told(
    tmp_path: Path, field: str, place: str, levels: int
) -> None:
    (tmp_path / "s.jsonl").write_text(nested('"tags": []', 0) + "\n" + nested(field, levels), "utf-8")
    with pytest.raises(GoldenSetError, match=rf"s.jsonl:2: {place}: is nested more than 100 levels deep"):
        load("s.jsonl", tmp_path)


def test_what_is_wide_is_not_deep(tmp_path: Path) -> None:
    (tmp_path / "s.jsonl").write_text(nested('"metadata": VALUE', 100), encoding="utf-8")
    assert load("s.jsonl", tmp_path).samples[0].question().metadata
    wide = json.dumps({"id": "a", "input": "x", "metadata": {"all": [[{}]] * 5_000, "said": "[{" * 900}})
    (tmp_path / "s.jsonl").write_text(wide, encoding="utf-8")
    assert len(load("s.jsonl", tmp_path).samples[0].question().metadata["all"]) == 5_000


SUFFIXES = ["jsonl", "json", "csv", "jsonl.gz", "csv.gz", "yaml", "parquet"]
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
NAMES = st.sampled_from(
    [
        *("id", "input", "messages", "role", "content", "references", "tags", "metadata", "weight", "turns"),
        *(
            "user",
            "tools",
            "attachments",
            "tests",
            "vars",
            "assert",
            "type",
            "value",
            "defaultTest",
            "prompts",
        ),
        *("ideal", "name", "function", "path", "url", "goal", "tool_calls", "threshold", "samples"),
    ]
)
ROWS = st.recursive(
    SCALARS | st.sampled_from(["user", "equals", "not-contains", "{{ input }}", "{% for", "a.png", "tool"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=5),
    max_leaves=25,
)


def loads_or_tells(folder: Path, spec: object) -> None:
    try:
        golden = load(spec, folder)  # type: ignore[arg-type]
    except ConfigError:
        return
    for sample in golden.samples:
        assert sample.request().messages
        json.dumps(sample.plain())
        sample.question()


@given(content=st.binary(max_size=200), suffix=st.sampled_from(SUFFIXES))
def test_any_bytes_are_read_or_told(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, suffix: str
) -> None:
    folder = tmp_path_factory.mktemp("set")
    (folder / f"s.{suffix}").write_bytes(content)
    loads_or_tells(folder, f"s.{suffix}")


@pytest.mark.parametrize("default", [True, False])
@pytest.mark.parametrize("test", [{"assert": True}, {"vars": [1]}, {"metadata": "x"}])
def test_fields_of_promptfoo_that_are_of_another_kind_are_told(
    tmp_path: Path, test: dict[str, object], default: bool
) -> None:
    whole = {"vars": {"question": "Why?"}, "assert": [{"type": "contains", "value": "x"}]}
    tests, common = ([whole], test) if default else ([{**whole, **test}], {})
    (tmp_path / "s.json").write_text(json.dumps({"tests": tests, "defaultTest": common}))
    with pytest.raises(GoldenSetError, match=f"{next(iter(test))}.* must be "):
        load({"path": "s.json", "format": "promptfoo"}, tmp_path)


@given(rows=st.lists(ROWS | TREES, max_size=4), data=st.data())
def test_any_rows_are_read_or_told(
    tmp_path_factory: pytest.TempPathFactory, rows: list[object], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("set")
    spec = {
        "path": "s.jsonl",
        "format": data.draw(st.sampled_from(["jsonl", "json", "openai-evals", "promptfoo"])),
        "fields": data.draw(st.just({}) | st.dictionaries(NAMES, ROWS, max_size=3)),
        "tags": data.draw(st.just([]) | st.just(["x"])),
    }
    lines = [json.dumps(row) for row in rows]
    content = "\n".join(lines) if spec["format"] in ("jsonl", "openai-evals") else f"[{','.join(lines)}]"
    (folder / "s.jsonl").write_text(content, encoding="utf-8")
    loads_or_tells(folder, spec)


@pytest.mark.parametrize("blank", ["\u00a0", "\f", "\u2003\u00a0"])
def test_blanks_behind_a_row_are_none_of_it(tmp_path: Path, blank: str) -> None:
    (tmp_path / "s.jsonl").write_text('{"id": "a", "input": "q"}' + blank + "\n", encoding="utf-8")
    (sample,) = load("s.jsonl", tmp_path).samples
    assert sample.input == "q"


@pytest.mark.parametrize("digits", ["9" * 5_000, "4111111111111111"])
def test_a_choice_that_is_not_there_is_not_quoted(tmp_path: Path, digits: str) -> None:
    row = {"q": "?", "choices": ["a", "b"], "answer": digits}
    (tmp_path / "s.jsonl").write_text(json.dumps(row), encoding="utf-8")
    fields = {"doc_to_text": "{{q}}", "doc_to_choice": "choices", "doc_to_target": "answer"}
    spec = {"path": "s.jsonl", "fields": fields}
    with pytest.raises(GoldenSetError, match="not there: the row has 2") as told:
        load(spec, tmp_path)
    assert digits[:16] not in str(told.value)


def test_a_name_that_is_no_text_is_no_example(tmp_path: Path) -> None:
    turns = [{"role": "system", "name": ["x"], "content": "c"}, {"role": "user", "content": "q"}]
    (tmp_path / "s.jsonl").write_text(json.dumps({"input": turns, "ideal": "x"}), encoding="utf-8")
    loads_or_tells(tmp_path, {"path": "s.jsonl", "format": "openai-evals"})


@pytest.mark.parametrize("name", ["/dev/zero", "/dev/stdin", "/proc/self/mem"])
def test_what_is_no_file_is_not_read(name: str) -> None:
    with pytest.raises(GoldenSetError):
        load({"path": name, "format": "jsonl"})


def test_a_fifo_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "s.jsonl")
    with pytest.raises(GoldenSetError, match="is no regular file"):
        load("s.jsonl", tmp_path)
