"""What the rows of a kept run were asked: they never hold it, so it is read from the golden sets of today."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalkit.trial import Trial
from guardrails.errors import GuardrailsError
from judges.judge import Question

if TYPE_CHECKING:
    from evalkit.sample import GoldenSet

Asked = Mapping[tuple[str, str], Question]
"""Questions with what was expected, by set and sample."""


def asked(info: Mapping[str, Any], rows: Iterable[Trial]) -> Asked:
    """The questions of these rows, as far as their sets are there and hold the samples of then."""
    from evalkit.content import digest, whole

    kept = {(row.set, row.sample): row.content for row in rows}
    if not kept:
        return {}
    found = {}
    for golden in _sets(info):
        for one in golden.samples:
            content = kept.get((golden.name, one.id))
            if content and whole(content) == digest(one.plain()):
                found[golden.name, one.id] = one.question()
                if len(found) == len(kept):
                    return found
    return found


def _sets(info: Mapping[str, Any]) -> Iterator[GoldenSet]:
    """The golden sets of a run that can still be read, from this machine's own files."""
    from evalkit.sample import load

    suite = info.get("suite")
    specs = suite.get("golden") if isinstance(suite, Mapping) else ()
    for spec in specs if isinstance(specs, list) else ():
        if isinstance(spec, Mapping) and spec.get("hf"):  # to look at a run asks no hub
            continue
        try:
            yield load(spec, Path(str(info.get("folder", "."))))
        except GuardrailsError:
            continue
