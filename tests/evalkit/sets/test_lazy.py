"""Samples that lie in their file: read one by one, flat in memory, and never other than what was checked."""

from __future__ import annotations

import gc
import gzip
import json
import pickle
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.sample import GoldenSet, GoldenSetError, load
from evalkit.sets.pages import Samples


def write(path: Path, n: int, *, start: int = 0) -> Path:
    with path.open("w", encoding="utf-8") as out:
        for number in range(start, start + n):
            row = {"id": f"q{number}", "input": f"What is {number} + 1 – é?", "reference": str(number + 1)}
            out.write(json.dumps(row, ensure_ascii=False) + "\n")
    return path


def test_samples_are_a_sequence(tmp_path: Path) -> None:
    samples = load(write(tmp_path / "s.jsonl", 20)).samples
    assert isinstance(samples, Samples)
    assert len(samples) == 20
    assert samples[0].id == "q0"
    assert samples[-1].id == "q19"
    assert samples[7] == samples[7]
    assert [sample.id for sample in samples[3:9:2]] == ["q3", "q5", "q7"]
    assert samples[3:9][2].id == "q5"
    assert next(sample.id for sample in reversed(samples)) == "q19"
    assert samples[5] in samples
    assert repr(samples) == "<20 samples>"
    assert samples.place(4) == "s.jsonl:5"
    with pytest.raises(IndexError):
        samples[20]


@given(
    gaps=st.lists(st.sampled_from(["", "\n", "  \n", "\r\n", "\n\n"]), min_size=1, max_size=8),
    ending=st.sampled_from(["", "\n", "\r\n"]),
    bom=st.booleans(),
)
def test_every_row_is_found_again_wherever_it_lies(
    tmp_path_factory: pytest.TempPathFactory, gaps: list[str], ending: str, bom: bool
) -> None:
    file = tmp_path_factory.mktemp("set") / "s.jsonl"
    rows = [f'{gap} {{"id": "é{n}", "input": "größer\\u00e9 {n}"}} ' for n, gap in enumerate(gaps)]
    file.write_bytes((b"\xef\xbb\xbf" if bom else b"") + ("\n".join(rows) + ending).encode())
    golden = load(file)
    assert [sample.id for sample in golden.samples] == [f"é{n}" for n in range(len(gaps))]
    assert [sample.input for sample in golden.samples] == [f"größeré {n}" for n in range(len(gaps))]


def test_packed_and_mapped_rows_are_found_again_too(tmp_path: Path) -> None:
    plain = load(write(tmp_path / "s.jsonl", 50))
    (tmp_path / "s.jsonl.gz").write_bytes(gzip.compress((tmp_path / "s.jsonl").read_bytes()))
    packed = load(tmp_path / "s.jsonl.gz")
    assert list(packed.samples) == list(plain.samples)
    assert packed.sha256 == plain.sha256
    fields = {"id": "id", "input": "input", "reference": "reference"}
    mapped = load({"path": "s.jsonl", "fields": fields}, tmp_path)
    assert list(mapped.samples) == list(plain.samples)
    assert mapped.digest != plain.digest


def test_a_set_is_not_sent_to_another_process_but_a_sample_is(tmp_path: Path) -> None:
    golden = load(write(tmp_path / "s.jsonl", 5))
    with pytest.raises(TypeError, match="send its spec"):
        pickle.dumps(golden)
    assert pickle.loads(pickle.dumps(golden.samples[2])) == golden.samples[2]


def test_many_threads_may_read_at_once(tmp_path: Path) -> None:
    samples = load(write(tmp_path / "s.jsonl", 500)).samples
    with ThreadPoolExecutor(8) as threads:
        ids = list(threads.map(lambda number: samples[number % 500].id, range(4_000)))
    assert ids == [f"q{number % 500}" for number in range(4_000)]


def test_a_file_that_changes_is_not_read_on(tmp_path: Path) -> None:
    file = write(tmp_path / "s.jsonl", 5_000)
    samples = load(file).samples
    first = list(islice(samples, 20))
    with file.open("a") as out:
        out.write('{"id": "late", "input": "x"}\n')
    assert list(islice(samples, 20)) == first, "the first ones were kept as they were checked"
    with pytest.raises(GoldenSetError, match="was changed after it was checked"):
        samples[4_000]


def test_what_is_kept_in_memory_is_what_the_file_says(tmp_path: Path) -> None:
    samples = load(write(tmp_path / "s.jsonl", 5_000)).samples
    index = samples._store.index
    assert 0 < len(index.first) < len(samples)
    kept, index.first = list(index.first), []
    assert kept == list(islice(samples, len(kept)))


def test_a_file_that_is_replaced_or_deleted_stays_as_it_was(tmp_path: Path) -> None:
    file = write(tmp_path / "s.jsonl", 20)
    samples = load(file).samples
    write(tmp_path / "new.jsonl", 20, start=100).replace(file)
    assert samples[3].id == "q3"
    file.unlink()
    assert samples[4].id == "q4"


def test_the_file_is_closed_when_nobody_holds_it(tmp_path: Path) -> None:
    def opened() -> int:
        gc.collect()
        return len(list(Path("/proc/self/fd").iterdir()))

    if not Path("/proc/self/fd").exists():
        pytest.skip("there is no /proc to count open files in")
    file = write(tmp_path / "s.jsonl", 5)
    (tmp_path / "t.csv").write_text("id,input\na,x\n", encoding="utf-8")
    load(file)
    before = opened()
    sets: list[GoldenSet] = [load(file), load(tmp_path / "t.csv")]
    assert opened() == before + 2
    half = sets[0].samples[:2]
    sets.clear()
    assert opened() == before + 1
    assert half[1].id == "q1"
    del half
    assert opened() == before
    for _ in range(3):
        with pytest.raises(GoldenSetError):
            load({"path": str(tmp_path / "t.csv"), "sample": {"n": 9}})
    assert opened() == before


def test_memory_grows_by_bytes_a_row(tmp_path: Path) -> None:
    def held(n: int) -> tuple[int, int]:
        file = write(tmp_path / f"{n}.jsonl", n)
        gc.collect()
        tracemalloc.start()
        golden = load(file)
        assert sum(1 for _ in golden.samples) == n
        gc.collect()
        now, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return now, peak

    held(10)
    (small, small_peak), (large, large_peak) = held(5_000), held(15_000)  # both have more than is kept
    assert large - small < 10_000 * 40
    assert large_peak - small_peak < 10_000 * 80


def test_ids_are_told_twice_however_many_rows_lie_between(tmp_path: Path) -> None:
    file = write(tmp_path / "s.jsonl", 300)
    with file.open("a") as out:
        out.write('{"id": "q7", "input": "x"}\n\n{"id": "q299", "input": "x"}\n{"id": "q7", "input": "y"}\n')
    with pytest.raises(GoldenSetError) as error:
        load(file)
    assert [(p.line, p.reason) for p in error.value.problems] == [
        (301, '"q7" is the id of line 8 too'),
        (303, '"q299" is the id of line 300 too'),
        (304, '"q7" is the id of line 8 too'),
    ]
