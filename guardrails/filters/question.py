"""A request on its way in: what of it is looked at, and how it changes.

It is gone through twice: first its texts are noted, then, when all of them were looked at, they are changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import accumulate

from guardrails.call import Request
from guardrails.filters.detector import Edit, Finding, Mark, apply
from guardrails.filters.memory import Memory
from guardrails.filters.policy import decide, edits
from guardrails.filters.run import Run
from guardrails.filters.surfaces import Arguments, rewrite

_Asked = tuple[Run, tuple[str, ...]]  # and the names of its rules


class Question:
    """The texts of one request, and what was found in each of them."""

    __slots__ = ("_found", "_mark", "_memory", "_parsed", "_results", "_run", "_texts")

    def __init__(self, run: Run, results: Run, mark: Mark, memory: Memory) -> None:
        self._run = run
        self._results = results
        self._mark = mark
        self._memory = memory
        self._texts: dict[_Asked, list[str]] = {}
        self._parsed: dict[str, Arguments] = {}
        self._found: dict[_Asked, dict[str, list[Finding]]] = {}

    async def filtered(self, request: Request) -> Request:
        """The request with all changes; what stops it is in the runs."""
        rewrite(request, self._note, self._note_arguments, self._note_run)
        for (run, names), texts in self._texts.items():
            rules = [run.rules.by_name[name] for name in names]
            self._found[run, names] = await run.whole(texts, rules, self._memory)
        return rewrite(request, self._edit, self._edit_arguments, self._edit_run)

    def _asked(self, role: str, *, places: bool = False) -> _Asked:
        """Who looks at what this role says; only those who look for `places`."""
        run = self._results if role == "tool" else self._run
        heard = (rule for rule in run.rules.rules if rule.listens_to(role))
        return run, tuple(rule.name for rule in heard if not (places and rule.judges))

    # --- noting ----------------------------------------------------------------------------------------

    def _note(self, text: str, role: str) -> str:
        self._texts.setdefault(self._asked(role), []).append(text)
        return text

    def _note_run(self, texts: Sequence[str], role: str) -> Sequence[str]:
        # A value may stand in two of them; and what begins or ends one may be a word of its own.
        self._texts.setdefault(self._asked(role, places=True), []).append("".join(texts))
        return [self._note(text, role) for text in texts]

    def _note_arguments(self, text: str) -> str:
        self._parsed[text] = Arguments.of(text)
        self._note(self._parsed[text].looked, "assistant")
        return text

    # --- changing --------------------------------------------------------------------------------------

    def _edit(self, text: str, role: str) -> str:
        asked = self._asked(role)
        return apply(text, self._marks(asked[0], text, self._found[asked][text]))

    def _edit_run(self, texts: Sequence[str], role: str) -> Sequence[str]:
        asked, whole = self._asked(role, places=True), "".join(texts)
        starts = [0, *accumulate(map(len, texts))][:-1]
        known = [*self._found[asked][whole], *self._shifted(texts, starts, role)]
        made = self._marks(asked[0], whole, known)
        return [apply(text, made, start) for text, start in zip(texts, starts, strict=True)]

    def _shifted(self, texts: Sequence[str], starts: Sequence[int], role: str) -> Iterator[Finding]:
        found = self._found[self._asked(role)]
        for text, at in zip(texts, starts, strict=True):
            yield from (replace(f, start=f.start + at, end=f.end + at) for f in found[text])

    def _edit_arguments(self, text: str) -> str:
        arguments, asked = self._parsed[text], self._asked("assistant")
        looked = arguments.looked
        return apply(
            text, arguments.edits(self._marks(asked[0], looked, self._found[asked][looked], arguments))
        )

    def _marks(
        self, run: Run, looked: str, known: Sequence[Finding], arguments: Arguments | None = None
    ) -> list[Edit]:
        literals = run.literals(looked)
        while True:
            findings = [*known, *literals]
            verdict = decide(findings if arguments is None else arguments.found(findings), run.rules)
            made = edits(verdict.changes, looked, run.rules, self._mark, run.vault)
            before, literals = literals, run.literals(looked)
            if literals == before:  # else a new token is what somebody wrote here
                run.take(verdict)
                return made
