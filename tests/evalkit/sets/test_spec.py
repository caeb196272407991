"""What a suite may write under `golden`, and which samples it takes."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from evalkit.sample import GoldenSetError, load
from evalkit.sets.choose import draw, shares
from evalkit.sets.pages import Samples
from evalkit.sets.spec import GoldenSpec, Where
from guardrails.errors import ConfigError


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def many(n: int = 100) -> list[dict[str, Any]]:
    tags = ["easy"] * 70 + ["hard"] * 25 + ["odd"] * 5
    return [
        {"id": f"q{i}", "input": "x", "tags": [tags[i % 100]], "metadata": {"k": i % 2}} for i in range(n)
    ]


def ids(folder: Path, **spec: Any) -> list[str]:
    return [sample.id for sample in load({"path": "set.jsonl", **spec}, folder).samples]


def test_a_text_a_path_and_a_mapping_are_specs() -> None:
    assert (
        GoldenSpec.of("set.jsonl") == GoldenSpec.of(Path("set.jsonl")) == GoldenSpec.of({"path": "set.jsonl"})
    )
    assert load("short-facts").digest == load({"builtin": "short-facts"}).digest
    assert load({"builtin": "short-facts"}).version


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({}, "one of path, hf and builtin: none is given"),
        ({"path": "a", "hf": "b"}, "path and hf are given"),
        ({"path": "a", "fromat": "csv"}, "fromat: is not a known field – did you mean `format`?"),
        (
            {"path": "a", "format": "xml"},
            "format: is one of jsonl, json, csv, parquet, openai-evals, promptfoo",
        ),
        ({"path": "a", "format": "promptfo"}, "openai-evals, promptfoo – did you mean `promptfoo`?"),
        ({"path": "a", "format": 7}, "format: input should be 'jsonl', "),
        ({"path": "a", "split": "test"}, "split goes with hf only"),
        ({"hf": "a", "format": "csv"}, "format goes with path only"),
        ({"path": "a", "limit": 0}, "limit: "),
        ({"path": "a", "sample": {"n": 3, "by": "level"}}, "metadata.level"),
        ({"path": "a", "where": {"some": ["x"]}}, "where.some: is not a known field"),
        (7, "input should be a mapping with fields such as path, hf, builtin"),
    ],
)
def test_a_wrong_spec_says_what_is_allowed(spec: Any, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        GoldenSpec.of(spec)
    assert said in str(error.value)


def test_editors_may_be_told_of_every_form() -> None:
    schema = Draft202012Validator(GoldenSpec.model_json_schema(by_alias=True))
    for good in ("set.jsonl", {"path": "a", "where": "x"}, {"hf": "a", "where": {"not": ["x"]}}):
        GoldenSpec.of(good)
        assert schema.is_valid(good), good
    for bad in ({"path": "a", "fromat": "csv"}, {"path": 3}, 7, {"path": "a", "limit": 0}):
        assert not schema.is_valid(bad), bad


def test_tags_are_filtered_by_any_all_and_not(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "input": "x", "tags": ["one", "two"]},
        {"id": "b", "input": "x", "tags": ["two"]},
        {"id": "c", "input": "x"},
    ]
    write(tmp_path / "set.jsonl", rows)
    assert ids(tmp_path, where="two") == ["a", "b"]
    assert ids(tmp_path, where={"any": ["one", "own"]}, tags="own") == ["a", "b", "c"]
    assert ids(tmp_path, where={"all": ["one", "two"]}) == ["a"]
    assert ids(tmp_path, where={"not": "one"}) == ["b", "c"]
    assert ids(tmp_path, where={"any": "two", "not": "one"}, tags=["own"]) == ["b"]
    assert ids(tmp_path, where="own", tags=["own"]) == ["a", "b", "c"]
    with pytest.raises(GoldenSetError, match="no sample with such tags"):
        ids(tmp_path, where={"all": "one", "not": "two"})
    assert Where().takes(())


TAGGED = [
    {"id": "a", "input": "x", "tags": ["easy", "draft"], "metadata": {"level": 1}},
    {"id": "b", "input": "x", "tags": ["hard"]},
]


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (
            {"where": ["hrad"]},
            "`where` means the tag 'hrad' that no sample has – there are draft, easy, hard",
        ),
        ({"where": {"any": "Hard"}}, "– did you mean `hard`?"),
        ({"where": {"all": ["easy", "nope"]}}, "there are draft, easy, hard"),
        ({"sample": {"n": 1, "by": "metadata.lvl"}}, "`sample.by` means metadata.lvl that no sample has"),
        (
            {"sample": {"n": 1, "by": "metadata.lvl"}},
            "there are metadata.level – did you mean `metadata.level`?",
        ),
        (
            {"where": {"all": ["x", "y"]}, "sample": {"n": 1, "by": "metadata.z"}},
            "3 mistakes, and nothing was run",
        ),
    ],
)
def test_names_that_no_sample_has_are_mistakes(tmp_path: Path, spec: Any, said: str) -> None:
    write(tmp_path / "set.jsonl", TAGGED)
    with pytest.raises(ConfigError) as error:
        ids(tmp_path, **spec)
    assert said in str(error.value)


def test_a_set_without_tags_says_so(tmp_path: Path) -> None:
    write(tmp_path / "set.jsonl", [{"id": "a", "input": "x"}])
    with pytest.raises(GoldenSetError, match="the samples have none"):
        ids(tmp_path, where="hard")


def test_names_are_looked_for_in_all_files_of_a_pattern(tmp_path: Path) -> None:
    for number, row in enumerate(TAGGED):
        write(tmp_path / f"{number}.jsonl", [row])
    spec = {"path": "*.jsonl", "where": ["hard", "draft"], "sample": {"n": 2, "by": "metadata.level"}}
    assert len(load(spec, tmp_path)) == 2


def test_tags_to_leave_out_may_be_none_of_the_set_but_not_nearly_one(tmp_path: Path) -> None:
    write(tmp_path / "set.jsonl", TAGGED)
    for left_out in ("draft", "archived", []):
        assert load({"path": "set.jsonl", "where": {"not": left_out}}, tmp_path).doubts == ()
    (doubt,) = load({"path": "set.jsonl", "where": {"not": "drfat"}}, tmp_path).doubts
    assert doubt == "`where.not` means the tag 'drfat' that no sample has – did you mean `draft`?"


def test_sets_may_share_tags_to_take_of_which_each_has_some(tmp_path: Path) -> None:
    write(tmp_path / "set.jsonl", TAGGED)
    golden = load({"path": "set.jsonl", "where": {"any": ["hard", "esy", "smoke"]}}, tmp_path)
    assert [sample.id for sample in golden.samples] == ["b"]
    assert golden.doubts == (
        "`where.any` means the tag 'esy' that no sample has – did you mean `easy`?",
        "`where.any` means the tag 'smoke' that no sample has",
    )


def test_tags_of_the_suite_are_added_once(tmp_path: Path) -> None:
    write(tmp_path / "set.jsonl", [{"id": "a", "input": "x", "tags": "one"}, {"id": "b", "input": "x"}])
    golden = load({"path": "set.jsonl", "tags": ["one", "new"]}, tmp_path)
    assert [sample.tags for sample in golden.samples] == [("one", "new"), ("one", "new")]


def test_a_draw_keeps_the_proportions(tmp_path: Path) -> None:
    write(tmp_path / "set.jsonl", many())
    golden = load({"path": "set.jsonl", "sample": {"n": 20, "seed": 3, "by": "tag"}}, tmp_path)
    assert Counter(sample.tags[0] for sample in golden.samples) == {"easy": 14, "hard": 5, "odd": 1}
    by_field = load({"path": "set.jsonl", "sample": {"n": 10, "by": "metadata.k"}}, tmp_path)
    assert Counter(sample.metadata["k"] for sample in by_field.samples) == {0: 5, 1: 5}


def test_a_draw_depends_on_the_seed_and_the_ids_alone(tmp_path: Path) -> None:
    write(tmp_path / "set.jsonl", many())
    first = ids(tmp_path, sample={"n": 20, "seed": 3})
    assert first == ids(tmp_path, sample={"n": 20, "seed": 3})
    assert first != ids(tmp_path, sample={"n": 20, "seed": 4})
    assert first == sorted(first, key=lambda each: int(each[1:])), "the order is the file's"
    write(tmp_path / "set.jsonl", many()[::-1])
    assert sorted(first) == sorted(ids(tmp_path, sample={"n": 20, "seed": 3}))
    assert set(ids(tmp_path, sample={"n": 10, "seed": 3})) < set(first)
    # pinned: it must not depend on Python's version or its hash seed
    assert ids(tmp_path, sample={"n": 3, "seed": 3}) == ["q55", "q31", "q8"]
    huge = [ids(tmp_path, sample={"n": 20, "seed": seed}) for seed in (10**80, 10**80 + 1, -(10**80))]
    assert len({tuple(each) for each in huge}) == 3, "no digit of a seed is left out, however many it has"
    with pytest.raises(GoldenSetError, match="asks for 101 samples, and 100 are there"):
        ids(tmp_path, sample={"n": 101})


def test_the_limit_comes_last(tmp_path: Path) -> None:
    write(tmp_path / "set.jsonl", many())
    drawn = ids(tmp_path, sample={"n": 20}, where={"not": "odd"})
    assert ids(tmp_path, sample={"n": 20}, where={"not": "odd"}, limit=5) == drawn[:5]
    assert len(ids(tmp_path, limit=1_000)) == 100


@given(st.dictionaries(st.text(max_size=3), st.integers(1, 50), min_size=1, max_size=8), st.data())
def test_shares_add_up_and_are_within_one_of_their_quota(sizes: dict[str, int], data: st.DataObject) -> None:
    total = sum(sizes.values())
    n = data.draw(st.integers(1, total))
    given_ = shares(sizes, n)
    assert sum(given_.values()) == n
    for name, size in sizes.items():
        assert given_[name] <= size
        assert abs(given_[name] - n * size / total) < 1


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 2**64 - 1)), min_size=1, max_size=40), st.data()
)
def test_a_draw_is_a_part_of_the_rows(rows: list[tuple[str, int]], data: st.DataObject) -> None:
    n = data.draw(st.integers(1, len(rows)))
    drawn = draw(range(len(rows)), [name for name, _ in rows], [rank for _, rank in rows], n)
    assert len(drawn) == n == len(set(drawn))
    assert drawn == sorted(drawn)


def test_the_digest_is_that_of_what_is_in_use(tmp_path: Path) -> None:
    write(tmp_path / "set.jsonl", many())
    plain = load({"path": "set.jsonl"}, tmp_path)
    fewer = load({"path": "set.jsonl", "limit": 5, "name": "five", "version": "3"}, tmp_path)
    assert plain.sha256 == fewer.sha256
    assert plain.digest != fewer.digest
    assert fewer.digest == load({"path": str(tmp_path / "set.jsonl"), "limit": 5}).digest
    assert fewer.about == {
        "name": "five",
        "path": str(tmp_path / "set.jsonl"),
        "sha256": plain.sha256,
        "digest": fewer.digest,
        "version": "3",
        "rows": 100,
        "samples": 5,
        "use": {"limit": 5},
    }
    json.dumps(fewer.about)


def test_a_pattern_names_several_files(tmp_path: Path) -> None:
    write(tmp_path / "b.jsonl", [{"id": "b", "input": "x"}])
    write(tmp_path / "a.jsonl", [{"id": "a", "input": "x"}, {"id": "c", "input": "x"}])
    (tmp_path / "c.csv").write_text("id,input\nd,x\n", encoding="utf-8")
    golden = load("*.*", tmp_path)
    assert [sample.id for sample in golden.samples] == ["a", "c", "b", "d"]
    assert isinstance(golden.samples, Samples)
    places = [golden.samples.place(number) for number in range(4)]
    assert places == ["a.jsonl:1", "a.jsonl:2", "b.jsonl:1", "c.csv:2"]
    assert golden.name == tmp_path.name
    (tmp_path / "c.csv").write_text("id,input\na,x\n", encoding="utf-8")
    (tmp_path / "d.jsonl").write_text('{"input": "x"}', encoding="utf-8")
    with pytest.raises(GoldenSetError) as error:
        load("*.*", tmp_path)
    assert str(error.value).splitlines()[1:] == [
        'c.csv:2: id: "a" is the id of a.jsonl:1 too',
        "d.jsonl:1: id: is missing",
    ]
    with pytest.raises(GoldenSetError, match="matches no file"):
        load("x*.jsonl", tmp_path)
