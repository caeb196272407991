"""promptfoo's test files: `tests` with `vars` and `assert`, in YAML or JSON, or a row a test in CSV.

Assertions become scorers of ours (see `promptfoo_asserts`). What is not covered is a problem, never left out:
scripts, weights, thresholds and options of tests, scenarios, `file://`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice, product
from pathlib import Path
from typing import Any

from evalkit import rows
from evalkit.rows import Problems, Row, shown
from evalkit.sets import promptfoo_csv
from evalkit.sets.mapping import Mapping as Fields
from evalkit.sets.mapping import Unfit
from evalkit.sets.promptfoo_asserts import Assertion, Loc, Told, Written, assertions, numbered, rendered
from guardrails.source import load_yaml

MAX_COMBINATIONS = 1_000
_QUESTION = ("input", "question", "prompt", "query", "message")
_INSTEAD = (
    "keep one, as text, or say with `fields: {input: …}` what is asked, and write variants in the suite"
)
_PATH = re.compile(
    r"(?:[a-z]:)?[\w.~@+/\\*?\[\]-]*[\w*\]]\.(?P<suffix>txt|jsonl?|ya?ml|md|csv|j2|py|m?js|ts)"
    r"(?P<behind>\*|:[\w.]+)?",
    re.IGNORECASE,
)
"""A name or a pattern of files, where the prompts stand that the file itself does not hold."""

_SCRIPTS = frozenset({"py", "js", "mjs", "ts"})
_NO_COUNTERPART = "changes how a test is judged, and has no counterpart here: leave it out"
_ELSEWHERE = (
    "names a file: give that one as the golden set (`{path: …, format: promptfoo}`), and the prompt as "
    "`fields: {input: …}`"
)
_FILLED = re.compile(r"\{\{[^{}]*\}\}")


_CHANGES = {"threshold": 1, "options": {}, "assertScoringFunction": None, "providerOutput": None}
"""What changes how a test is judged, or what, and the value that does not."""

_HARMLESS = frozenset(
    {"provider", "rubricPrompt"}
)  # options of judging models, whose assertions are none here


def read(path: Path, problems: Problems, *, own: bool = True) -> Iterator[Row | str]:
    """A row for each test (and each combination of its lists), and last of all the file's sha256.

    `own`: whether the file's prompt makes the question; the suite's `fields` say it otherwise.
    """
    if path.name.lower().removesuffix(".gz").endswith(".csv"):
        yield from _table(path, problems, own)
        return
    source = load_yaml(path)  # bounded: size, depth, what aliases unfold to
    told = Told(problems, lambda loc: source.line(loc) or 1)
    data = source.data if isinstance(source.data, dict) else {"tests": source.data}
    base = ("tests",) if isinstance(source.data, dict) else ()
    prompt = None
    if own:
        try:
            prompt = _prompt(data.get("prompts"), path.parent)
        except Unfit as error:
            told(("prompts",), error.place, error.message)
    default = _test(data.get("defaultTest") or {}, ("defaultTest",), told, "defaultTest")
    shared = _Shared(told, default or _Test(()), prompt, own)
    for number, test in enumerate(_tests(data, base, told)):
        before = problems.count
        yield from shared.rows(_test(test, (*base, number), told), number + 1, before)
    yield hashlib.sha256(path.read_bytes()).hexdigest()


def _tests(data: dict[str, Any], base: Loc, told: Told) -> list[Any]:
    tests, scenarios = data.get("tests"), data.get("scenarios")
    if scenarios:
        told(("scenarios",), "scenarios", "have no counterpart here: write them out under `tests`")
    if isinstance(tests, list):
        return tests
    if isinstance(tests, str):
        told(base, "tests", _ELSEWHERE)
    elif tests is not None or not scenarios:
        told(base, "tests", "must be a list")
    return []


def _table(path: Path, problems: Problems, own: bool) -> Iterator[Row | str]:
    told = Told(problems, lambda loc: int(loc[0]))
    shared = _Shared(told, _Test(()), None, own)
    for number, row in enumerate(rows.read(path, problems, "csv", own=False), start=1):
        if isinstance(row, str):
            yield row
            return
        before, loc = problems.count, (row.line,)
        test, written = promptfoo_csv.parsed(row.fields, loc, told)
        yield from shared.rows(_made(test, loc, told, written), number, before)


@dataclass(frozen=True, slots=True)
class Adapter:
    """A test as the fields of a sample. `fields`, if given, say which variable is what."""

    fields: Fields | None

    def __call__(self, row: Row, file: str) -> Any:
        """Raises `Unfit`."""
        test = row.fields
        values = test["vars"]
        if self.fields is not None:
            made = self.fields(Row(row.line, {**values, "id": test["id"]}), file)
        else:
            made = {"id": test["id"], "input": test["question"]}
        metadata = {"vars": values, **test["metadata"], **made.get("metadata", {})}
        if test["description"]:
            metadata["description"] = test["description"]
        scorers, references = test["scorers"], test["references"]
        if scorers:
            metadata["scorer"] = scorers[0] if len(scorers) == 1 else {"all": scorers}
        if references and not made.keys() & {"reference", "references"}:
            made["references"] = references
        return {**made, "metadata": metadata}


# --- tests -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Test:
    """A test (or what is said for all of them), as far as it could be read."""

    loc: Loc
    vars: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    asserted: tuple[Assertion, ...] = ()
    description: Any = ""


def _test(test: Any, loc: Loc, told: Told, place: str = "") -> _Test | None:
    if not isinstance(test, dict):
        elsewhere = isinstance(test, str) and test.startswith("file://")
        told(loc, place or "test", _ELSEWHERE if elsewhere else "must be an object with vars and assert")
        return None
    before = f"{place}." if place else ""
    written = numbered(f"{before}assert", (*loc, "assert"), test.get("assert"), told)
    return _made(test, loc, told, written, before)


def _made(
    test: dict[str, Any], loc: Loc, told: Told, written: Iterable[Written], before: str = ""
) -> _Test | None:
    """The test; what it says of how it is judged is told. `before`: what its places begin with."""
    for name, same in _CHANGES.items():
        value = test.get(name)
        if name == "options" and isinstance(value, dict):
            for option in sorted(str(key) for key in value if value[key] and key not in _HARMLESS):
                told((*loc, name, option), f"{before}{name}.{shown(option)}", _NO_COUNTERPART)
        elif value is not None and value != same:
            told((*loc, name), f"{before}{name}", _NO_COUNTERPART)
    asserted = tuple(assertions(written, told))
    objects = {name: test.get(name) or {} for name in ("vars", "metadata")}
    odd = [name for name, value in objects.items() if not isinstance(value, dict)]
    for name in odd:
        told((*loc, name), f"{before}{name}", "must be an object")
    return (
        None if odd else _Test(loc, **objects, asserted=asserted, description=test.get("description") or "")
    )


@dataclass(frozen=True, slots=True)
class _Shared:
    """What all tests of a file share."""

    told: Told
    default: _Test
    prompt: str | None
    own: bool

    def rows(self, test: _Test | None, number: int, before: int) -> Iterator[Row]:
        """A row for each combination. None where there are more problems than `before`: the first one's."""
        if test is None:
            return
        values = {**self.default.vars, **test.vars}
        try:
            combinations = list(_combinations(values))
        except Unfit as error:
            self.told(test.loc, error.place, error.message)
            return
        line = self.told.line(test.loc)
        for count, each in enumerate(combinations, start=1):
            suffix = f"-{count}" if len(combinations) > 1 else ""
            fields = {"id": f"test-{number}{suffix}", "vars": each, "description": test.description}
            fields["metadata"] = {**self.default.metadata, **test.metadata}
            fields |= self._asked(test, each)
            if self.told.problems.count > before:
                return
            yield Row(line, fields)

    def _asked(self, test: _Test, values: dict[str, Any]) -> dict[str, Any]:
        """The question, the scorers, and the answers that these say are right."""
        scorers: list[Any] = []
        references: list[str] = []
        question = None
        try:
            question = _question(values, self.prompt) if self.own else None
        except Unfit as error:
            self.told(test.loc, error.place, error.message)
        for each in (*self.default.asserted, *test.asserted):
            try:
                scorer, right = each.scorer(values)
            except Unfit as error:
                loc = test.loc if each in self.default.asserted else each.loc
                self.told(loc, error.place, error.message)
                continue
            scorers.append(scorer)
            references += right
        return {"question": question, "scorers": scorers, "references": references}


def _combinations(values: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A variable that is a list stands for one test for each of its values. Raises `Unfit`."""
    for name, value in values.items():
        if any(isinstance(each, str) and each.startswith("file://") for each in _several(value)):
            raise Unfit(f"vars.{shown(str(name))}", "names a file; write its text here")
    combinations = list(islice(product(*map(_several, values.values())), MAX_COMBINATIONS + 1))
    if len(combinations) > MAX_COMBINATIONS:
        raise Unfit("vars", f"make more than {MAX_COMBINATIONS:,} combinations")
    for combination in combinations:
        yield dict(zip(values, combination, strict=True))


def _several(value: Any) -> list[Any]:
    return value if isinstance(value, list) and value else [value]


# --- the question ------------------------------------------------------------------------------------------


def _prompt(prompts: Any, folder: Path) -> str | None:
    """The file's prompt; None without one. Raises `Unfit` for several, and for one that is no text."""
    prompts = prompts if isinstance(prompts, list) else [] if prompts is None else [prompts]
    if not prompts:
        return None
    if len(prompts) > 1:
        raise Unfit("prompts", f"are {len(prompts):,}, and a set asks each question once: {_INSTEAD}")
    prompt = prompts[0]
    if not isinstance(prompt, str) or not prompt.strip():
        raise Unfit("prompts[0]", f"is no text: {_INSTEAD}")
    if _names_a_file(prompt.strip(), folder):
        raise Unfit("prompts[0]", f"names a file: {_INSTEAD}")
    if _is_conversation(prompt):
        raise Unfit("prompts[0]", f"is a conversation: {_INSTEAD}")
    return prompt


def _names_a_file(prompt: str, folder: Path) -> bool:
    """`node.js` alone is a library, unless a script of that name lies beside the tests."""
    if prompt.startswith("file://"):
        return True
    path = _PATH.fullmatch(prompt)
    if path is None:
        return False
    bare = not path["behind"] and not re.search(r"[/\\*?]", prompt)
    if bare and path["suffix"].lower() in _SCRIPTS:
        return os.path.exists(folder / prompt)  # noqa: PTH110 # Path's raises for a name that is too long
    return True


def _is_conversation(prompt: str) -> bool:
    """Whether it is a list of messages in JSON; what will be filled in may stand for any value."""
    if not prompt.lstrip().startswith("["):
        return False
    try:
        messages = json.loads(_FILLED.sub("0", prompt))
    except (ValueError, RecursionError):
        return False
    return any(isinstance(each, dict) for each in messages)


def _question(values: Mapping[str, Any], prompt: str | None) -> Any:
    if prompt is not None:
        return rendered(prompt, values, "prompts[0]")
    for name in _QUESTION:
        if name in values:
            return values[name]
    if len(values) == 1:
        return next(iter(values.values()))
    raise Unfit("vars", "are several: say with `fields: {input: …}` which is the question")
