"""Do judge and candidate come from the same house?

Judges prefer texts of their own kind (Panickssery et al., arXiv 2404.13076), so a report has to say where a
model judges its relatives. Families are told by how model names begin; a name that nobody here knows has
none, and says nothing either way.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_FAMILIES = {
    "openai": "gpt chatgpt o1 o3 o4 codex text-davinci davinci",
    "anthropic": "claude",
    "google": "gemini gemma palm bison",
    "meta": "llama meta-llama codellama",
    "mistral": "mistral mixtral ministral codestral magistral devstral pixtral open-mistral open-mixtral",
    "qwen": "qwen qwq qvq",
    "deepseek": "deepseek",
    "cohere": "command c4ai aya",
    "microsoft": "phi wizardlm",
    "xai": "grok",
    "zhipu": "glm chatglm",
    "moonshot": "kimi moonshot",
    "amazon": "nova titan amazon",
    "ai21": "jamba jurassic",
    "ibm": "granite",
    "nvidia": "nemotron nvidia",
    "01-ai": "yi",
    "tii": "falcon",
    "allenai": "olmo tulu",
    "minimax": "minimax abab",
}
_PREFIXES = sorted(
    ((prefix, name) for name, prefixes in _FAMILIES.items() for prefix in prefixes.split()),
    key=lambda pair: -len(pair[0]),
)
_SKIP = re.compile(r"^(?:[a-z]{2}\.)?(?:anthropic|amazon|meta|mistral|cohere|ai21|deepseek|openai)\.")


def family(model: str) -> str | None:
    """The house that a model's name tells: `openai/gpt-4o-mini` → `openai`; None for an unknown name.

    What was distilled or fine-tuned from another model has one name: the table cannot see both.
    """
    name = _SKIP.sub("", model.strip().lower().rpartition("/")[2][:200])
    for prefix, house in _PREFIXES:
        if name.startswith(prefix) and not name[len(prefix) : len(prefix) + 1].isalpha():
            return house
    return None


def relatives(judges: Iterable[str], candidates: Iterable[str]) -> list[str]:
    """A sentence for each judge model that shares a family with a candidate model; for reports."""
    warnings = []
    judged = list(dict.fromkeys(candidates))
    for judge in dict.fromkeys(judges):
        house = family(judge)
        kin = [each for each in judged if house is not None and family(each) == house]
        if kin:
            warnings.append(
                f"the judge {judge} is of the same family ({house}) as {', '.join(kin)}: judges favour their "
                "own kind, so compare with a judge of another family or with human labels"
            )
    return warnings
