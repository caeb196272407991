"""Golden sets: what is read, and how a bad file is told: all at once, and with no text quoted."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import pickle
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.sample import GoldenSet, GoldenSetError, Sample, load, with_context
from guardrails.call import Message
from guardrails.errors import ConfigError

GOOD = b'{"id": "a", "input": "What?", "reference": "42"}\n'


def loaded(content: bytes, name: str = "set.jsonl") -> GoldenSet:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / name
        file.write_bytes(content)
        return load(file)


def refused(content: bytes, name: str = "set.jsonl") -> GoldenSetError:
    with pytest.raises(GoldenSetError) as error:
        loaded(content, name)
    return error.value


def only(content: bytes, name: str = "set.jsonl") -> tuple[int, str, str]:
    """The one problem of a file."""
    error = refused(content, name)
    assert error.count == 1, str(error)
    (problem,) = error.problems
    return problem.line, problem.field, problem.reason


# --- a sample ----------------------------------------------------------------------------------------------


def test_a_sample_becomes_a_request() -> None:
    request = Sample("a", input="What?").request(model="m", system="Be short.", temperature=0.0, max_tokens=5)
    assert [(turn.role, turn.text) for turn in request.messages] == [
        ("system", "Be short."),
        ("user", "What?"),
    ]
    assert (request.model, request.sampling.temperature, request.sampling.max_tokens) == ("m", 0.0, 5)


def test_context_goes_before_the_question() -> None:
    text = Sample("a", input="What?", context=("One.", "{question}")).request().messages[0].text
    assert text.endswith("\n\n[1] One.\n\n[2] {question}\n\nQuestion: What?")
    assert with_context((), "What?") == "What?"
    own = Sample("a", input="Q", context=("C",)).request(
        prompt=lambda passages, question: question + passages[0]
    )
    assert own.messages[0].text == "QC"


def test_in_a_conversation_the_last_user_turn_gets_the_context() -> None:
    turns = (Message.of("user", "Hi"), Message.of("assistant", "Yes?"), Message.of("user", "What?"))
    sample = Sample("a", messages=(*turns, Message.of("assistant", "So:")), context=("One.",))
    said = sample.request().messages
    assert [turn.role for turn in said] == ["user", "assistant", "user", "assistant"]
    assert said[0].text == "Hi"
    assert "[1] One." in said[2].text
    assert sample.question().prompt == "user: Hi\n\nassistant: Yes?\n\nuser: What?\n\nassistant: So:"


@pytest.mark.parametrize("metadata", [{}, {"marks": {"easy": [1]}}])
def test_what_a_judge_does_to_its_question_changes_no_sample(metadata: dict[str, Any]) -> None:
    sample = Sample("a", "What?", metadata=metadata)
    before = json.dumps(sample.plain())
    seen = sample.question().metadata
    seen["judged"] = True  # type: ignore[index] # what a judge of somebody's own may do
    seen.get("marks", {}).setdefault("easy", []).append(2)
    assert json.dumps(sample.plain()) == before


def test_a_question_is_what_a_judge_may_see() -> None:
    question = Sample("a", "What?", references=("42",), context=("One.",), metadata={"k": 1}).question()
    assert (question.prompt, question.references, question.context) == ("What?", ("42",), ("One.",))
    assert question.metadata == {"k": 1}


def test_a_sample_holds_its_own_rules_and_shows_no_text() -> None:
    with pytest.raises(ValueError, match="either"):
        Sample("a")
    with pytest.raises(ValueError, match="either"):
        Sample("a", input="x", messages=(Message.of("user", "x"),))
    with pytest.raises(ValueError, match="positive"):
        Sample("a", input="x", weight=0.0)
    assert "SECRET" not in repr(Sample("a", "SECRET", (), ("SECRET",), ("SECRET",), (), {"k": "SECRET"}))


# --- what is read ------------------------------------------------------------------------------------------

WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20).filter(
    str.strip
)
CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0\r\\"), min_size=1, max_size=20).filter(
    str.strip
)
IDS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20).filter(
    lambda text: text.isprintable() and bool(text.strip())
)
VALUES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5)
)
TURNS = st.builds(Message.of, st.sampled_from(["system", "user", "assistant"]), WORDS)


def samples_of(words: st.SearchStrategy[str], metadata: Any, *, conversations: bool) -> Any:
    lists = st.lists(words, max_size=3).map(tuple)
    tags = st.lists(words.map(str.strip), max_size=3).map(tuple)
    common: dict[str, Any] = {
        "id": IDS,
        "references": lists,
        "context": lists,
        "tags": tags,
        "metadata": metadata,
    }
    common["weight"] = st.floats(min_value=0, max_value=1e9, exclude_min=True)
    single = st.builds(Sample, input=words, **common)
    turns = st.lists(TURNS, max_size=3).map(lambda turns: (*turns, Message.of("user", "x")))
    several = st.builds(Sample, messages=turns, **common)
    return st.lists(
        single | several if conversations else single, min_size=1, max_size=5, unique_by=lambda s: s.id
    )


def fields(sample: Sample) -> dict[str, Any]:
    made: dict[str, Any] = {"id": sample.id, "weight": sample.weight, "metadata": sample.metadata}
    made |= {name: list(getattr(sample, name)) for name in ("references", "context", "tags")}
    if sample.input is not None:
        return made | {"input": sample.input}
    return made | {"messages": [{"role": turn.role, "content": turn.text} for turn in sample.messages]}


def as_csv(samples: Sequence[Sample]) -> bytes:
    keys = sorted({key for sample in samples for key in sample.metadata})
    header = ["id", "input", "references", "tags", "weight", "context", "context.2", "context.3"]
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow([*header, *(f"metadata.{key}" for key in keys)])
    for sample in samples:
        bars = [
            "|".join(text.replace("|", "\\|") for text in texts) for texts in (sample.references, sample.tags)
        ]
        passages = [*sample.context, "", "", ""][:3]
        extra = [sample.metadata.get(key, "") for key in keys]
        writer.writerow([sample.id, sample.input, *bars, repr(sample.weight), *passages, *extra])
    return out.getvalue().encode()


JSON_SAMPLES = samples_of(WORDS, st.dictionaries(st.text(max_size=5), VALUES, max_size=3), conversations=True)
CSV_SAMPLES = samples_of(
    CELLS, st.dictionaries(st.sampled_from("xyz"), CELLS, max_size=3), conversations=False
)


@given(samples=JSON_SAMPLES, ascii_only=st.booleans(), packed=st.booleans())
def test_jsonl_and_json_read_back_what_was_written(
    samples: list[Sample], ascii_only: bool, packed: bool
) -> None:
    rows = [fields(sample) for sample in samples]
    jsonl = "".join(json.dumps(row, ensure_ascii=ascii_only) + "\n" for row in rows).encode()
    array = json.dumps(rows, ensure_ascii=ascii_only, indent=1).encode()
    named = json.dumps({"name": "x", "samples": rows, "more": [1, {}]}, ensure_ascii=ascii_only).encode()
    for content, name in ((jsonl, "s.jsonl"), (array, "s.json"), (named, "s.json"), (jsonl, "s.ndjson")):
        stored = (gzip.compress(content, 1), f"{name}.gz") if packed else (content, name)
        golden = loaded(*stored)
        assert list(golden.samples) == samples
        assert golden.sha256 == hashlib.sha256(content).hexdigest()
        assert golden.name == "s"


@given(samples=CSV_SAMPLES)
def test_csv_reads_back_what_was_written(samples: list[Sample]) -> None:
    assert list(loaded(as_csv(samples), "s.csv").samples) == samples


def test_a_bom_blank_lines_and_a_missing_last_newline_are_fine() -> None:
    content = b"\xef\xbb\xbf" + GOOD + b"\r\n  \n" + GOOD.replace(b'"a"', b'"b"').strip()
    assert [sample.id for sample in loaded(content).samples] == ["a", "b"]
    assert list(loaded(b"\xef\xbb\xbfid,input\r\na,x\r\n", "s.csv").samples) == [Sample("a", "x")]
    assert loaded(b"\xef\xbb\xbf[" + GOOD + b"]", "s.json").samples[0].references == ("42",)


def test_one_text_may_stand_for_a_list_and_null_for_nothing() -> None:
    row = (
        b'{"id": "a", "input": "x", "messages": null, "weight": 2, '
        b'"references": "42", "tags": "t", "context": "c"}'
    )
    assert list(loaded(row).samples) == [Sample("a", "x", (), ("42",), ("c",), ("t",), {}, 2.0)]


def test_csv_columns() -> None:
    content = b'id,input,reference,tags,metadata.k\na,"two\nlines",b|c, t1 | t2,v\nb,x,,,\n'
    first, second = loaded(content, "s.csv").samples
    assert first == Sample("a", "two\nlines", (), ("b|c",), (), ("t1", "t2"), {"k": "v"})
    assert second == Sample("b", "x")


@pytest.mark.parametrize(
    ("cell", "texts"),
    [
        ('["x", "y|z"]', ("x", "y|z")),
        (' ["x"] ', ("x",)),
        ("[]", ("[]",)),
        ('["x", 1]', ('["x", 1]',)),
        ('["x"|"y"]', ('["x"', '"y"]')),
        ("[x]", ("[x]",)),
        ("[" * 100_000, ("[" * 100_000,)),
    ],
)
def test_a_cell_may_hold_a_json_list_of_texts(cell: str, texts: tuple[str, ...]) -> None:
    quoted = cell.replace('"', '""')
    content = f'id,input,references,tags,reference\na,x,"{quoted}",,\nb,x,,"{quoted}",\nc,x,,,"{quoted}"\n'
    one, two, three = loaded(content.encode(), "s.csv").samples
    assert one.references == texts
    assert two.tags == texts
    assert three.references == (cell,), "what has one text is one text"


def test_a_line_of_40_mb_is_read() -> None:
    text = "x" * 40_000_000
    assert loaded(f'{{"id": "a", "input": "{text}"}}'.encode()).samples[0].input == text
    before = csv.field_size_limit()
    assert loaded(f"id,input\na,{text}".encode(), "s.csv").samples[0].input == text
    assert csv.field_size_limit() == before


# --- what is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "field", "reason"),
    [
        ({"input": "x"}, "id", "is missing"),
        ({"id": 7, "input": "x"}, "id", "must be text, is a number"),
        ({"id": "a\n", "input": "x"}, "id", "must not hold control characters"),
        ({"id": "a" * 201, "input": "x"}, "id", "must not be longer than 200 characters"),
        ({"id": "a"}, "input", "is missing, and so is messages"),
        ({"id": "a", "input": " "}, "input", "must not be blank"),
        (
            {"id": "a", "input": "x", "messages": [{"role": "user", "content": "x"}]},
            "input",
            "has one of the two",
        ),
        ({"id": "a", "messages": []}, "messages", "a message of the user"),
        ({"id": "a", "messages": [{"role": "bot", "content": "x"}]}, "messages[0].role", "must be system"),
        ({"id": "a", "messages": [{"role": "user"}]}, "messages[0].content", "is missing"),
        ({"id": "a", "messages": ["x"]}, "messages[0]", "must be an object, is text"),
        ({"id": "a", "input": "x", "references": ["y", 3]}, "references[1]", "must be text, is a number"),
        ({"id": "a", "input": "x", "reference": 42}, "reference", "put it in quotes"),
        ({"id": "a", "input": "x", "reference": "", "tags": "t"}, "reference[0]", "must not be blank"),
        (
            {"id": "a", "input": "x", "reference": "y", "references": ["z"]},
            "references",
            "write one of the two",
        ),
        ({"id": "a", "input": "x", "tags": {}}, "tags", "must be a list, is an object"),
        ({"id": "a", "input": "x", "weight": 0}, "weight", "greater than 0"),
        ({"id": "a", "input": "x", "weight": 1e155}, "weight", "must be 1e+09 or less"),
        ({"id": "a", "input": "x", "weight": "1"}, "weight", "must be a number, is text"),
        ({"id": "a", "input": "x", "weight": True}, "weight", "must be a number, is true or false"),
        ({"id": "a", "input": "x", "metadata": []}, "metadata", "must be an object, is a list"),
        ({"id": "a", "input": "x", "metadata": {"k": "\ud800"}}, "metadata", "JSON cannot store"),
        ({"id": "a", "input": "\ud800"}, "input", "surrogate"),
        (
            {"id": "a", "input": "x", "reference": ["y", " "]},
            "reference[1]",
            "must not be blank: leave it out",
        ),
        ({"id": "a", "input": "x", "answer": "y"}, "answer", "go under metadata"),
        (
            {"id": "a", "input": "x", "refrence": "y"},
            "refrence",
            "is not a field of a sample – did you mean `reference`?",
        ),
        ({"id": "a", "input": "x", "Tag": "y"}, "Tag", "– did you mean `tags`?"),
        ({"id": "a", "inputs": "x"}, "inputs", "– did you mean `input`, which is missing?"),
        ({"id": "a", "mesages": []}, "mesages", "– did you mean `messages`, which is missing?"),
        ({"id": "a", "input": "x", "a\u001b[31m": 1}, "a?[31m", "go under metadata"),
        ([1], "line", "is a list; a file that is one JSON array is named .json"),
        ("x", "line", "must be an object"),
    ],
)
def test_a_bad_field_is_named_with_its_reason(row: Any, field: str, reason: str) -> None:
    line, place, why = only(GOOD.replace(b'"a"', b'"z"') + json.dumps(row).encode())
    assert (line, place) == (2, field)
    assert reason in why


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"id": "a"', "is not usable JSON: Expecting ',' delimiter (column 11)"),
        (b'{"id": "a"} {"id": "b"}', "more than one value on the line"),
        (b'{"id": "a", "id": "b", "input": "x"}', 'gives the key "id" twice'),
        (b'{"id": "a", "input": "x", "weight": NaN}', "NaN, which is not JSON"),
        (b'{"id": "a", "input": "x", "metadata": {"k": ' + b"[" * 100_000, "nested too deeply"),
        (b'{"id": "a", "input": "x", "weight": ' + b"9" * 5_000 + b"}", "too many digits"),
        (b"[", "one JSON array is named .json"),
    ],
)
def test_bad_json_is_told_with_its_column(line: bytes, reason: str) -> None:
    assert reason in only(line)[2]


def test_all_bad_lines_are_told_at_once_and_nothing_is_loaded() -> None:
    error = refused(b'{"id": "a"}\n' + GOOD + b'nonsense\n{"id": 1, "input": 2}\n' + GOOD)
    assert [problem.line for problem in error.problems] == [1, 3, 4, 4, 5]
    lines = str(error).splitlines()
    assert lines[0].endswith("set.jsonl cannot be used: 5 problems, nothing was run")
    assert lines[1].startswith("set.jsonl:1: input: is missing")
    assert lines[5] == 'set.jsonl:5: id: "a" is the id of line 2 too'


def test_the_first_fifty_are_shown_and_the_rest_counted() -> None:
    error = refused(b'{"input": "x"}\n' * 1_000)
    assert (len(error.problems), error.count) == (50, 1_000)
    assert len(str(error).splitlines()) == 52
    assert str(error).endswith("… and 950 more")


def test_the_error_is_a_config_error_that_survives_pickling() -> None:
    error = refused(b'{"id": "a"}')
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(error, ConfigError)
    assert isinstance(again, GoldenSetError)
    assert (str(again), again.problems, again.count) == (str(error), error.problems, 1)


@given(secret=st.text(st.characters(codec="utf-8"), min_size=4, max_size=10), data=st.data())
def test_no_error_quotes_a_value(secret: str, data: st.DataObject) -> None:
    marked = f"zqxjkvzqx{secret}zqx"  # longer than what a temporary folder may be called by chance
    wrong: Any = data.draw(
        st.sampled_from([[marked], {"k": marked}, [[marked]], {"role": marked, "content": marked}])
    )
    names = ["id", "input", "messages", "reference", "references", "context", "tags", "weight"]
    row = {data.draw(st.sampled_from(names)): wrong, "extra": marked, "metadata": marked}
    text = json.dumps(row, ensure_ascii=False)
    cut = data.draw(st.integers(1, len(text)))
    for content in (text, text[:cut]):
        assert "zqxjkvzqx" not in str(refused(content.encode()))


@pytest.mark.parametrize("name", ["s.jsonl", "s.json", "s.csv"])
def test_bytes_that_are_not_utf_8_are_placed(name: str) -> None:
    head = {"s.jsonl": GOOD, "s.json": b"[\n", "s.csv": b"id,input\n"}[name]
    line, place, reason = only(head + b"caf\xe9" + (b",x\n" if name == "s.csv" else b"\n"), name)
    assert (line, place) == (2, "text")
    assert f"byte 4 of the line, offset {len(head) + 3} in the file" in reason


def test_nul_bytes_and_utf_16_are_told() -> None:
    assert "NUL byte (character 9)" in only(b'{"id": "\0"}')[2]
    assert "UTF-16" in only(GOOD.decode().encode("utf-16"))[2]


@pytest.mark.parametrize(
    ("name", "content"),
    [("s.jsonl", b"\n\n"), ("s.json", b"[]"), ("s.csv", b"id,input\n"), ("s.csv", b"")],
)
def test_an_empty_set_says_what_to_do(name: str, content: bytes) -> None:
    said = str(refused(content, name))
    assert "holds no samples" in said
    assert "put one on each line" in said


@pytest.mark.parametrize(
    ("content", "line", "reason"),
    [
        (b'[\n{"id": "a", "input": "x"},\n\n{"id": "b"}]', 4, "is missing"),
        (b'[\n{"id": "a", "input": "x"},\n{"id":}]', 3, "Expecting value (column 7)"),
        (b'[\n{"id": "a", "input": "x"}\n{"id": "b"}]', 3, "expecting ','"),
        (GOOD + GOOD, 1, "is named .jsonl"),
        (b'{"name": "x"}', 1, "no list called samples"),
        (b"3", 1, "expecting an array"),
        (b"[" * 100_000, 1, "nested too deeply"),
        (b'[{"id": "a", "input": "x"}', 1, "expecting ','"),
        (b'{"samples": [{"id": "a", "input": "x"}]', 1, "expecting ','"),
    ],
)
def test_json_files_are_told_by_line(content: bytes, line: int, reason: str) -> None:
    found = only(content, "s.json")
    assert found[0] == line
    assert reason in found[2]


@pytest.mark.parametrize(
    ("content", "line", "field", "reason"),
    [
        (b"id;input\na;x\n", 1, "header", "not separated by commas"),
        (b"id,question\na,x\n", 1, "question", "the columns are id, input"),
        (b"id,input,input\na,x,y\n", 1, "input", "two columns"),
        (b"id,inputs\na,x\n", 1, "inputs", "– did you mean `input`?"),
        (b"id,input,Refrence\na,x,y\n", 1, "Refrence", "– did you mean `reference`?"),
        (b"name\na\n", 1, "id", "is missing from the header; `fields: {id: COLUMN}` says which it is"),
        (b"question,__expected\na,b\n", 1, "__expected", "read this file with `format: promptfoo`"),
        (b"id,input\na,x,y\n", 2, "row", "has 3 cells, the header has 2"),
        (b'id,input\na,"x\ny"\nb\n', 4, "row", "has 1 cells"),
        (b'id,input\na,"x\n', 2, "row", "is not CSV"),
        (b"id,input,weight\na,x,heavy\n", 2, "weight", "must be a number, is text"),
        (b"id,input,weight\na,x,inf\n", 2, "weight", "must be finite"),
        (b"id,input\n,x\n", 2, "id", "is missing"),
    ],
)
def test_csv_files_are_told_by_line(content: bytes, line: int, field: str, reason: str) -> None:
    problems = refused(content, "s.csv").problems
    assert any(
        (problem.line, problem.field) == (line, field) and reason in problem.reason for problem in problems
    ), problems


def test_a_column_without_a_name_is_named() -> None:
    said = str(refused(b"id,,input\n1,x,q\n", "s.csv"))
    assert "s.csv:1: a column without a name: is not a column of a golden set" in said


def test_a_damaged_gz_is_told() -> None:
    assert "damaged or cut off" in only(GOOD, "s.jsonl.gz")[2]
    assert "damaged or cut off" in only(gzip.compress(GOOD * 100)[:40], "s.jsonl.gz")[2]


def test_a_line_beyond_the_bound_ends_the_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    from evalkit import rows

    monkeypatch.setattr(rows, "MAX_LINE", 1_000)
    assert only(GOOD + b"x" * 1_001 + b"\n" + GOOD)[:2] == (2, "text")
    monkeypatch.setattr(rows, "MAX_JSON", 100)
    line, _, reason = only(b"[\n" + b",\n".join([GOOD] * 9) + b"]", "s.json")
    assert line == 4
    assert "write one sample a line" in reason
    monkeypatch.setattr(rows, "MAX_FILE", 2 * len(GOOD))
    packed = gzip.compress(b"\n".join(GOOD.strip().replace(b'"a"', b'"%d"' % n) for n in range(9)))
    assert only(packed, "s.jsonl.gz")[:2] == (3, "text")


def test_a_file_that_cannot_be_opened_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(GoldenSetError, match=r"built-in sets are .*short-facts"):
        load(tmp_path / "missing.jsonl")
    with pytest.raises(GoldenSetError, match="is a folder"):
        load(tmp_path)
    other = tmp_path / "set.txt"
    other.write_bytes(b"x")
    with pytest.raises(GoldenSetError, match=r"name it \.jsonl, \.json or \.csv"):
        load(other)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("suport-desk", "support-desk"),
        ("short_facts.jsonl", "short-facts"),
        ("goldn.jsonl", "golden.csv"),
        ("golden.json", "golden.csv"),
        ("exam.jsonl", "exams.jsonl.gz"),
        ("nope.jsonl", None),
        ("readme.txt", None),
        ("gone/golden.jsonl", None),
        ("x" * 300, None),
    ],
)
def test_a_file_or_a_set_of_a_similar_name_is_what_may_be_meant(
    tmp_path: Path, given: str, meant: str | None
) -> None:
    for name in ("golden.csv", "exams.jsonl.gz", "README.md"):
        (tmp_path / name).touch()
    with pytest.raises(GoldenSetError, match="there is no such file") as error:
        load(given, tmp_path)
    assert error.value.hint.partition(" – did you mean ")[2] == (f"`{meant}`?" if meant else "")


def test_a_built_in_set_loads_by_its_name() -> None:
    golden = load("short-facts")
    assert (golden.name, len(golden)) == ("short-facts", 127)
