"""A row of a run as the values of a database's columns, and back. Nothing is lost on the way.

Text may hold what databases refuse: NUL (PostgreSQL) and halves of surrogate pairs (both). In JSON those are
escapes, and so harmless; in plain columns each becomes `␀` and four hexadecimal digits, as does `␀` itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson

from evalkit.stores.store import Run
from evalkit.trial import Failure, Trial
from judges.judge import Answer, Score

if TYPE_CHECKING:
    from sqlalchemy import Row

_HOSTILE = re.compile("[\0␀\ud800-\udfff]")
_ESCAPED = re.compile("␀([0-9a-f]{4})")


UNREADABLE = (ValueError, TypeError, LookupError, AttributeError, RecursionError)
"""What reading raises where the columns hold what nothing here has written."""


def plain(text: str) -> str:
    """Text that every database keeps as it is."""
    if text.isascii() and "\0" not in text:
        return text
    return _HOSTILE.sub(lambda found: f"␀{ord(found[0]):04x}", text)


def original(text: str) -> str:
    """What `plain` was given."""
    if text.isascii() or "␀" not in text:
        return text
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text)


def dumped(value: Any) -> str:
    """JSON. A first space marks what orjson has no word for: half a surrogate pair, a huge integer."""
    try:
        return orjson.dumps(value, default=_other).decode()
    except TypeError:
        return " " + json.dumps(value, default=_other)


def page(value: Any) -> bytes:
    """JSON for people and other tools; what JSON has no word for, such as infinity, is null."""
    try:
        options = orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS | orjson.OPT_APPEND_NEWLINE
        return orjson.dumps(value, default=str, option=options)
    except TypeError:  # as in `dumped`
        plain = json.loads(json.dumps(value, default=_other), parse_constant=lambda _: None)
        return json.dumps(plain, indent=2).encode() + b"\n"


def loaded(text: str) -> Any:
    """What `dumped` was given."""
    return json.loads(text) if text.startswith(" ") else orjson.loads(text)


def _other(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Failure):
        return {"kind": value.kind, "message": value.message, "hint": value.hint}
    return str(value)


def values(trial: Trial) -> tuple[Any, ...]:
    """The columns of `tables.GIVEN`, in their order."""
    answer, record, error, paid = trial.answer, trial.record, trial.error, trial.paid_usd
    judging = sum(score.cost_usd or 0.0 for score in trial.scores.values())
    texts = (
        dumped(trial.tags),
        None if error is None else dumped(error),
        dumped({name: score.as_dict() for name, score in trial.scores.items()}),
        None if record is None else dumped(record),
        None if answer is None else dumped(answer.as_dict()),
    )
    return (
        plain(trial.run),
        plain(trial.key),
        plain(trial.ask),
        plain(trial.content),
        plain(trial.set),
        plain(trial.sample),
        plain(trial.endpoint),
        plain(trial.prompt),
        trial.k,
        trial.place,
        plain(trial.started_at),
        trial.weight,
        trial.passed,
        trial.done,
        bool(trial.ask) and answer is not None and error is None and not trial.cached,
        None if paid is None else float(paid),
        sum(len(text) for text in texts if text is not None),
        *texts,
        judging or None,
        (float(trial.known_usd) or None) if paid is None else None,
    )


READ = (
    *("run", "key", "ask", "content", "set", "sample", "endpoint", "prompt", "k", "place", "started_at"),
    *("weight", "tags", "error", "scores", "record", "answer"),
)
"""The columns that `trial` needs, in their order."""


def trial(row: Sequence[Any]) -> Trial:
    """The row whose `READ` columns these are."""
    (run, key, ask, content, set_, sample, endpoint, prompt, k, place, started_at, weight, *rest) = row
    tags, error, scores, measured, answer = rest
    measured = record(measured)
    return Trial(
        run=original(run),
        key=original(key),
        ask=original(ask),
        content=original(content),
        set=original(set_),
        sample=original(sample),
        endpoint=original(endpoint),
        prompt=original(prompt),
        k=whole(k),
        place=whole(place),
        started_at=original(started_at),
        weight=float(weight),
        tags=tuple(loaded(tags)),
        error=None if error is None else Failure(**loaded(error)),
        scores={name: Score(**score) for name, score in loaded(scores).items()},
        record=measured,
        answer=None if answer is None else Answer.from_dict(loaded(answer), measured),
    )


def record(text: str | None) -> Mapping[str, Any] | None:
    """A call's record, if there is one."""
    return None if text is None else mapping(loaded(text))


def run_values(run: Run) -> dict[str, Any]:
    """The columns of a run, by their names."""
    return {
        "id": plain(run.id),
        "name": plain(run.name),
        "digest": plain(run.digest),
        "status": run.status,
        "started_at": _stamp(run.started_at),
        "ended_at": None if run.ended_at is None else _stamp(run.ended_at),
        "planned": run.planned,
        "info": dumped(run.info),
    }


def run(row: Row[Any], trials: int, tags: Sequence[str]) -> Run:
    """The run whose columns these are, with so many rows."""
    return Run(
        id=original(row.id),
        name=original(row.name),
        digest=original(row.digest),
        status=row.status,
        started_at=_moment(row.started_at),
        ended_at=None if row.ended_at is None else _moment(row.ended_at),
        planned=whole(row.planned),
        trials=trials,
        tags=tuple(tags),
        info=mapping(loaded(row.info)),
    )


def _stamp(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def _moment(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError("a time without its zone is none of ours")
    return at


# A file's columns hold whatever somebody put there, whatever their type says.


def whole(value: Any) -> int:
    """A whole number. Raises `TypeError` for anything else."""
    if not isinstance(value, int):
        raise TypeError("expected a whole number")
    return value


def mapping(value: Any) -> Mapping[str, Any]:
    """An object. Raises `TypeError` for anything else."""
    if not isinstance(value, Mapping):
        raise TypeError("expected an object")
    return value
