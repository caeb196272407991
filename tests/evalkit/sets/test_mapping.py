"""Foreign rows become samples: by columns, paths, templates and lm-eval's words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evalkit.sample import GoldenSet, GoldenSetError, Sample, load
from evalkit.sets.spec import GoldenSpec
from guardrails.errors import ConfigError


def mapped(tmp_path: Path, row: Any, fields: dict[str, Any]) -> Sample:
    return golden(tmp_path, [row], fields).samples[0]


def golden(tmp_path: Path, rows: list[Any], fields: dict[str, Any]) -> GoldenSet:
    (tmp_path / "set.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return load({"path": "set.jsonl", "fields": fields}, tmp_path)


def refused(tmp_path: Path, row: Any, fields: dict[str, Any]) -> tuple[str, str]:
    with pytest.raises(GoldenSetError) as error:
        mapped(tmp_path, row, fields)
    (problem,) = error.value.problems
    return problem.field, problem.reason


def test_columns_paths_templates_and_constants(tmp_path: Path) -> None:
    row = {
        "q": "Where?",
        "answers": {"text": ["Here", "There"], "start": [3]},
        "level": 2,
        "passages": ["One.", "Two."],
        "a.b": "dotted",
    }
    sample = mapped(
        tmp_path,
        row,
        {
            "id": "{{ _file }}/{{ _row }}",
            "input": "{{ q }} Say a place.",
            "references": "answers.text",
            "context": ["passages", "answers.text.0"],
            "tags": {"value": ["squad"]},
            "metadata.level": "level",
            "metadata.dotted": "a.b",
        },
    )
    assert sample == Sample(
        "set.jsonl/1",
        "Where? Say a place.",
        references=("Here", "There"),
        context=("One.", "Two.", "Here"),
        tags=("squad",),
        metadata={"level": 2, "dotted": "dotted"},
    )


def test_numbers_become_texts_where_texts_are_wanted(tmp_path: Path) -> None:
    sample = mapped(tmp_path, {"q": 7, "a": [1, 2.5, True]}, {"input": "q", "references": "a"})
    assert (sample.input, sample.references) == ("7", ("1", "2.5", "true"))


def test_a_row_has_its_own_id_or_its_number(tmp_path: Path) -> None:
    rows = [{"q": "x", "id": 5}, {"q": "x"}]
    assert [s.id for s in golden(tmp_path, rows, {"input": "q"}).samples] == ["5", "row-2"]


def test_the_doc_maps_of_lm_eval(tmp_path: Path) -> None:
    row = {"question": "2 + 2?", "choices": ["3", "4"], "answer": 1}
    fields = {
        "doc_to_text": "Question: {{question}}\nAnswer:",
        "doc_to_target": "answer",
        "doc_to_choice": "choices",
    }
    sample = mapped(tmp_path, row, fields)
    assert (sample.input, sample.references) == ("Question: 2 + 2?\nAnswer:", ("4",))
    assert sample.metadata == {"choices": ["3", "4"]}
    del fields["doc_to_choice"]
    assert mapped(tmp_path, row, fields).references == ("1",)
    fields["doc_to_choice"] = "choices"
    assert refused(tmp_path, {**row, "answer": 2}, fields) == (
        "reference",
        "picks choice 2, and the row has 2",
    )
    assert refused(tmp_path, {**row, "choices": "ab"}, fields)[0] == "doc_to_choice"


ARC = {
    "question": "Which?",
    "choices": {"text": ["it's", "2"], "label": ["A", "B"]},
    "answerKey": "B",
    "options": ["2", "1"],
    "answer": "1",
    "right": True,
    "aliases": ["x", "y's"],
}


@pytest.mark.parametrize(
    ("target", "choice", "references", "choices"),
    [
        ("{{choices.label.index(answerKey)}}", "{{choices.text}}", ("2",), ["it's", "2"]),
        ("{{choices.label.index(answerKey)}}", "choices.text", ("2",), ["it's", "2"]),
        (0, ["A", "B", "C", "D"], ("A",), ["A", "B", "C", "D"]),
        ("{{['A', 'B'].index(answerKey)}}", ["answer", "question"], ("question",), ["answer", "question"]),
        ("answer", "options", ("1",), ["2", "1"]),
        ("{{answer}}", "options", ("1",), ["2", "1"]),
        ("{{answer}}", "{{[question, answerKey]}}", ("B",), ["Which?", "B"]),
        ("right", {"no": "No.", "yes": "Yes."}, ("Yes.",), ["No.", "Yes."]),
        ("{{[0, 1]}}", {"value": ["a", "b"]}, ("a", "b"), ["a", "b"]),
        ("{{aliases}}", None, ("x", "y's"), None),
        ("aliases", None, ("x", "y's"), None),
        ("[{{answer}} ]: {{answer}}", None, ("[1 ]: 1",), None),
        ("[{{question}}]", None, ("[Which?]",), None),
    ],
)
def test_lm_evals_words_mean_what_they_mean_there(
    tmp_path: Path, target: Any, choice: Any, references: tuple[str, ...], choices: Any
) -> None:
    fields = {"doc_to_text": "question", "doc_to_target": target}
    sample = mapped(tmp_path, ARC, fields if choice is None else {**fields, "doc_to_choice": choice})
    assert (sample.references, sample.metadata.get("choices")) == (references, choices)


@pytest.mark.filterwarnings("error")
def test_a_row_that_python_would_warn_of_is_not_quoted(tmp_path: Path) -> None:
    fields = {"doc_to_text": "question", "doc_to_target": "['{{ text }}']"}
    assert mapped(tmp_path, {**ARC, "text": "\\d+"}, fields).references == ("\\d+",)


def test_a_choice_that_is_not_there_is_told(tmp_path: Path) -> None:
    fields = {"doc_to_text": "question", "doc_to_target": "n", "doc_to_choice": ["a"]}
    said = "picks a choice that is not there: the row has 1"
    assert mapped(tmp_path, {**ARC, "n": -1}, fields).references == ()
    for rule in ("n", "{{ n }}"):
        unlabelled = {**fields, "doc_to_target": rule}
        assert mapped(tmp_path, {**ARC, "n": "-1"}, unlabelled).references == ()
        picked = mapped(tmp_path, {**ARC, "n": "-1"}, {**unlabelled, "doc_to_choice": ["-1", "1"]})
        assert picked.references == ("-1",)
    for number in (-2, "9" * 5_000):
        assert refused(tmp_path, {**ARC, "n": number}, fields) == ("reference", said)
    fields["doc_to_target"] = "answer"
    assert refused(tmp_path, ARC, {**fields, "doc_to_choice": "{{question}}"})[0] == "doc_to_choice"
    deep = {**fields, "doc_to_choice": "[" * 5_000 + "{{ question }}" + "]" * 5_000}
    assert refused(tmp_path, ARC, deep)[0] == "doc_to_choice"


def test_what_a_row_lacks_is_told_by_column(tmp_path: Path) -> None:
    column = ("q", "is not in the row (or an empty cell), and `fields` takes input from it")
    assert refused(tmp_path, {"x": 1}, {"input": "q"}) == column
    assert refused(tmp_path, {"a": {"b": ["zqx"]}}, {"input": "a.b.1"})[0] == "a.b.1"
    place, reason = refused(tmp_path, {"x": 1}, {"input": "{{ q }}"})
    assert (place, reason) == ("input", "the template asks for q, which is not there")
    assert refused(tmp_path, [1], {"input": "q"}) == ("line", "must be an object")
    assert refused(tmp_path, {"q": {"zqx": 1}}, {"input": "q"}) == ("input", "must be text, is an object")
    assert refused(tmp_path, {"q": "", "a": "x"}, {"input": "q", "reference": "a"})[0] == "input"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"question": "q"}, "question is not a field of a sample"),
        ({"input": "q", "metadata.": "x"}, "is not a field"),
        ({"reference": "a"}, "say where input"),
        ({"input": "q", "doc_to_text": "q"}, "input is given twice"),
        ({"input": 3}, "input is a column"),
        ({"input": []}, "input is a column"),
        ({"input": "q", "doc_to_choice": ["{{ a }}", "b"]}, "doc_to_choice as a list is the choices"),
        ({"input": "q", "doc_to_choice": [["a"]]}, "doc_to_choice as a list is the choices"),
        ({"input": "q", "doc_to_target": True}, "doc_to_target is a column"),
        ({"input": "{{ ''.__class__ }}"}, "attribute '__class__'"),
        ({"input": "{{ q"}, "not valid"),
    ],
)
def test_a_wrong_mapping_is_told_before_any_file_is_read(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as error:
        GoldenSpec.of({"path": "nowhere.jsonl", "fields": fields})
    assert said in str(error.value)
    assert "fields" in str(error.value)


def test_any_columns_of_a_csv_file_can_be_mapped(tmp_path: Path) -> None:
    (tmp_path / "set.csv").write_text("Frage,Antwort,\nWo?,Hier,\nWer?,Du,x\n", encoding="utf-8")
    golden = load({"path": "set.csv", "fields": {"input": "Frage", "reference": "Antwort"}}, tmp_path)
    assert [(s.id, s.input, s.references) for s in golden.samples] == [
        ("row-2", "Wo?", ("Hier",)),
        ("row-3", "Wer?", ("Du",)),
    ]
