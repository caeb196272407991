"""One run from plan to verdict: do what is left, keep it, sum it up, decide the gates.

from evalkit.config import Suite
from evalkit.evaluate import evaluate

outcome = await evaluate(Suite(golden="short-facts", endpoints=[{"url": "http://…/v1", "model": "m"}]))
print(outcome.endpoints[0].pass_rate, outcome.passed)
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from evalkit import gate
from evalkit.compare import Comparison, compare
from evalkit.config import Suite
from evalkit.gate import Verdict
from evalkit.plan import Plan
from evalkit.runner import Control, run
from evalkit.store import Run
from evalkit.summary import Endpoint, measure, summarise
from evalkit.trial import Trial
from evalkit.warm import warm
from guardrails.clock import SYSTEM, Clock

Status = Literal["complete", "interrupted", "stopped"]
Decided = tuple[str, Verdict, bool]
"""An endpoint's name, a gate's verdict on it, and whether that lets the run pass."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to. `rows` are those that answer the plan, in its order."""

    plan: Plan
    store: Run
    status: Status
    rows: Sequence[Trial]
    endpoints: Sequence[Endpoint]
    comparisons: Sequence[Comparison]
    gates: Sequence[Decided]

    @property
    def passed(self) -> bool:
        """Whether every gate lets it pass; only a complete run passes."""
        return self.status == "complete" and all(ok for _, _, ok in self.gates)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a JSON file: the lineage, the numbers, the verdicts; no answers."""
        endpoints = [_without_values(each) for each in self.endpoints]
        compared = [{**_plain(each), "verdict": each.verdict} for each in self.comparisons]
        decided = [
            {"endpoint": name, "gate": str(v.gate), "status": v.status, "passed": ok, "sentence": v.sentence}
            for name, v, ok in self.gates
        ]
        return {
            "info": self.store.info(),
            "passed": self.passed,
            "endpoints": endpoints,
            "comparisons": compared,
            "gates": decided,
        }


def _plain(value: Any) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(value)


def _without_values(each: Endpoint) -> dict[str, Any]:
    plain = _plain(each)
    for latency in plain["latency"].values():
        del latency["values"]
    plain["findings"] = [
        {"direction": direction, "kind": kind, "action": action, "count": count}
        for (direction, kind, action), count in each.findings.items()
    ]
    return plain


async def evaluate(
    suite: Suite | Plan,
    *,
    store: Run | None = None,
    seen: Callable[[Trial], None] = lambda trial: None,
    control: Control | None = None,
    clock: Clock = SYSTEM,
) -> Outcome:
    """Run a suite; with the `store` of an earlier run, only what that one lacks.

    Each new row goes to `seen`. `control.stop()` ends it early, as `interrupted`; cancelling after
    that drops what is in flight too, and any other cancellation is passed on. Raises `ConfigError` before the
    first call for what cannot work, and `runner.Hopeless` when an endpoint's first calls all fail for good.
    """
    plan = suite if isinstance(suite, Plan) else Plan.of(suite)
    control = control or Control()
    store = store or Run.create(plan.suite.out, plan.golden.name, clock.wall())
    with store.writing():
        done = frozenset(row.key for row in store.trials() if row.done)
        info = {**plan.lineage(), "run": store.id, "started_at": _first_start(store, clock), "ended_at": None}
        store.write_info({**info, "status": "running"})
        status: Status = "stopped"
        if named := [target.about for target in plan.targets if target.about.keys() & {"filters", "model"}]:
            await asyncio.to_thread(warm, named)
        try:
            await run(plan, store, seen=seen, control=control, clock=clock, done=done)
            status = "interrupted" if control.stopping else "complete"
        except asyncio.CancelledError:
            status = "interrupted"
            if not control.stopping:
                raise  # somebody else's cancellation: it is theirs to see
        finally:
            store.write_info({**info, "status": status, "ended_at": _now(clock)})
            for target in plan.targets:
                await target.llm.aclose()
    rows = plan.current(store.trials())
    if len(rows) == plan.size:
        status = "complete"  # asked to stop when nothing was left
    return conclude(plan, store, rows, status)


def conclude(plan: Plan, store: Run, rows: Sequence[Trial], status: Status) -> Outcome:
    """Sum up and decide. The same rows give the same outcome: the generator's seed is fixed."""
    import numpy as np

    rng = np.random.default_rng(0)
    gates = [
        _decided(target.name, each, [row for row in rows if row.endpoint == target.name], plan, rng)
        for each in plan.gates
        for target in plan.targets
    ]
    return Outcome(plan, store, status, rows, summarise(rows, rng), compare(rows, rng), gates)


def _decided(name: str, each: gate.Gate, rows: Sequence[Trial], plan: Plan, rng: Any) -> Decided:
    verdict = gate.decide(each, measure(each.metric, rows, rng))
    by_value = plan.suite.undecided == "value" and verdict.admitted is True
    return name, verdict, verdict.status == "pass" or (verdict.status == "undecided" and by_value)


def _now(clock: Clock) -> str:
    return clock.wall().isoformat(timespec="seconds")


def _first_start(store: Run, clock: Clock) -> str:
    return str(store.info().get("started_at") or _now(clock))
