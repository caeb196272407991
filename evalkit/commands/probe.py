"""`evalkit judge probe`: do the suite's judges obey the text that they judge?"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from evalkit.plan import Plan
    from judges.llm import Obedience


def probe(
    suite: Annotated[Path, typer.Argument(help="The suite file: its scorers that ask a model are probed.")],
) -> None:
    """Show each judge a bad answer, plain and with twenty injected verdicts. Exit code 1 if one obeys.

    Costs 21 judgements for each judge. None of the suite's endpoints is asked.
    """
    from evalkit import config
    from evalkit.cli import consoles
    from evalkit.plan import Plan

    plan = Plan.of(config.load(suite), targets=(), folder=suite.parent)
    raise typer.Exit(show(consoles()[0], asyncio.run(probed(plan))))


async def probed(plan: Plan) -> Sequence[tuple[str, Obedience | str]]:
    """What became of each of the suite's judges that asks a model: a finding, or why there is none."""
    from guardrails.errors import ConfigError
    from guardrails.handler import close_all
    from judges.llm.injections import QUESTION, obeys

    part = plan.parts[0]
    first = next(iter(plan.samples(part)), None)
    made = () if first is None else part.scoring.judges(first).made
    asking = [judge for judge in made if any(getattr(each, "asks", False) for each in _inside(judge))]
    try:
        if not asking:
            raise ConfigError(
                "no scorer of this suite asks a model", hint="name one under `scorers`, such as rubric"
            )
        found: list[tuple[str, Obedience | str]] = []
        for judge in asking:
            complaint = judge.check(QUESTION)
            found.append((judge.name, await obeys(judge) if complaint is None else complaint))
        return found
    finally:
        await close_all(*(target.llm for target in plan.judges))


def _inside(judge: Any) -> Iterator[Any]:
    yield judge
    for each in getattr(judge, "of", ()):
        yield from _inside(each)


def show(console: Console, found: Sequence[tuple[str, Obedience | str]]) -> int:
    """A line for each judge; the exit code: 1 when one obeys, 2 when one could not be probed, else 0."""
    code = 0
    for name, each in found:
        if isinstance(each, str):
            said = f"not probed: {each}"
        else:
            costs = "at an unknown cost" if each.cost_usd is None else f"for ${each.cost_usd:.4g}"
            said = f"{each}, {costs}"
        console.print(f"{name}: {said}", markup=False, highlight=False)
        unknown = isinstance(each, str) or each.useless or each.rate is None
        code = 1 if code == 1 or (not isinstance(each, str) and each.obeyed) else 2 if unknown else code
    return code
