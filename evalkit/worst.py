"""What may a job cost at most? What a cost cap sets aside before anything is sent.

A call: the tokens of its prompt and the longest answer that it may have. A conversation: each turn reads all
that was said before once more, and a simulated user reads and writes too. A judge that asks a model: its
prompt with the question and the longest answer, and the longest reply. How often some judges ask depends on
the answer, which is not known here: see `evalkit.cap.Dearest`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING

from evalkit.conversation import SimulatedUser
from evalkit.plan import Job, Plan, Target
from guardrails.call import Call, Message, Request, Sampling, Usage
from guardrails.errors import ConfigError
from guardrails.flow.spent import at_most
from guardrails.record import EXACT, total

if TYPE_CHECKING:
    from guardrails.record import PriceOf
    from judges.judge import Judge, Question


def check_prices(plan: Plan) -> None:
    """Raises `ConfigError` for a plan with a cost cap and somebody whose price is not known."""
    if plan.suite.budget is None:
        return
    anything = Call(Request((Message.of("user", "?"),)))
    for target in (*plan.targets, *plan.judges, *filter(None, [plan.user])):
        _dearest(target, anything, [0], 1)


def at_worst(plan: Plan, target: Target, job: Job) -> Decimal:
    """What a job's call or conversation may cost, in USD, judging aside: with the dearest model of each.

    Raises `ConfigError` for a model without a price, under which no cap can hold.
    """
    budget, one = plan.suite.budget, job.sample
    assert budget is not None, "there is a cap"
    user = None
    if plan.user is not None and one.user is not None:
        user = SimulatedUser.of(one.user, plan.user.llm)
    request = plan.request(job)
    answer = request.sampling.max_tokens or budget.assumed_output
    said = (user.sampling.max_tokens or budget.assumed_output) if user is not None else 0
    scripted, made_up = len(one.turns), 0 if user is None else user.max_turns
    # All scripted texts are counted from the first turn on, which is a little more than is read.
    whole = replace(request, messages=(*request.messages, *(Message.of("user", text) for text in one.turns)))
    before = [turn * answer + max(0, turn - scripted) * said for turn in range(1 + scripted + made_up)]
    cost = _dearest(target, Call(whole), before, budget.assumed_output)
    if user is not None and plan.user is not None:
        heard = [tokens + answer for tokens in before[scripted:-1]]
        played = _dearest(plan.user, Call(user.request(whole.messages)), heard, budget.assumed_output)
        cost = EXACT.add(cost, played)
    return cost


def judging_at_worst(
    plan: Plan, judges: Sequence[Judge], question: Question, answer: str | None = None
) -> Decimal:
    """What one reply of each judge that asks a model may cost, in USD; without `answer`, of the longest one.

    Nothing where no cap holds.
    """
    budget, targets = plan.suite.budget, {target.name: target for target in plan.judges}
    if budget is None or not targets:
        return Decimal(0)
    from judges.llm.asking import asking

    said = " ".join((question.prompt, *question.references, *question.context, answer or ""))
    read = 0 if answer is not None else plan.suite.sampling.max_tokens or budget.assumed_output
    costs = []
    for judge in asking(judges):
        sampling = Sampling(max_tokens=judge.longest)
        call = Call(Request((Message.of("user", f"{judge.told} {said}"),), sampling=sampling))
        if (target := targets.get(judge.asked.name)) is not None:
            costs.append(_dearest(target, call, [read] * getattr(judge, "samples", 1), budget.assumed_output))
    return total(costs)


def _dearest(target: Target, call: Call, before: Sequence[int], assumed_output: int) -> Decimal:
    """What `call` may cost when it is made once for each of `before`, the tokens that it reads besides."""
    return max(
        (
            total(_cost(target, model, call, more, assumed_output) for more in before)
            for model in target.models
        ),
        default=Decimal(0),
    )


def _cost(target: Target, model: str, call: Call, more: int, assumed_output: int) -> Decimal:
    read, written = at_most(call, model, assumed_output)
    cost = (target.price or _default_price())(model, Usage(read + more, written))
    if cost is None:
        raise ConfigError(
            f"{target.name}: no price is known for the model {model!r}, so a cost cap cannot hold",
            hint="give it a `prices` file, or take the budget out",
        )
    return cost


def _default_price() -> PriceOf:
    from guardrails.prices import PriceBook

    return PriceBook.default().cost
