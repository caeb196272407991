"""Why no verdict counts, in a sentence, and what to do next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evalkit.rescoring import OTHERS, origin
from guardrails.errors import GuardrailsError

if TYPE_CHECKING:
    from evalkit.evaluate import Outcome
    from evalkit.trouble import Trouble


def no_verdict(outcome: Outcome, trouble: Trouble) -> GuardrailsError:
    """What is raised of a run that says nothing, or too little."""
    again, judged = _again(outcome)
    if trouble.what == "no_call":
        if outcome.status == "capped":
            return GuardrailsError(
                "the cost cap is below what the first call may cost, so none was made",
                hint="raise budget.max_usd, or lower sampling.max_tokens and the judges' max_tokens: the "
                "dearest outcome is what counts",
            )
        return GuardrailsError("no call was made", hint="nothing was measured")
    where = f" to {trouble.where}" if trouble.where else ""
    others = not OTHERS.isdisjoint(outcome.columns.failures)
    if trouble.what == "no_answer" and others:
        return GuardrailsError(
            f"no answer{where.replace(' to ', ' of ', 1)} could be judged: "
            "the samples are not those that were answered",
            hint=f"{again} asks them as they are now",
        )
    if trouble.what == "no_answer":
        return GuardrailsError(
            f"no call{where} brought an answer",
            hint=f"see the failures above; nothing was measured. {again} asks again",
        )
    if trouble.what == "unjudged":
        return GuardrailsError(
            f"no answer{where.replace(' to ', ' of ', 1)} could be judged",
            hint=f"see the judges' errors; {judged} judges again, once they are mended, and calls nobody",
        )
    return GuardrailsError(
        f"{trouble.share:.1%} of the calls or their judges failed, the suite allows {trouble.allowed:.1%}",
        hint=f"see above; {again} asks again what failed; or raise `max_error_rate`",
    )


def _again(outcome: Outcome) -> tuple[str, str]:
    """What asks again and what judges again. A run that judged another one again cannot be gone on with, and
    where samples are others by now, neither can that one."""
    run, store = outcome.run, outcome.store
    source = run.info.get("rescored")
    if not OTHERS.isdisjoint(outcome.columns.failures):
        return "`evalkit run SUITE --fresh`", f"`evalkit rescore {source}`"
    if not source:
        return f"`--resume {run.id}`", f"`--resume {run.id} --cache`"
    return f"`evalkit run SUITE --resume {origin(store, run)}`", f"`evalkit rescore {source}`"
