"""How a run ended, where its numbers are not those of a whole, sound one: what a page says before them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from evalkit.trouble import Trouble
from guardrails.record import total

if TYPE_CHECKING:
    from evalkit.evaluate import Outcome

_ENDED = {
    "capped": "The cost cap ended this run before it was complete: its numbers are of {calls}. Raise the cap "
    "(`budget.max_usd`) and {go_on}.",
    "interrupted": "This run was interrupted: its numbers are of {calls}. To complete it, {go_on}.",
    "stopped": "An error stopped this run before it was complete: its numbers are of {calls}. To complete "
    "it, {go_on}.",
    "running": "This run was not over when this page was written: its numbers are of {calls}.",
}

_NONE_FITS = (
    "The cost cap is below what the first call may cost, so none was made: nothing was measured. Raise "
    "`budget.max_usd`, or lower `sampling.max_tokens` and the judges' `max_tokens`."
)


def remarks(info: Mapping[str, Any], rows: int, trouble: Trouble | None) -> list[str]:
    """What to know of a run before its numbers, and what to do; nothing of one that is complete and sound.

    `info` is the page's own: the lineage with `run` and `status`, and `error` where one stopped the run.
    """
    if not rows and info.get("status") == "capped":
        return [_NONE_FITS]
    calls = "1 call" if rows == 1 else f"{rows:,} calls"
    ended = _ENDED.get(str(info.get("status")), "")
    ended = ended.format(calls=calls, go_on=_go_on(info))
    return [said for said in (str(info.get("error", "")), _failed(info, trouble), ended) if said]


def _go_on(info: Mapping[str, Any]) -> str:
    if source := info.get("rescored"):  # it is as complete as what it judged again, or was itself interrupted
        return (
            f"run `evalkit rescore {source}` again, after `evalkit run SUITE --resume {source}` where that "
            "run is not complete either"
        )
    return f"go on with `evalkit run SUITE --resume {info.get('run')}`"


def _failed(info: Mapping[str, Any], trouble: Trouble | None) -> str:
    """That too many calls or judges failed to say anything, which the exit code 2 says too."""
    if trouble is None:
        return ""
    if trouble.what == "no_call":
        return "No call was made: nothing was measured."
    share, allowed = f"{trouble.share:.1%}", f"{trouble.allowed:.1%}"
    said = {
        "no_answer": f"No call{trouble.where and f' to {trouble.where}'} brought an answer",
        "unjudged": f"No answer{trouble.where and f' of {trouble.where}'} could be judged",
        "too_many": f"{share} of the calls or their judges failed, and the suite allows {allowed}",
    }[trouble.what]
    return (
        f"{said}: no verdict below counts. The failures are listed below. Once their cause is mended, "
        f"{_again(info)}."
    )


def _again(info: Mapping[str, Any]) -> str:
    if source := info.get("rescored"):
        return (
            f"ask again what failed with `evalkit run SUITE --resume {source}`, and run "
            f"`evalkit rescore {source}` again"
        )
    return f"ask again what failed with `evalkit run SUITE --resume {info.get('run')}`"


def capped(outcome: Outcome) -> str:
    """What the cost cap ended, with what was spent of it, and why that is less than the cap.

    A run that judged again one that the cap had ended is capped too, whatever it has spent itself.
    """
    from evalkit.words import usd

    suite, rescored = outcome.plan.suite, bool(outcome.run.info.get("rescored"))
    costs = [e.cost for e in outcome.endpoints]
    paid = total(cost.judging if rescored else cost.paid for cost in costs)
    ended = "the numbers are of what was asked until then"
    if suite.budget is None or (rescored and not paid):
        return f"the cost cap is reached: {ended}"
    least = "" if all(cost.whole for cost in costs) else "at least "
    spent = f"{least}{usd(float(paid))} of {usd(float(suite.budget.max_usd))} is spent"
    if rescored:
        return f"the cost cap is reached: {spent} on judging, and {ended}"
    said = (
        f"the cost cap is reached: {spent}, and {ended}. The most that a call may cost is set aside before "
        "it, and for the next one too little is left."
    )
    if suite.sampling.max_tokens is None:
        tokens = f"{suite.budget.assumed_output:,}"
        said += f" Set `sampling.max_tokens`: without it, an answer is taken for {tokens} tokens."
    return said
