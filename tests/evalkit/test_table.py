"""A table says what was put into it, from memory and from a file, and leaves no file behind."""

from __future__ import annotations

import gc
import math
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.table import Growing, Spool, Table

SPEC = {"small": "b", "number": "Q", "value": "d", "word": "I", "short": "H", "bits": "B"}
ROW = st.tuples(
    st.integers(-128, 127),
    st.integers(0, 2**64 - 1),
    st.floats(),
    *(st.integers(0, 2**bits - 1) for bits in (32, 16, 8)),
)
BOUNDS = st.sampled_from([0, 1, 50, math.inf])


def table(rows: list[tuple[Any, ...]], bound: float = math.inf, chunk: int = 3) -> Table:
    growing = Growing(SPEC, Spool(bound), chunk)
    for row in rows:
        growing.add(*row)
    return growing.done()


def open_files() -> int:
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir()))


@given(rows=st.lists(ROW, max_size=20), bound=BOUNDS, chunk=st.integers(1, 21))
def test_a_table_has_the_columns_of_its_rows(rows: list[tuple[Any, ...]], bound: float, chunk: int) -> None:
    made = table(rows, bound, chunk)

    assert len(made) == len(rows)
    for place, (name, kind) in enumerate(SPEC.items()):
        column = made[name]
        assert column.dtype == np.dtype(f"<{kind}")
        assert column.flags.c_contiguous
        assert np.array_equal(column, np.array([row[place] for row in rows], column.dtype), equal_nan=True)


@given(st.data(), st.lists(ROW, max_size=20), BOUNDS, st.integers(1, 21))
def test_picking_rows_is_picking_values(
    data: st.DataObject, rows: list[tuple[Any, ...]], bound: float, chunk: int
) -> None:
    def mask(length: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
        return np.array(data.draw(st.lists(st.booleans(), min_size=length, max_size=length)), dtype=bool)

    made = table(rows, bound, chunk)
    one = mask(len(made))
    other = mask(int(one.sum()))

    for name in SPEC:
        assert np.array_equal(made.where(one)[name], made[name][one], equal_nan=True)
        assert np.array_equal(made.where(one).where(other)[name], made[name][one][other], equal_nan=True)
    assert len(made.where(one).where(other)) == int(other.sum())


@given(st.data(), st.lists(ROW, max_size=20), BOUNDS, st.integers(1, 21))
def test_rows_may_be_ordered_anew_and_read_in_stretches(
    data: st.DataObject, rows: list[tuple[Any, ...]], bound: float, chunk: int
) -> None:
    made = table(rows, bound, chunk)
    order = np.array(data.draw(st.permutations(range(len(rows)))), dtype=np.int64)
    first, last = sorted(data.draw(st.tuples(*[st.integers(0, len(rows))] * 2)))
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=last - first, max_size=last - first)), bool)

    for name in SPEC:
        expected = made[name][order]
        for each in (ordered := made.ordered(order)), table([rows[n] for n in order], bound, chunk):
            stretch = each.between(first, last)
            assert np.array_equal(each[name], expected, equal_nan=True)
            assert np.array_equal(stretch[name], expected[first:last], equal_nan=True)
            assert np.array_equal(stretch.where(mask)[name], expected[first:last][mask], equal_nan=True)
    assert len(ordered) == len(rows)


def test_tables_and_texts_share_a_spool() -> None:
    spool = Spool(bound=10)
    one, other = Growing({"n": "I"}, spool, 2), Growing({"x": "d", "y": "B"}, spool, 3)
    places = []
    for number in range(7):
        one.add(number)
        other.add(number / 2, number)
        places.append(spool.add(f"text {number}".encode()))

    assert one.done()["n"].tolist() == list(range(7))
    made = other.done()
    assert (made["x"].tolist(), made["y"].tolist()) == ([n / 2 for n in range(7)], list(range(7)))
    assert [spool.read(place, 6) for place in places] == [f"text {n}".encode() for n in range(7)]
    assert spool.size == 7 * (4 + 9 + 6)


def test_a_column_is_known_by_its_name_alone() -> None:
    with pytest.raises(KeyError):
        table([])["other"]


def test_a_small_table_makes_no_file(tmp_path: Path) -> None:
    before = open_files()
    spool = Spool(bound=100, folder=str(tmp_path / "not there"))
    spool.add(b"x" * 100)

    assert open_files() == before
    assert spool.bound == 100, "no file was tried"


@pytest.mark.parametrize("bound", [0, 400])
def test_a_large_table_keeps_little_in_memory_and_leaves_no_file(tmp_path: Path, bound: int) -> None:
    before = open_files()
    spool = Spool(bound, str(tmp_path))
    places = [spool.add(bytes([number]) * 7) for number in range(200)]

    assert open_files() == before + 1
    assert not list(tmp_path.iterdir()), "the file has no name"
    assert len(spool._latest) <= bound
    assert [spool.read(place, 7)[:1] for place in places] == [bytes([number]) for number in range(200)]

    del spool

    assert open_files() == before


def test_a_file_is_closed_when_building_breaks_off() -> None:
    before = open_files()

    def build() -> None:
        growing = Growing({"n": "I"}, Spool(0), 1)
        growing.add(1)
        growing.add("not a number")

    with pytest.raises(Exception, match="integer"):
        build()

    assert open_files() == before


def test_without_a_folder_everything_stays_in_memory(tmp_path: Path) -> None:
    spool = Spool(10, str(tmp_path / "not there"))
    places = [spool.add(b"%03d" % number) for number in range(100)]

    assert [spool.read(place, 3) for place in places] == [b"%03d" % number for number in range(100)]


def test_what_a_full_disk_does_not_take_stays_in_memory() -> None:
    """A limit on a file's size fails as a full disk does: after some of it was written."""
    resource = pytest.importorskip("resource")
    signal = pytest.importorskip("signal")
    spool, limits = Spool(1_000), resource.getrlimit(resource.RLIMIT_FSIZE)
    pieces = [bytes([number]) * 300 for number in range(20)]
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, limits[1]))
    try:
        places = [spool.add(piece) for piece in pieces]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)

    assert 0 < spool._written < 2_000, "the first pieces are in the file, the last ones are not"
    assert [spool.read(place, 300) for place in places] == pieces


def test_threads_read_at_the_same_time() -> None:
    made = table([(0, number, float(number), 0, 0, 0) for number in range(500)], bound=0, chunk=16)
    wrong: list[str] = []

    def read(name: str, kind: type) -> None:
        expected = [kind(number) for number in range(500)]
        wrong.extend(name for _ in range(30) if made[name].tolist() != expected)

    threads = [threading.Thread(target=read, args=each) for each in (("number", int), ("value", float)) * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not wrong
