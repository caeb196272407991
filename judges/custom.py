"""The `python` judge: a function of your own, from a file or a module.

::

    scorers:
      - python: scorers/politeness.py:polite         # beside the suite file
      - python: {target: "my_package.scorers:tone", threshold: 0.8}

In Python a suite takes a function of a module itself: `Suite(…, scorers=[polite])`.

The function gets a `Question` and an `Answer` (see `judges.judge`), and may be async. It returns

- a bool: passed or not;
- a number: the value, which passes from `threshold` on (null: no verdict); NumPy's numbers and bools,
  `Decimal` and `Fraction` too;
- a dict with `value`, `passed`, `reason`, of which any may be left out;
- a `Score`.

A plain function runs in a thread, so several run at once: keep no state in globals. An async one runs on the
event loop and must not block it: while it does, no other call goes on and no limit of time counts. What it
raises becomes an error row with the error's type and line, never its message, which may quote the answer; one
that takes longer than `timeout` seconds becomes an error row `timeout`.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from numbers import Real
from pathlib import Path, PurePath
from types import ModuleType
from typing import Any, ClassVar

from guardrails.errors import ConfigError
from guardrails.telling import whence
from judges.calling import TIMEOUT, Function, Overdue, blamed, called
from judges.judge import Answer, Question, Score, passing

MAX_REASON = 500


@dataclass(frozen=True, slots=True)
class Python:
    """Asks the function that `target` names: `path/to/file.py:function` or `package.module:function`.

    A relative path counts from the suite file's folder, else from the working directory. The file may import
    modules that lie beside it. `digest` is that of its own bytes, so that rows that an older version judged
    are told apart. `timeout` is in seconds, for
    one answer; a plain function that takes longer is left behind in its thread.

    `source` is what `named` writes of a function that Python gave: with it, `digest` is that of the
    function's own lines as they are now, so that an edited one is another judge.
    """

    target: str
    threshold: float | None = 0.5
    name: str = ""
    timeout: float = field(default=TIMEOUT, repr=False)  # a row that ran out of time is judged again anyway
    source: str = field(default="", repr=False)  # `digest` has it
    shorthand: ClassVar[str] = "target"
    targets: ClassVar[tuple[str, ...]] = ("target",)
    digest: str = field(init=False, default="")
    _function: Function = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.threshold is not None and not math.isfinite(self.threshold):
            raise ConfigError("threshold must be a finite number, or null for no verdict")
        if not 0 < self.timeout < math.inf:
            raise ConfigError("timeout must be a positive number of seconds")
        function, digest = load(self.target)
        _check_arguments(function, self.target)
        object.__setattr__(self, "_function", function)
        object.__setattr__(self, "digest", _source(function) if self.source else digest)
        if not self.name:
            object.__setattr__(self, "name", self.target.rpartition(":")[2])

    def __reduce__(self) -> tuple[Any, ...]:
        # A function from a file has no module that another process could import it from: it is loaded again.
        return type(self), (self.target, self.threshold, self.name, self.timeout, self.source)

    def check(self, question: Question, /) -> str | None:
        """Never complains: what the function needs is its own affair."""
        return None

    async def __call__(self, question: Question, answer: Answer, /) -> Score:
        """Calls the function, a plain one in a thread."""
        try:
            result = await called(self._function, question, answer, within=self.timeout)
            return _score(result, self.threshold)
        except Overdue as error:
            return Score.unjudged("timeout", str(error))
        except Exception as error:
            return Score.unjudged("exception", f"the function raised {blamed(error)}")


def _score(result: Any, threshold: float | None) -> Score:
    if isinstance(result, Score):
        return result
    if isinstance(result, Mapping):
        if result and result.keys() <= {"value", "passed", "reason"}:
            return _from_mapping(result, threshold)
        return Score.unjudged("result", f"the function gave a dict with other keys: {_RETURNS}")
    found = _plain(result)
    if isinstance(found, bool):
        return Score.verdict(found, "the function says " + ("yes" if found else "no"))
    if isinstance(found, float):
        return passing(found, threshold, f"the function says {found:g}")
    return Score.unjudged("result", f"the function gave {found or _kind(result)}: {_RETURNS}")


_RETURNS = "it returns a bool, a finite number, a Score, or a dict with value, passed, reason"


def _kind(value: Any) -> str:
    return "None" if value is None else f"a {type(value).__name__}"


def _plain(value: Any) -> bool | float | str | None:
    """A bool or a number as Python's own; a text that says why a number cannot be used; None for neither."""
    # NumPy's scalars, and arrays and tensors without a dimension, which nothing has to be imported for.
    if callable(item := getattr(value, "item", None)) and getattr(value, "shape", None) == ():
        value = item()
    if isinstance(value, bool):
        return value
    if not isinstance(value, Real | Decimal):
        return None
    try:
        number = float(value)
    except (OverflowError, ValueError):
        return "a number that no float can hold"
    return number if math.isfinite(number) else "a number that is not finite"


def _from_mapping(result: Mapping[str, Any], threshold: float | None) -> Score:
    value, passed = (_plain(result.get(name)) for name in ("value", "passed"))
    if result.get("value") is None:
        value = passed
    is_verdict = result.get("passed") is None or isinstance(passed, bool)
    if not is_verdict or not isinstance(value, bool | float):
        reason = "the function's dict needs a finite number as value, or true or false as passed"
        more = f", and has {value}" if isinstance(value, str) else ""
        return Score.unjudged("result", reason + more)
    reason = str(result.get("reason") or "").encode("utf-8", "replace").decode()[:MAX_REASON]
    if isinstance(passed, bool):
        return Score(float(value), passed, reason)
    return passing(float(value), threshold, reason)


# --- loading -----------------------------------------------------------------------------------------------


def _check_arguments(function: Callable[..., Any], target: str) -> None:
    try:
        # What is called, and not what it wraps, which may take other arguments.
        inspect.signature(function, follow_wrapped=False).bind("the question", "the answer")
    except TypeError:
        raise ConfigError(
            f"{target} cannot be called with a question and an answer",
            hint="it takes two arguments: def scorer(question, answer)",
        ) from None
    except ValueError:  # what is written in C may not say what it takes
        return


def named(function: Callable[..., Any]) -> dict[str, str]:
    """A function that Python gives as the options that name it, for this process and others.

    Raises `ConfigError` for one that its module does not have under its name, such as a lambda: nothing
    would find it in another process, and nothing would say whether it is the one that judged earlier rows.
    """
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if (
        not inspect.isfunction(function)
        or getattr(sys.modules.get(str(module)), str(name), None) is not function
    ):
        what = name if inspect.isfunction(function) else f"a {type(function).__name__}"
        raise ConfigError(
            f"a scorer may be a function of a module, and {what} is none",
            hint="write it with `def` outside of everything else; what it needs may be in its module",
        )
    return {"target": f"{module}:{name}", "source": _source(function)}


def _source(function: Callable[..., Any]) -> str:
    """A digest of the function's lines; empty where nobody has them, as in an interactive session."""
    try:
        lines = inspect.getsource(function)
    except (OSError, TypeError):
        return ""
    return hashlib.sha256(lines.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def located(target: str, folder: Path | None) -> str:
    """The target with its path counted from `folder`, when it is a relative path to a file."""
    path, colon, name = target.rpartition(":")
    if folder is None or not path.endswith(".py") or Path(path).is_absolute():
        return target
    return f"{folder / path}{colon}{name}"


def load(target: str) -> tuple[Function, str]:
    """The function that a target names, and the digest of the file's bytes (empty for a module).

    Raises `ConfigError` with the file and the line of what is wrong.
    """
    where, _, name = target.rpartition(":")
    if not where or not name.isidentifier():
        raise ConfigError(
            f"{target[:80]!r} names no function",
            hint="write path/to/file.py:function or package.module:function",
        )
    module, digest = _from_file(Path(where)) if where.endswith(".py") else (_from_module(where), "")
    function = getattr(module, name, None)
    if function is None:
        there = [each for each, value in vars(module).items() if callable(value) and not each.startswith("_")]
        known = f"it has {', '.join(sorted(there)[:10])}" if there else "it defines no function"
        raise ConfigError(f"{where} has no function {name!r}", hint=known)
    if not callable(function):
        raise ConfigError(f"{where}: {name!r} is a {type(function).__name__}, not a function")
    return function, digest


def _from_file(path: Path) -> tuple[ModuleType, str]:
    try:
        source = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror or type(error).__name__}",
            hint="a relative path counts from the suite file's folder",
        ) from None
    digest = hashlib.sha256(source).hexdigest()[:16]
    # A name of its own for every version of every file: two files called scorers.py do not meet.
    name = f"_judge_{path.stem}_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]}_{digest}"
    if name in sys.modules:
        return sys.modules[name], digest
    beside = str(path.resolve().parent)
    if beside not in sys.path:
        sys.path.append(beside)  # for what the file imports; last, so that it hides nothing that is installed
    module = ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module  # dataclasses and pickles of the file look their module up by its name
    try:
        # These very bytes, and no cache of an earlier version: a row's key holds their digest.
        exec(compile(source, str(path), "exec", dont_inherit=True), vars(module))  # noqa: S102 - the user's file
    except BaseException as error:
        del sys.modules[name]
        if not isinstance(error, Exception | SystemExit):
            raise
        raise _broken(str(path), error) from None
    return module, digest


def _from_module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except Exception as error:
        missing = isinstance(error, ModuleNotFoundError) and name.split(".")[0] == (error.name or "")
        hint = "install it, put it on PYTHONPATH, or write the path to a .py file" if missing else ""
        raise _broken(name, error, hint) from None


def _broken(where: str, error: BaseException, hint: str = "") -> ConfigError:
    if isinstance(error, SyntaxError):
        file = PurePath(error.filename).name if error.filename else where
        return ConfigError(f"{file}:{error.lineno}: {error.msg}", hint=hint or "mend the file's syntax")
    return ConfigError(f"{where} cannot be loaded: {whence(error)}: {str(error)[:200]}", hint=hint)
