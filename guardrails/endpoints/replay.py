"""Answers that were recorded once, played again: tests and demos without a model, and re-scored runs.

`Tape` is the layer that records, `Replay` the endpoint that plays. A tape holds prompts only as fingerprints,
but *answers as they were*: put the layer innermost and the file where such text may lie, or put it outside
the filters to keep only what they let through.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from decimal import Decimal, InvalidOperation
from itertools import count
from pathlib import Path
from typing import Any

from guardrails.call import Call, Delta, Event, Finish, Request, Reset, ToolHead, Usage
from guardrails.clock import Clock
from guardrails.endpoints.opening import Batches, Timeouts, open_events
from guardrails.errors import ConfigError, Refused
from guardrails.handler import Handler, Opening, Stream

Recording = tuple[tuple[float, Event], ...]


def fingerprint(request: Request) -> str:
    """A request's identity: sha256 over all that shapes the answer. Whether it is streamed does not count."""
    import orjson

    plain = {
        spec.name: _plain(getattr(request, spec.name)) for spec in fields(request) if spec.name != "stream"
    }
    del plain["form"]
    return hashlib.sha256(orjson.dumps(plain, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        parts = {spec.name: _plain(getattr(value, spec.name)) for spec in fields(value) if spec.compare}
        return {"": type(value).__name__, **parts}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


@dataclass(frozen=True, slots=True)
class Replay:
    """A `Handler` that answers from recordings: the n-th call with a fingerprint gets its n-th recording.

    After the last one it starts over. `timed` keeps the recorded pace on the call's clock; otherwise answers
    come at once. A request that was not recorded is `Refused` (kind `not_recorded`).
    """

    recordings: Mapping[str, tuple[Recording, ...]] = field(repr=False)
    name: str = "replay"
    model: str = ""
    timed: bool = False
    timeouts: Timeouts = Timeouts()
    _turns: dict[str, count[int]] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def load(cls, path: str | Path, *, name: str = "replay", model: str = "", timed: bool = False) -> Replay:
        """Read a tape. Raises `ConfigError` with the line of what cannot be read."""
        import orjson

        recordings: dict[str, tuple[Recording, ...]] = {}
        try:
            with Path(path).open("rb") as file:
                for number, line in enumerate(file, 1):
                    if not line.strip():
                        continue
                    try:
                        row = orjson.loads(line)
                        recording = tuple((float(at), _read(event)) for at, event in row["events"])
                        key = str(row["key"])
                    except (ValueError, KeyError, TypeError, AttributeError, InvalidOperation):
                        raise ConfigError(f"{path}:{number}: not a line of a tape") from None
                    recordings[key] = (*recordings.get(key, ()), recording)
        except OSError as error:
            raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
        return cls(recordings, name, model, timed)

    def __call__(self, call: Call) -> Opening:
        """Open the stream for `call`."""
        return open_events(
            call,
            endpoint=self.name,
            model=call.request.model or self.model,
            source=lambda _: self._batches(call.request, call.clock),
            timeouts=self.timeouts,
        )

    async def _batches(self, request: Request, clock: Clock) -> Batches:
        key = fingerprint(request)
        known = self.recordings.get(key)
        if known is None:
            raise Refused(
                "no answer to this request was recorded",
                kind="not_recorded",
                hint="record it with guardrails.endpoints.replay.Tape",
                endpoint=self.name,
            )
        started = clock.now()
        for at, event in known[next(self._turns.setdefault(key, count())) % len(known)]:
            wait = started + at - clock.now()
            if self.timed and wait > 0:
                await clock.sleep(wait)
            yield [event]

    async def aclose(self) -> None:
        """Nothing is held open."""


class Tape:
    """A layer that appends every *complete* answer to a JSONL file that `Replay.load` reads."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._lock = threading.Lock()

    @asynccontextmanager
    async def __call__(self, call: Call, inner: Handler, /) -> AsyncGenerator[Stream]:
        """Open the inner stream and write down what passes."""
        started = call.clock.now()
        seen: list[tuple[float, Event]] = []
        async with inner(call) as stream:
            yield _noted(stream, seen, call.clock, started)
        if any(isinstance(event, Finish) for _, event in seen):
            self._write(fingerprint(call.request), seen)

    def _write(self, key: str, seen: list[tuple[float, Event]]) -> None:
        import orjson

        events = [(round(at, 6), _write(event)) for at, event in seen if isinstance(event, Delta | Finish)]
        line = orjson.dumps({"key": key, "events": events}) + b"\n"
        with self._lock:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                file.write(line)


async def _noted(
    stream: Stream, seen: list[tuple[float, Event]], clock: Clock, started: float
) -> AsyncGenerator[Event]:
    async for event in stream:
        if isinstance(event, Reset):
            seen.clear()  # what came before is void: the answer begins here
        seen.append((clock.now() - started, event))
        yield event


def _write(event: Delta | Finish) -> dict[str, Any]:
    if isinstance(event, Delta):
        tool = None if event.tool is None else [event.tool.id, event.tool.name]
        return {"text": event.text, "channel": event.channel, "choice": event.choice, "tool": tool}
    usage = None if event.usage is None else asdict(event.usage)
    if usage is not None and usage["cost"] is not None:
        usage["cost"] = str(usage["cost"])
    return {"finish": event.reason, "usage": usage, "choice": event.choice}


def _read(row: Mapping[str, Any]) -> Event:
    if "text" in row:
        tool = None if row["tool"] is None else ToolHead(*row["tool"])
        return Delta(str(row["text"]), row["channel"], row["choice"], tool=tool)
    usage = row["usage"]
    if usage is not None:
        cost = usage.pop("cost")
        usage = Usage(**usage, cost=None if cost is None else Decimal(cost))
    return Finish(row["finish"], usage, row["choice"])
