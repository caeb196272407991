"""What is kept of a run's rows while numbers are made of them: a hundred and some bytes each, and no texts.

`Columns.of` reads the rows once, as a store streams them, and keeps none of them. What belongs to a row as a
number is one row of a table (`evalkit.table`: large ones wait in a file, not in memory); what a row has any
number of (scores, tags, findings) are tables of their own that name the row. A row's answer is kept as 64
bits of its hash, enough to say which answers of a question agree.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, TypeAlias

from evalkit.content import whole
from evalkit.table import Growing, Spool, Table
from evalkit.trial import Failure, Trial, call_cost, usd, user_cost
from guardrails.record import EXACT, total

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Whole: TypeAlias = npt.NDArray[np.integer[Any]]
    Mask: TypeAlias = npt.NDArray[np.bool_]

PHASES = ("ttft", "ttfot", "tpot", "e2e", "queue")
"""Phases of a call whose milliseconds are kept; `guardrails.record` defines them."""

RECORDED, PRICED, ESTIMATED, CACHED, FAILED, MISJUDGED, SCANNED, ANSWERED = (1 << bit for bit in range(8))
"""Bits of a row's `flags`: the call left a record, its cost is known, its tokens are an estimate, its answer
is an earlier call's, it failed, a judge failed on it, its output was scanned, it brought an answer."""

UNJUDGED = -1
"""`passed` of a row that a judge failed on, and `verdict` of a score without one; else 0 or 1."""

# By name struct's letter. Names and words are numbers into the columns' vocabularies; `id` is where in the
# spool the sample's own is, and `id_bytes` how long.
_ROW = (
    {"arm": "I", "sample": "Q", "id": "Q", "id_bytes": "I", "content": "Q", "passed": "b", "error": "H"}
    | {"flags": "B", "source": "B", "weight": "d", "answer": "Q"}
    | dict.fromkeys(PHASES, "d")
    | {"cost": "d", "input_tokens": "I", "output_tokens": "I"}
)
_PARTS = {
    "scores": {"row": "I", "scorer": "H", "verdict": "b", "value": "d", "error": "H"},
    "again": {"row": "I", "scorer": "H", "value": "d"},
    "tags": {"row": "I", "tag": "I"},
    "findings": {"row": "I", "what": "I", "count": "I"},
    "not_scanned": {"row": "I", "what": "I"},
}

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


@dataclass(frozen=True, slots=True)
class Columns:
    """The rows of a run as tables of numbers. `failures` has one example of each kind of failed call,
    and `lost` of each kind of error of a judge: `JUDGE: what it said`.

    `rows`: `arm` numbers `groups`; `sample` and `content` are 64-bit hashes of (set, sample id) and of what
    the sample holds (0: not known); `error` numbers `words.errors`, 0 for none; times are milliseconds and
    NaN where there are none or where they are an earlier call's; `cost` is USD, NaN where unknown. `parts`
    are the tables that name the row, for all rows there ever were: read them by the properties. `starts` is
    where each group begins in them, by name, and in the rows, and ends with where the last one ends. Columns
    of a large run hold an open file, and cannot be pickled.
    """

    groups: tuple[Group, ...]
    words: Words
    failures: Mapping[str, Failure] = field(repr=False)
    lost: Mapping[str, str] = field(repr=False)
    rows: Table = field(repr=False)
    parts: Mapping[str, Table] = field(repr=False)
    starts: Mapping[str, Whole] = field(repr=False)

    @classmethod
    def of(cls, rows: Iterable[Trial], spool: Spool | None = None) -> Columns:
        """Read rows once; an iterator is enough. What is kept of them goes into the spool, group after group:
        within a group the rows have their order."""
        building = _Building(Spool() if spool is None else spool)
        for row in rows:
            building.add(row)
        return building.columns()

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def nbytes(self) -> int:
        """Bytes of all tables and ids, those of rows that are not taken as well."""
        return self.rows.spool.size

    @property
    def scores(self) -> Table:
        """Scores by `row` and `scorer`, each with its `verdict`, `value` and `error`."""
        return self._part("scores")

    @property
    def again(self) -> Table:
        """Each value of a score that is of several, by `row` and `scorer`."""
        return self._part("again")

    @property
    def tags(self) -> Table:
        """Tags by `row`."""
        return self._part("tags")

    @property
    def findings(self) -> Table:
        """What filters found by `row`, and how often."""
        return self._part("findings")

    @property
    def not_scanned(self) -> Table:
        """What filters did not scan, by `row`."""
        return self._part("not_scanned")

    def _part(self, name: str) -> Table:
        """What these rows have of a table that names the row; `row` is the row's number here.

        It is made anew each time, of the numbers of the rows alone: only those need to be kept.
        """
        import numpy as np

        part, picked = self.parts[name], self.rows.picked
        if picked is None:
            return part
        number = np.full(self.rows.count, _MOST, dtype=np.uint32)
        number[picked] = np.arange(len(picked), dtype=np.uint32)
        row = number[part["row"]]
        kept = row != _MOST
        return replace(part.where(kept), given={"row": row[kept]})

    def group(self, number: int) -> Columns:
        """The rows of one group."""
        if self.rows.picked is not None or len(self.groups) == 1:
            return self.take(self.rows["arm"] == number)

        def of_group(name: str, table: Table) -> Table:
            return table.between(*map(int, self.starts[name][number : number + 2]))

        parts = {name: of_group(name, part) for name, part in self.parts.items()}
        return replace(self, rows=of_group("rows", self.rows), parts=parts)

    def tagged(self, tag: str) -> Columns:
        """The rows that have a tag."""
        import numpy as np

        kept = np.zeros(len(self), dtype=np.bool_)
        if tag in self.words.tags:
            tags = self.tags
            kept[tags["row"][tags["tag"] == self.words.tags.index(tag)]] = True
        return self.take(kept)

    def sampled(self, like: Columns) -> Columns:
        """The rows of the samples that `like` has."""
        import numpy as np

        return self.take(np.isin(self.rows["sample"], like.rows["sample"]))

    def take(self, kept: Mask) -> Columns:
        """The rows that a mask marks. All of them: these very columns."""
        return self if kept.all() else replace(self, rows=self.rows.where(kept))

    def flagged(self, bit: int) -> Mask:
        """Which rows have a flag."""
        marked: Mask = (self.rows["flags"] & bit) != 0
        return marked

    def sample_ids(self, rows: Sequence[int] | Whole) -> list[str]:
        """The samples of some rows by their names."""
        places, sizes = self.rows["id"][rows].tolist(), self.rows["id_bytes"][rows].tolist()
        read = self.rows.spool.read
        return [
            read(place, size).decode("utf-8", "surrogatepass")
            for place, size in zip(places, sizes, strict=True)
        ]


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
    return hash64(whole(row.content)) if row.content else 0


# --- building ----------------------------------------------------------------------------------------------


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
    spool: Spool
    rows: Growing = field(init=False)
    parts: Mapping[str, Growing] = field(init=False)
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
    lost: dict[str, str] = field(default_factory=dict)
    last: tuple[str, str] | None = None
    named: tuple[int, int, int] = (0, 0, 0)

    def __post_init__(self) -> None:
        self.rows = Growing(_ROW, self.spool)
        self.parts = {name: Growing(spec, self.spool) for name, spec in _PARTS.items()}

    def add(self, row: Trial) -> None:
        number, self.count = self.count, self.count + 1
        group = self._group(row)
        record = row.record
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
            *(self.arms[row.set, row.arm], *self._name(row), content_hash(row)),
            *(UNJUDGED if passed is None else passed, error),
            *(flags, source, row.weight, answer_hash(row)),
            *_times(row, record),
            *(cost, *counted),
        )
        for tag in dict.fromkeys(row.tags):
            self.parts["tags"].add(number, self.tag_names[tag])

    def _group(self, row: Trial) -> _Group:
        number = self.arms[row.set, row.arm]
        if number == len(self.groups):
            self.groups.append(_Group(row.set, row.arm))
        return self.groups[number]

    def _name(self, row: Trial) -> tuple[int, int, int]:
        """The sample's hash, and where its id is: mostly its rows follow each other and share that."""
        sample = (row.set, row.sample)
        if sample != self.last:
            written = row.sample.encode("utf-8", "surrogatepass")
            self.last, self.named = sample, (hash64(*sample), self.spool.add(written), len(written))
        return self.named

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
            self.parts["findings"].add(number, what, min(found["count"], 2**32 - 1))
        for what in record["not_scanned"]:
            self.parts["not_scanned"].add(number, self.unscanned[what])

    def _judged(self, number: int, row: Trial, group: _Group) -> bool:
        """Keep the row's scores; whether a judge failed."""
        lost = False
        for name, score in row.scores.items():
            error = 0
            if score.error is not None:
                lost, error = True, self.errors[score.error]
                self.lost.setdefault(score.error, f"{name}: {score.reason}")
            verdict = UNJUDGED if score.passed is None else score.passed
            value = _NAN if score.value is None else score.value
            scorer = self.scorers[name]
            self.parts["scores"].add(number, scorer, verdict, value, error)
            for each in score.values if len(score.values) > 1 else ():
                self.parts["again"].add(number, scorer, each)
            if score.cost_usd is not None:
                group.judging = EXACT.add(group.judging, usd(score.cost_usd))
        group.unknown_judgings += row.unknown_judgings
        return lost

    def columns(self) -> Columns:
        words = Words(
            errors=tuple(self.errors),
            sources=tuple(self.sources),
            scorers=tuple(self.scorers),
            tags=tuple(self.tag_names),
            findings=tuple(self.found),
            not_scanned=tuple(self.unscanned),
        )
        groups = tuple(group.done() for group in self.groups)
        rows, parts = self.rows.done(), {name: part.done() for name, part in self.parts.items()}
        if len(groups) < 2:
            return Columns(groups, words, self.failures, self.lost, rows, parts, {})
        return Columns(groups, words, self.failures, self.lost, *_by_group(rows, parts))


def _by_group(
    rows: Table, parts: Mapping[str, Table]
) -> tuple[Table, Mapping[str, Table], Mapping[str, Whole]]:
    """Rows and parts group after group, and where each begins. Runs ask in a shuffled order: of many groups,
    each would else be read from all over the tables."""
    import numpy as np

    arm = rows["arm"]
    order = np.argsort(arm, kind="stable")
    begin = np.r_[0, np.cumsum(np.bincount(arm))]
    number = np.empty(len(order), dtype=np.uint32)
    number[order] = np.arange(len(order), dtype=np.uint32)
    moved, starts = {}, {"rows": begin}
    for name, part in parts.items():
        row = number[part["row"]]
        within = np.argsort(row, kind="stable")
        moved[name] = replace(part, given={"row": row}).ordered(within)
        starts[name] = np.searchsorted(row[within], begin)
    return rows.ordered(order), moved, starts


def _times(row: Trial, record: Mapping[str, Any] | None) -> tuple[float, ...]:
    """Milliseconds by phase, of a call of this run that brought a whole answer."""
    if record is None or row.error is not None or row.blocked or record.get("cached"):
        return _NO_TIMES
    values = (record.get(f"{phase}_ms") for phase in PHASES)
    return tuple(_NAN if value is None else float(value) for value in values)


def _whole(value: Any) -> int:
    return min(max(int(value or 0), 0), _MOST)
