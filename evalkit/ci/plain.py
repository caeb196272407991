"""The numbers of a run as plain values for a JSON file: summaries, comparisons, gates; no answers.

No gate of a run that is not complete and sound has passed: what is not known yet may be otherwise. Where too
much failed for a verdict, none has failed either.
An open side of an interval is null, and so is everything that is not known. Money is a decimal string where
it is a sum and a number where it is a mean.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Protocol

from evalkit.compare import Comparison
from evalkit.summary import Endpoint
from evalkit.verdict import Decided

if TYPE_CHECKING:
    from evalkit.columns import Columns
    from evalkit.stores import Run
    from evalkit.trouble import Trouble


class Numbers(Protocol):
    """What a run came to; `evalkit.evaluate.Outcome` is one."""

    @property
    def run(self) -> Run:
        """The run itself."""

    @property
    def columns(self) -> Columns:
        """Its rows."""

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        """The summaries."""

    @property
    def comparisons(self) -> Sequence[Comparison]:
        """Who is better."""

    @property
    def warnings(self) -> Sequence[str]:
        """What is known against the judges."""

    @property
    def trouble(self) -> Trouble | None:
        """Why none of them is a verdict, if so."""

    @property
    def gates(self) -> Sequence[Decided]:
        """The verdicts."""


def plain(numbers: Numbers) -> dict[str, Any]:
    """`endpoints`, `comparisons` and `gates`, of values that every JSON library can write."""
    rescored = bool(numbers.run.info.get("rescored"))
    return {
        "endpoints": [_json(_endpoint(each, rescored)) for each in numbers.endpoints],
        "comparisons": [comparison(each) for each in numbers.comparisons],
        "gates": [_gate(each) for each in gates(numbers)],
    }


def gates(numbers: Numbers) -> list[Decided]:
    """The verdicts as the exit code has them: of a run that is not complete and sound, none is a pass.

    Of one with trouble none is a failure either: its exit code is not that of a failed gate.
    """
    if numbers.trouble is not None:
        why = "too much failed for a verdict"
        sure = numbers.gates
        return [each if each.verdict.status == "undecided" else _open(each, why) for each in sure]
    if numbers.run.status != "complete":
        why = "the run is not complete"
        return [_open(each, why) if each.verdict.status == "pass" else each for each in numbers.gates]
    return list(numbers.gates)


def _open(each: Decided, why: str) -> Decided:
    said = f"undecided: {why}; of what was asked: {each.verdict.sentence}"
    return replace(each, verdict=replace(each.verdict, status="undecided", sentence=said))


def open_gates(numbers: Numbers) -> str:
    """What the exit code makes of undecided gates, where the suite says so and there are any."""
    return "" if numbers.trouble is not None else counted_as(numbers.gates, numbers.run.info)


def counted_as(decided: Sequence[Decided], info: Mapping[str, Any]) -> str:
    """Likewise, of a run's verdicts and its lineage."""
    suite = info.get("suite")
    how = suite.get("undecided") if isinstance(suite, Mapping) else None
    undecided = [each for each in decided if each.verdict.status == "undecided"]
    if not undecided or how not in ("fail", "value"):
        return ""
    failed = sum(each.under(how) == "fail" for each in undecided)
    passed = len(undecided) - failed
    counts = [f"{n:,} as {what}" for n, what in ((failed, "failed"), (passed, "passed")) if n]
    by = ", by its value alone" if len(undecided) == 1 else ", each by its value alone"
    return (
        f"The exit code counts undecided gates too (`undecided: {how}` in the suite): {' and '.join(counts)}"
        f"{by if how == 'value' else ''}."
    )


def _endpoint(each: Endpoint, rescored: bool) -> dict[str, Any]:
    found = asdict(each)
    for latency in found["latency"].values():
        del latency["values"]
    # The calls of a rescored run were paid for by the run that it judged again.
    found["cost"]["paid"] = each.cost.judging if rescored else each.cost.paid
    found["findings"] = [
        {"direction": direction, "kind": kind, "action": action, "count": count}
        for (direction, kind, action), count in each.findings.items()
    ]
    if (several := found["repeats"]) is not None:
        several["pass@k"] = several.pop("at_least")
        several["pass^k"] = several.pop("every")
    return found


def _gate(each: Decided) -> dict[str, Any]:
    said = each.verdict
    return {
        "gate": str(said.gate),
        "set": each.set,
        "endpoint": each.arm,
        "status": said.status,
        "confidence": said.gate.confidence,
        "measured": None if said.measured is None else _json(asdict(said.measured)),
        "more_samples": said.more,
        "sentence": said.sentence,
    }


def comparison(each: Comparison) -> dict[str, Any]:
    """A comparison with its sentence."""
    plain: dict[str, Any] = _json({**asdict(each), "verdict": each.verdict})
    return plain


def _json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _json(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_json(each) for each in value]
    if isinstance(value, Decimal):
        return str(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value
