"""What may a job cost at most? What a cost cap sets aside before anything is sent.

A call: the tokens of its prompt and the longest answer that it may have. A conversation: each turn reads all
that was said before once more, and a simulated user reads and writes too. What judging costs depends on the
answer and on the judge, so it is not known here: see `evalkit.cap.Dearest`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING

from evalkit.conversation import SimulatedUser
from evalkit.plan import Job, Plan, Target
from guardrails.call import Call, Message, Request, Usage
from guardrails.errors import ConfigError
from guardrails.flow.spent import at_most
from guardrails.record import EXACT, total

if TYPE_CHECKING:
    from guardrails.record import PriceOf


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
