"""What is kept of a run's rows while numbers are made of them: a hundred and some bytes each, and no texts.

`Columns.of` reads the rows once, as a store streams them, and keeps none of them. What belongs to a row as a
number is one record of a packed table; what a row has any number of (scores, tags, findings) are tables of
their own that name the row. A row's answer is kept as 64 bits of its hash, enough to say which answers of a
question agree.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, TypeAlias

from evalkit.trial import Failure, Trial, call_cost, usd, user_cost
from guardrails.record import EXACT, total

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Table: TypeAlias = npt.NDArray[np.void]
    Mask: TypeAlias = npt.NDArray[np.bool_]

PHASES = ("ttft", "ttfot", "tpot", "e2e", "queue")
"""Phases of a call whose milliseconds are kept; `guardrails.record` defines them."""

RECORDED, PRICED, ESTIMATED, CACHED, FAILED, MISJUDGED, SCANNED, ANSWERED = (1 << bit for bit in range(8))
"""Bits of a row's `flags`: the call left a record, its cost is known, its tokens are an estimate, its answer
is an earlier call's, it failed, a judge failed on it, its output was scanned, it brought an answer."""

UNJUDGED = -1
"""`passed` of a row that a judge failed on, and `verdict` of a score without one; else 0 or 1."""

# Name, numpy's type, struct's letter. Names and words are numbers into the columns' vocabularies.
_ROW = (
    *(("arm", "u4", "I"), ("sample", "u8", "Q"), ("id", "u4", "I"), ("content", "u8", "Q")),
    *(("passed", "i1", "b"), ("error", "u2", "H")),
    *(("flags", "u1", "B"), ("source", "u1", "B"), ("weight", "f8", "d"), ("answer", "u8", "Q")),
    *((phase, "f8", "d") for phase in PHASES),
    *(("cost", "f8", "d"), ("input_tokens", "u4", "I"), ("output_tokens", "u4", "I")),
)
_SCORE = (
    *(("row", "u4", "I"), ("scorer", "u2", "H"), ("verdict", "i1", "b")),
    *(("value", "f8", "d"), ("error", "u2", "H")),
)
_AGAIN = (("row", "u4", "I"), ("scorer", "u2", "H"), ("value", "f8", "d"))
_TAG = (("row", "u4", "I"), ("tag", "u4", "I"))
_FOUND = (("row", "u4", "I"), ("what", "u4", "I"), ("count", "u4", "I"))
_MISSED = (("row", "u4", "I"), ("what", "u4", "I"))

_NAN = float("nan")
_NO_TIMES = (_NAN,) * len(PHASES)
_MOST = 2**32 - 1


@dataclass(frozen=True, slots=True)
class Group:
    """An arm on a set. `spent` and `judging`: what this run paid for answers and for judges, in USD, exactly.
    Who plays a user is paid in `spent`.

    What has no known price is in neither: `unknown_judgings` and `unknown_users` are how many such there are.
    """

    set: str
    arm: str
    model: str
    spent: Decimal
    prices: tuple[str, ...]
    judging: Decimal = Decimal(0)
    unknown_judgings: int = 0
    unknown_users: int = 0


@dataclass(frozen=True, slots=True)
class Words:
    """What the numbers in the tables stand for. A finding is (direction, kind, action)."""

    errors: tuple[str, ...] = ("",)
    sources: tuple[str, ...] = ("",)
    scorers: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    findings: tuple[tuple[str, str, str], ...] = ()
    not_scanned: tuple[str, ...] = ()
    ids: bytes = field(default=b"", repr=False)
    ends: tuple[int, ...] | npt.NDArray[np.uint64] = field(default=(), repr=False)

    def id(self, number: int) -> str:
        """A sample's id by its number in the row."""
        start = int(self.ends[number - 1]) if number else 0
        return self.ids[start : int(self.ends[number])].decode("utf-8", "surrogatepass")


@dataclass(frozen=True, slots=True)
class Columns:
    """The rows of a run as tables of numbers. `failures` has one example of each kind of failed call.

    `rows`: `arm` numbers `groups`; `sample` and `content` are 64-bit hashes of (set, sample id) and of what
    the sample holds (0: not known); `error` numbers `words.errors`, 0 for none; times are milliseconds and
    NaN where there are none or where they are an earlier call's; `cost` is USD, NaN where unknown. `again`
    has each value of a score that is of several.
    """

    groups: tuple[Group, ...]
    words: Words
    failures: Mapping[str, Failure] = field(repr=False)
    rows: Table = field(repr=False)
    scores: Table = field(repr=False)
    again: Table = field(repr=False)
    tags: Table = field(repr=False)
    findings: Table = field(repr=False)
    not_scanned: Table = field(repr=False)

    @classmethod
    def of(cls, rows: Iterable[Trial]) -> Columns:
        """Read rows once; an iterator is enough."""
        building = _Building()
        for row in rows:
            building.add(row)
        return building.columns()

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def nbytes(self) -> int:
        """Bytes of the tables and of the ids."""
        tables = (self.rows, self.scores, self.again, self.tags, self.findings, self.not_scanned)
        return sum(table.nbytes for table in tables) + len(self.words.ids) + 8 * len(self.words.ends)

    def group(self, number: int) -> Columns:
        """The rows of one group."""
        return self.take(self.rows["arm"] == number)

    def tagged(self, tag: str) -> Columns:
        """The rows that have a tag."""
        import numpy as np

        kept = np.zeros(len(self.rows), dtype=np.bool_)
        if tag in self.words.tags:
            kept[self.tags["row"][self.tags["tag"] == self.words.tags.index(tag)]] = True
        return self.take(kept)

    def sampled(self, like: Columns) -> Columns:
        """The rows of the samples that `like` has."""
        import numpy as np

        return self.take(np.isin(self.rows["sample"], like.rows["sample"]))

    def take(self, kept: Mask) -> Columns:
        """The rows that a mask marks. All of them: these very columns."""
        import numpy as np

        if kept.all():
            return self
        number = np.cumsum(kept) - 1

        def part(table: Table) -> Table:
            chosen: Table = table[kept[table["row"]]]
            chosen["row"] = number[chosen["row"]]
            return chosen

        return replace(
            self,
            rows=self.rows[kept],
            scores=part(self.scores),
            again=part(self.again),
            tags=part(self.tags),
            findings=part(self.findings),
            not_scanned=part(self.not_scanned),
        )

    def flagged(self, bit: int) -> Mask:
        """Which rows have a flag."""
        marked: Mask = (self.rows["flags"] & bit) != 0
        return marked

    def sample_id(self, row: int) -> str:
        """A row's sample by its name."""
        return self.words.id(int(self.rows["id"][row]))


def distinct(values: npt.NDArray[Any]) -> int:
    """How many different values there are. `np.unique` would make a hash table with a node for each."""
    import numpy as np

    ordered = np.sort(values)
    return min(1, len(ordered)) + int(np.count_nonzero(ordered[1:] != ordered[:-1]))


def hash64(*parts: str) -> int:
    """64 bits of a hash of texts, never 0; the same in every process."""
    hashed = blake2b(digest_size=8)
    for part in parts:
        coded = part.encode("utf-8", "surrogatepass")
        hashed.update(b"%d:" % len(coded))
        hashed.update(coded)
    return int.from_bytes(hashed.digest(), "little") or 1


def answer_hash(row: Trial) -> int:
    """What must be equal for two answers to be one vote: text without case and spacing, and tool calls."""
    if row.answer is None:
        return 0
    calls = (part for use in row.answer.tool_calls for part in (use.name, use.arguments))
    return hash64(" ".join(row.answer.text.casefold().split()), *calls)


def content_hash(row: Trial) -> int:
    """What the sample held when it was asked; 0 in rows that do not say."""
    return hash64(row.content) if row.content else 0


# --- building ----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Table:
    """A table that grows at its end."""

    spec: tuple[tuple[str, str, str], ...]
    data: bytearray = field(default_factory=bytearray)
    pack: Callable[..., bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.pack = struct.Struct("<" + "".join(letter for _, _, letter in self.spec)).pack

    def add(self, *values: Any) -> None:
        self.data += self.pack(*values)

    def done(self) -> Table:
        import numpy as np

        return np.frombuffer(self.data, dtype=np.dtype([(name, f"<{kind}") for name, kind, _ in self.spec]))


@dataclass(slots=True)
class _Group:
    set: str
    arm: str
    spent: Decimal = Decimal(0)
    models: Counter[str] = field(default_factory=Counter)
    prices: dict[str, None] = field(default_factory=dict)
    judging: Decimal = Decimal(0)
    unknown_judgings: int = 0
    unknown_users: int = 0

    def done(self) -> Group:
        model = self.models.most_common(1)[0][0] if self.models else ""
        prices, unknown = tuple(sorted(self.prices)), (self.unknown_judgings, self.unknown_users)
        return Group(self.set, self.arm, model, self.spent, prices, self.judging, *unknown)


class _Numbers(dict[Any, int]):
    """Numbers things in the order in which they are first met."""

    def __missing__(self, key: Hashable) -> int:
        self[key] = number = len(self)
        return number


@dataclass(slots=True)
class _Building:
    rows: _Table = field(default_factory=lambda: _Table(_ROW))
    scores: _Table = field(default_factory=lambda: _Table(_SCORE))
    again: _Table = field(default_factory=lambda: _Table(_AGAIN))
    tags: _Table = field(default_factory=lambda: _Table(_TAG))
    findings: _Table = field(default_factory=lambda: _Table(_FOUND))
    missed: _Table = field(default_factory=lambda: _Table(_MISSED))
    count: int = 0
    groups: list[_Group] = field(default_factory=list)
    arms: _Numbers = field(default_factory=_Numbers)
    errors: _Numbers = field(default_factory=lambda: _Numbers({"": 0}))
    sources: _Numbers = field(default_factory=lambda: _Numbers({"": 0}))
    scorers: _Numbers = field(default_factory=_Numbers)
    tag_names: _Numbers = field(default_factory=_Numbers)
    found: _Numbers = field(default_factory=_Numbers)
    unscanned: _Numbers = field(default_factory=_Numbers)
    failures: dict[str, Failure] = field(default_factory=dict)
    ids: bytearray = field(default_factory=bytearray)
    ends: bytearray = field(default_factory=bytearray)
    last: tuple[str, str] | None = None
    sample: int = 0

    def add(self, row: Trial) -> None:
        number, self.count = self.count, self.count + 1
        group = self._group(row)
        record = row.record
        self._name(row)
        flags, cost, source, counted = 0, _NAN, 0, (0, 0)
        if record is not None:
            flags, cost = self._money(row, record, group)
            if row.error is None:
                source = self.sources[str(record["token_source"])]
            counted = (_whole(record["input_tokens"]), _whole(record["output_tokens"]))
            self._filters(number, record)
        if row.answer is not None:
            flags |= ANSWERED
        error = 0
        if row.error is not None:
            flags |= FAILED
            error = self.errors[row.error.kind]
            self.failures.setdefault(row.error.kind, row.error)
        if self._judged(number, row, group):
            flags |= MISJUDGED
        passed = row.passed
        self.rows.add(
            *(self.arms[row.set, row.arm], self.sample, len(self.ends) // 8 - 1, content_hash(row)),
            *(UNJUDGED if passed is None else passed, error),
            *(flags, source, row.weight, answer_hash(row)),
            *_times(row, record),
            *(cost, *counted),
        )
        for tag in dict.fromkeys(row.tags):
            self.tags.add(number, self.tag_names[tag])

    def _group(self, row: Trial) -> _Group:
        number = self.arms[row.set, row.arm]
        if number == len(self.groups):
            self.groups.append(_Group(row.set, row.arm))
        return self.groups[number]

    def _name(self, row: Trial) -> None:
        """A sample's rows follow each other in the plan's order, so that its id is mostly written once."""
        named = (row.set, row.sample)
        if named != self.last:
            self.last, self.sample = named, hash64(*named)
            self.ids += row.sample.encode("utf-8", "surrogatepass")
            self.ends += len(self.ids).to_bytes(8, "little")

    def _money(self, row: Trial, record: Mapping[str, Any], group: _Group) -> tuple[int, float]:
        flags = RECORDED
        group.models[str(record["model_reported"] or record["model"])] += 1
        if record.get("cached"):
            flags |= CACHED
        if "output" in record["scanned"]:
            flags |= SCANNED
        (cost, whole), (user, told) = call_cost(record), user_cost(record)
        if not flags & CACHED:  # an earlier call's cost was paid then
            group.spent = total([group.spent, cost, user])
            group.unknown_users += not told
        if version := record["price_version"]:
            group.prices[str(version)] = None
        if record["cost_usd"] is not None and "estimate" in record["token_source"]:
            flags |= ESTIMATED
        return (flags | PRICED, float(cost)) if whole else (flags, _NAN)

    def _filters(self, number: int, record: Mapping[str, Any]) -> None:
        for found in record["findings"]:
            what = self.found[found["direction"], found["kind"], found["action"]]
            self.findings.add(number, what, min(found["count"], 2**32 - 1))
        for what in record["not_scanned"]:
            self.missed.add(number, self.unscanned[what])

    def _judged(self, number: int, row: Trial, group: _Group) -> bool:
        """Keep the row's scores; whether a judge failed."""
        lost = False
        for name, score in row.scores.items():
            lost = lost or score.error is not None
            error = 0 if score.error is None else self.errors[score.error]
            verdict = UNJUDGED if score.passed is None else score.passed
            value = _NAN if score.value is None else score.value
            scorer = self.scorers[name]
            self.scores.add(number, scorer, verdict, value, error)
            for each in score.values if len(score.values) > 1 else ():
                self.again.add(number, scorer, each)
            if score.cost_usd is not None:
                group.judging = EXACT.add(group.judging, usd(score.cost_usd))
        group.unknown_judgings += row.unknown_judgings
        return lost

    def columns(self) -> Columns:
        import numpy as np

        words = Words(
            errors=tuple(self.errors),
            sources=tuple(self.sources),
            scorers=tuple(self.scorers),
            tags=tuple(self.tag_names),
            findings=tuple(self.found),
            not_scanned=tuple(self.unscanned),
            ids=bytes(self.ids),
            ends=np.frombuffer(self.ends, dtype="<u8"),
        )
        return Columns(
            groups=tuple(group.done() for group in self.groups),
            words=words,
            failures=self.failures,
            rows=self.rows.done(),
            scores=self.scores.done(),
            again=self.again.done(),
            tags=self.tags.done(),
            findings=self.findings.done(),
            not_scanned=self.missed.done(),
        )


def _times(row: Trial, record: Mapping[str, Any] | None) -> tuple[float, ...]:
    """Milliseconds by phase, of a call of this run that brought a whole answer."""
    if record is None or row.error is not None or record.get("cached"):
        return _NO_TIMES
    values = (record.get(f"{phase}_ms") for phase in PHASES)
    return tuple(_NAN if value is None else float(value) for value in values)


def _whole(value: Any) -> int:
    return min(max(int(value or 0), 0), _MOST)
