"""A language model as a judge: `rubric`, `reference`, `g_eval`, `checklist`, `pairwise`, `panel`.

A judge is a prompt and any `Handler`. In a suite the registry puts the two together; in Python

    from judges.llm import Model, Rubric

    judge = Rubric(asked=Model(handler), criteria="Is the tone friendly?")
    score = await judge(Question("…"), Answer("…"))

How it goes: `prompt` fills the text, `fence` keeps the answer apart, `model` asks, `replies` reads, `asking`
puts these together and asks once more after a reply that nobody can read.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from judges.llm.checklist import Checklist
    from judges.llm.families import family, relatives
    from judges.llm.injections import Obedience, obeys
    from judges.llm.model import Model, Verdicts, models, nobody
    from judges.llm.pairwise import Pairwise, Preference, Tally, preferences
    from judges.llm.panel import Panel
    from judges.llm.rated import GEval, Reference, Rubric
    from judges.llm.scripted import erring, fenced, verdict_of

__all__ = [
    "Checklist",
    "GEval",
    "Model",
    "Obedience",
    "Pairwise",
    "Panel",
    "Preference",
    "Reference",
    "Rubric",
    "Tally",
    "Verdicts",
    "erring",
    "family",
    "fenced",
    "models",
    "nobody",
    "obeys",
    "preferences",
    "relatives",
    "verdict_of",
]

_LATER = {
    **dict.fromkeys(("family", "relatives"), "families"),
    **dict.fromkeys(("Obedience", "obeys"), "injections"),
    **dict.fromkeys(("Model", "Verdicts", "models", "nobody"), "model"),
    **dict.fromkeys(("Pairwise", "Preference", "Tally", "preferences"), "pairwise"),
    **dict.fromkeys(("GEval", "Reference", "Rubric"), "rated"),
    **dict.fromkeys(("erring", "fenced", "verdict_of"), "scripted"),
    "Checklist": "checklist",
    "Panel": "panel",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
