"""What crosses: plain values as they were, everything else as what cannot lie; filters and rules as bytes."""

from __future__ import annotations

import collections
import json
import math
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judges.sandbox.inside import seccomp
from judges.sandbox.inside.packets import DOUBTS, KILLED, Order, Report
from judges.sandbox.inside.wire import Uncrossable, decode, encode

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=2**127, max_value=2**200),
    st.floats(allow_nan=False),
    st.text(st.characters(), max_size=20),
    st.binary(max_size=20),
    st.complex_numbers(allow_nan=False),
    st.decimals(allow_nan=False),
    st.fractions(),
    st.dates(),
    st.datetimes(),
    st.timedeltas(),
)
hashable = st.recursive(
    scalars, lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3), max_leaves=4
)
values = st.recursive(
    hashable,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner)
        | st.dictionaries(hashable, inner, max_size=3)
        | st.sets(hashable, max_size=3)
        | st.builds(collections.deque, st.lists(inner, max_size=3))
    ),
    max_leaves=6,
)


def crossed(value: Any) -> Any:
    return decode(json.loads(json.dumps(encode(value), allow_nan=False)))


@given(values)
def test_a_plain_value_arrives_as_it_was(value: Any) -> None:
    arrived = crossed(value)
    assert arrived == value
    assert type(arrived) is type(value)


@pytest.mark.parametrize("value", [math.inf, -math.inf])
def test_infinities_arrive(value: float) -> None:
    assert crossed(value) == value


def test_nan_and_negative_zero_arrive() -> None:
    assert math.isnan(crossed(math.nan))
    assert math.copysign(1, crossed(-0.0)) == -1


class Liar(int):
    def __eq__(self, other: object) -> bool:
        return True

    def __int__(self) -> int:
        return 42

    def __repr__(self) -> str:
        return "42"

    __hash__ = int.__hash__


class LyingList(list[int]):
    def __iter__(self) -> Any:
        return iter([1, 2, 3])

    def __len__(self) -> int:
        return 3

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


def test_a_subclass_arrives_as_what_it_holds_not_as_what_it_says() -> None:
    assert crossed(Liar(7)) == 7
    assert crossed(Liar(7)) != 42
    assert type(crossed(Liar(7))) is int
    assert crossed(LyingList([9])) == [9]


def test_an_object_does_not_arrive_at_all() -> None:
    with pytest.raises(Uncrossable):
        encode(object())


def test_what_is_too_deep_or_holds_itself_does_not_arrive() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(Uncrossable, match="holds itself"):
        encode(endless)
    deep: Any = 0
    for _ in range(150):
        deep = [deep]
    with pytest.raises(Uncrossable, match="deep"):
        decode(deep)


texts = st.text(max_size=5)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "n",
                    "f",
                    "t",
                    "d",
                    "s",
                    "z",
                    "b",
                    "B",
                    "c",
                    "r",
                    "q",
                    "D",
                    "Q",
                    "T",
                    "F",
                    "H",
                    "o",
                    "k",
                    "y",
                    "x",
                ]
            ),
            inner,
            max_size=2,
        )
    ),
    max_leaves=10,
)
PLAIN_TYPES = (
    *(type(None), bool, int, float, str, list, tuple, dict, set, frozenset, bytes, bytearray, complex, range),
    collections.deque,
)


@given(json_values)
def test_whatever_is_sent_becomes_a_plain_value_or_is_refused(message: Any) -> None:
    try:
        value = decode(message)
    except Uncrossable:
        return
    assert type(value) in PLAIN_TYPES or type(value).__module__ in ("decimal", "fractions", "datetime")


# --- the filter, run by a machine of four instructions -----------------------------------------------------

ALLOW, KILL, EPERM, ENOSYS = 0x7FFF0000, 0x80000000, 0x00050001, 0x00050026


def judged(code: bytes, number: int, args: tuple[int, ...] = (), arch: int = 0xC000003E) -> int:
    """What classic BPF returns on a `struct seccomp_data`."""
    data = struct.pack("<IIQ6Q", number, arch, 0, *(args + (0,) * 6)[:6])
    program = [struct.unpack_from("<HBBI", code, at) for at in range(0, len(code), 8)]
    at, held = 0, 0
    while True:
        what, true, false, constant = program[at]
        at += 1
        if what == 0x20:
            held = struct.unpack_from("<I", data, constant)[0]
        elif what == 0x06:
            return int(constant)
        else:
            holds = {
                0x15: held == constant,
                0x35: held >= constant,
                0x25: held > constant,
                0x45: held & constant,
            }
            at += true if holds[what] else false


def verdicts(number: int, *args: int, **options: Any) -> tuple[int, int]:
    both = (
        seccomp.long_list(processes=False, machine="x86_64"),
        seccomp.short_list(processes=False, machine="x86_64"),
    )
    return judged(both[0], number, args, **options), judged(both[1], number, args, **options)


@pytest.mark.parametrize("number", [0, 1, 9, 257, 228, 231, 46])
def test_ordinary_calls_pass_both_lists(number: int) -> None:
    assert verdicts(number) == (ALLOW, ALLOW)


@pytest.mark.parametrize(
    "number", [41, 42, 59, 90, 101, 112, 155, 165, 272, 308, 310, 319, 321, 425, 438, 999]
)
def test_what_is_in_no_list_is_refused_for_all(number: int) -> None:
    assert verdicts(number)[0] == EPERM


@pytest.mark.parametrize("number", [57, 61, 62, 434])
def test_what_a_zygote_needs_is_refused_to_its_forks(number: int) -> None:
    assert verdicts(number) == (ALLOW, EPERM)


def test_arguments_decide_where_a_call_has_two_faces() -> None:
    assert verdicts(56, 0x3D0F00) == (ALLOW, ALLOW)  # a thread
    assert verdicts(56, 17) == (ALLOW, EPERM)  # a process
    assert verdicts(56, 0x10000000 | 17)[0] == EPERM  # a user namespace
    assert verdicts(435)[0] == ENOSYS  # clone3, whose flags cannot be seen
    assert verdicts(302, 0, 7, 0) == (ALLOW, ALLOW)  # one's own limits, read
    assert verdicts(302, 0, 7, 1) == (ALLOW, EPERM)  # … and set
    assert verdicts(302, 1 << 32, 7, 0)[0] == EPERM  # another's, hidden in the upper half
    assert verdicts(157, 15) == (ALLOW, ALLOW)  # a thread's name
    assert verdicts(157, 22) == (ALLOW, EPERM)  # another filter
    assert verdicts(157, 4)[0] == EPERM  # to be dumpable
    assert verdicts(72, 0, 8)[0] == EPERM  # F_SETOWN
    assert verdicts(72, 0, 2) == (ALLOW, ALLOW)  # F_SETFD
    assert verdicts(16, 0, 0x5412)[0] == EPERM  # TIOCSTI, typing for others


def test_other_calling_conventions_end_the_process() -> None:
    assert verdicts(0, arch=0x40000003) == (KILL, KILL)
    assert verdicts(0x40000000) == (KILL, KILL)


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("processes", [False, True])
def test_programs_are_short_enough_for_the_kernel_on_both_machines(machine: str, processes: bool) -> None:
    for made in (seccomp.long_list, seccomp.short_list):
        code = made(processes=processes, machine=machine)
        assert 8 <= len(code) <= 4096 * 8
        assert code[-8:][:2] == struct.pack("<H", 0x06)
    with pytest.raises(seccomp.Unsupported, match="riscv64"):
        seccomp.long_list(processes=processes, machine="riscv64")


sizes = st.integers(0, 2**64 - 1)
numbers = st.integers(0, 2**32 - 1)
seconds = st.floats(0, 1e6)


@given(st.builds(Order, st.booleans(), numbers, seconds, sizes, sizes, sizes, sizes, sizes))
def test_an_order_arrives_as_it_was(order: Order) -> None:
    assert Order.of(order.packed()) == order


@given(
    st.builds(
        Report,
        numbers,
        st.sampled_from(KILLED),
        st.integers(0, 2**16 - 1),
        seconds,
        st.sampled_from(DOUBTS),
        st.none() | st.binary(max_size=50),
    )
)
def test_a_report_arrives_as_it_was_and_no_verdict_is_not_an_empty_one(report: Report) -> None:
    assert Report.of(report.packed()) == report
