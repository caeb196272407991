"""From what a suite names to a golden set: one pass over the rows, and all problems told at once."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import tempfile
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, Any

from evalkit import datasets
from evalkit.mistakes import Mistakes
from evalkit.rows import Problems, Row, shown
from evalkit.sample import GoldenSet, GoldenSetError, Sample
from evalkit.sets import formats, openai_evals, promptfoo
from evalkit.sets.choose import Known, draw, stratum
from evalkit.sets.mapping import Mapping as Fields
from evalkit.sets.mapping import Unfit
from evalkit.sets.pages import File, Index, Order, Samples, Store
from evalkit.sets.row import EXAMPLE, parsed
from evalkit.sets.spec import GoldenSpec
from guardrails.meant import MOST, near

Adapt = Callable[[Row, str], Any]


def load(spec: Any, folder: Path | None = None) -> GoldenSet:
    """Load what `spec` names (see `evalkit.sets.spec`); paths are relative to `folder`.

    Raises `GoldenSetError` with every problem of the files, `ConfigError` for a spec that is none.
    """
    spec = GoldenSpec.of(spec)
    sources = list(_sources(spec, folder or Path()))
    whole = sources[0].path if len(sources) == 1 else (folder or Path()) / (spec.path or "")
    problems = Problems()
    pass_ = _Pass(spec, problems, _direct(sources, spec), Known(spec))
    try:
        for source in sources:
            problems.file = source.name if len(sources) > 1 else ""
            pass_.read(source)
        problems.file = ""
        if not len(pass_.index) and not problems.count:
            raise _file_error(whole, "holds no samples", hint=f"put one on each line, such as {EXAMPLE}")
        store = pass_.store(whole)
    except OSError as error:
        raise _file_error(whole, f"cannot be read: {error.strerror or type(error).__name__}") from None
    finally:
        pass_.close()
    _twice(pass_, store, problems)
    if problems.count:
        raise GoldenSetError(whole, problems)
    samples = Samples(store, pass_.chosen(whole))
    hashes = [source.sha256 for source in sources]
    sha256 = hashes[0] if len(hashes) == 1 else hashlib.sha256("\n".join(hashes).encode()).hexdigest()
    name, version = spec.name or _name(spec, whole, len(sources)), spec.version or _version(sources)
    digest = hashlib.sha256(json.dumps([sha256, spec.use], sort_keys=True).encode()).hexdigest()
    about = {
        "name": name,
        "path": str(whole),
        "sha256": sha256,
        "digest": digest,
        "version": version,
        "rows": len(pass_.index),
        "samples": len(samples),
        "use": spec.use,
    }
    return GoldenSet(name, whole, samples, sha256, version, digest, about, (*pass_.known.doubts(),))


# --- where it is -------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Source:
    """A file (or a data set of Hugging Face) to read. `sha256` is there once it has been read."""

    path: Path
    name: str
    folder: Path | None
    rows: Callable[[Problems], Iterator[Row | str]]
    adapt: Adapt | None
    plain: bool = False  # one row a line, as we write them
    sha256: str = ""
    builtin: str | None = None


def _sources(spec: GoldenSpec, folder: Path) -> Iterator[_Source]:
    if spec.hf is not None:
        from evalkit.sets import hugging

        path, name = Path(spec.hf), spec.hf
        yield _Source(
            path, name, None, lambda problems: hugging.read(spec, folder, problems), _adapter(spec, "hf")
        )
        return
    paths, builtin = _paths(spec, folder)
    bare = [path.name for path in paths]
    for path in paths:
        kind = spec.format or formats.SUFFIXES.get(formats.suffix_of(path) or "")
        if kind is None:
            raise _file_error(path, "has no suffix that says its format", hint=f"name it {formats.SAID}")
        adapt = _adapter(spec, kind)

        def rows(problems: Problems, path: Path = path, kind: str = kind) -> Iterator[Row | str]:
            return formats.read(path, kind, problems, own=not spec.fields)

        name = path.name if bare.count(path.name) == 1 else str(path)
        plain = kind == "jsonl" and adapt is None and not path.name.lower().endswith(".gz")
        yield _Source(path, name, path.parent, rows, adapt, plain, builtin=builtin)


def _adapter(spec: GoldenSpec, kind: str) -> Adapt | None:
    """What makes our fields of a row's; None when they are ours already."""
    adapt: Adapt | None = None
    fields = Fields.of(spec.fields) if spec.fields else None
    if kind == "promptfoo":
        adapt = promptfoo.Adapter(fields)
    elif fields is not None:
        adapt = fields
    elif kind == "openai-evals":
        adapt = openai_evals.adapt
    elif kind in ("hf", "parquet"):
        adapt = _numbered
    return _tagging(adapt, spec.tags) if spec.tags else adapt


def _numbered(row: Row, file: str) -> Any:
    """Tables often have no ids: a row's number is one."""
    if isinstance(row.fields, dict) and row.fields.get("id") is None:
        return {**row.fields, "id": f"row-{row.line}"}
    return row.fields


def _tagging(adapt: Adapt | None, tags: tuple[str, ...]) -> Adapt:
    def tagged(row: Row, file: str) -> Any:
        fields = row.fields if adapt is None else adapt(row, file)
        if not isinstance(fields, dict):
            return fields
        own = fields.get("tags") or []
        own = [own] if isinstance(own, str) else own
        if not isinstance(own, list):  # told with all other problems
            return fields
        return {**fields, "tags": [*own, *(tag for tag in tags if tag not in own)]}

    return tagged


def _paths(spec: GoldenSpec, folder: Path) -> tuple[list[Path], str | None]:
    """The files of a set, and its name when it is a built-in one."""
    if spec.builtin is not None:
        return [datasets.path(spec.builtin)], spec.builtin
    assert spec.path is not None, "a spec has one place"
    path = folder / spec.path
    try:
        exists, is_folder, is_file = path.exists(), path.is_dir(), path.is_file()
    except (OSError, ValueError):
        exists = is_folder = is_file = False
    if exists:
        if is_folder:
            raise _file_error(path, "is a folder", hint=f"name a file in it, or several: {spec.path}/*.jsonl")
        if not is_file:  # a pipe would hang, a device would never end
            raise _file_error(path, "is no regular file", hint="copy what it gives to a file")
        return [path], None
    builtin = datasets.names()
    if spec.path in builtin:
        return [datasets.path(spec.path)], spec.path
    if any(mark in spec.path for mark in "*?["):
        found = sorted(Path(each) for each in glob.glob(str(path), recursive=True))  # noqa: PTH207 - absolute patterns too
        if files := [each for each in found if each.is_file()]:
            return files, None
        raise _file_error(
            path, "matches no file", hint="check the pattern, and the folder that it is relative to"
        )
    named = f"; the built-in sets are {', '.join(builtin)}" if builtin else ""
    meant = _meant(path, builtin)
    raise _file_error(path, "there is no such file", hint=f"check the path{named}{meant}")


def _meant(path: Path, builtin: Sequence[str]) -> str:
    """A file beside the one that is not there, or a built-in set, if its name without a suffix is near."""
    there: dict[str, str] = {}
    try:
        for each in islice(path.parent.iterdir(), MOST):
            if formats.suffix_of(each):
                there[_stem(each)] = each.name
    except (OSError, ValueError):  # no such folder either
        pass
    found = near(_stem(path), there := {**there, **dict(zip(builtin, builtin, strict=True))})
    return "" if found is None else f" – did you mean `{shown(there[found])}`?"


def _stem(path: Path) -> str:
    return Path(path.name.removesuffix(".gz")).stem


def _file_error(path: Path, reason: str, *, hint: str = "") -> GoldenSetError:
    problems = Problems()
    problems.add(0, "file", reason)
    return GoldenSetError(path, problems, hint=hint)


def _name(spec: GoldenSpec, path: Path, files: int) -> str:
    if spec.hf is not None:
        return "-".join([spec.hf.rstrip("/").rsplit("/", 1)[-1], *filter(None, (spec.subset, spec.split))])
    name = path.name
    for suffix in (".gz", formats.suffix_of(path) or ""):
        if suffix and name.lower().endswith(suffix):
            name = name[: -len(suffix)]
    # A built-in set is a folder with a samples.jsonl in it.
    return path.resolve().parent.name if files > 1 or name == "samples" else name


def _version(sources: list[_Source]) -> str | None:
    builtin = sources[0].builtin
    return None if builtin is None else datasets.card(builtin).version


def _direct(sources: list[_Source], spec: GoldenSpec) -> Path | None:
    """The file whose own bytes are kept open: one that has a row a line, as we write them."""
    return sources[0].path if len(sources) == 1 and sources[0].plain else None


# --- the pass ----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Pass:
    """What one pass over the rows finds out. Rows that do not lie in a file as ours go to a temporary one."""

    spec: GoldenSpec
    problems: Problems
    direct: Path | None
    known: Known
    index: Index = field(default_factory=Index)
    ranks: array[int] = field(default_factory=lambda: array("Q"))
    taken: array[int] = field(default_factory=lambda: array("Q"))
    strata: list[str] = field(default_factory=list)
    _names: dict[str, str] = field(default_factory=dict)
    _spool: IO[bytes] | None = None
    _opened: os.stat_result | None = None
    _end: int = 0

    def read(self, source: _Source) -> None:
        """All rows of a source. Raises OSError."""
        if self.direct is None and self._spool is None:
            self._spool = tempfile.TemporaryFile(prefix="evalkit-")  # noqa: SIM115 - closed by `close`
        elif self.direct is not None:
            self._opened = self.direct.stat()
        self.index.files.append(File(len(self.index), source.name, source.folder))
        for row in source.rows(self.problems):
            if isinstance(row, str):
                source.sha256 = row
            else:
                self._row(row, source)

    def _row(self, row: Row, source: _Source) -> None:
        fields = row.fields
        if source.adapt is not None:
            try:
                fields = source.adapt(row, source.name)
            except Unfit as error:
                self.problems.add(row.line, error.place, error.message)
                return
            except (ValueError, RecursionError) as error:  # its message may quote the row
                self.problems.add(row.line, "row", f"cannot be used ({type(error).__name__})")
                return
        sample = parsed(fields, row.line, self.problems, source.folder)
        if sample is None:
            return
        start, end = row.start, row.end
        if self._spool is not None:
            written = json.dumps(fields).encode()
            self._spool.write(written)
            start, end = self._end, self._end + len(written)
            self._end = end
        number = len(self.index)
        self.index.add(start, end, row.line, sample)
        self.known.see(sample)
        self.ranks.append(_rank(sample.id, self.spec.sample.seed if self.spec.sample else 0))
        if self.spec.where.takes(sample.tags):
            self._take(number, sample)

    def _take(self, number: int, sample: Sample) -> None:
        self.taken.append(number)
        if self.spec.sample is not None:
            name = stratum(sample, self.spec.sample.by)
            self.strata.append(self._names.setdefault(name, name))

    def store(self, path: Path) -> Store:
        """The file to read samples from. Raises OSError, or `GoldenSetError` when it changed meanwhile."""
        if self._spool is not None:
            self._spool.flush()
            return Store(os.dup(self._spool.fileno()), self.index, path)
        assert self.direct is not None, "a pass has a file or a spool"
        assert self._opened is not None, "it was read before"
        descriptor = os.open(self.direct, os.O_RDONLY | os.O_CLOEXEC)
        now, before = os.fstat(descriptor), self._opened
        store = Store(descriptor, self.index, path)
        if (now.st_ino, now.st_size, now.st_mtime_ns) != (before.st_ino, before.st_size, before.st_mtime_ns):
            raise _file_error(path, "was changed while it was read", hint="run again when it is complete")
        return store

    def close(self) -> None:
        """Let go of the temporary file; the store has its own hold of it."""
        if self._spool is not None:
            self._spool.close()

    def chosen(self, path: Path) -> Order:
        """The rows that the spec's filters, draw and limit leave, in their order."""
        wrong = Mistakes([_file_error(path, each.message, hint=each.hint) for each in self.known.mistakes()])
        wrong.tell()
        rows: Order = self.taken
        wanted = self.spec.sample
        if wanted is not None:
            if wanted.n > len(rows):
                raise _file_error(
                    path,
                    f"`sample` asks for {wanted.n:,} samples, and {len(rows):,} are there to draw from",
                    hint="lower `sample.n`, or use `limit`, which takes what is there",
                )
            rows = array("Q", draw(rows, self.strata, [self.ranks[row] for row in rows], wanted.n))
        if self.spec.limit is not None:
            rows = rows[: self.spec.limit]
        if not rows:
            raise _file_error(
                path, "has no sample with such tags", hint="check `where` against the set's tags"
            )
        return range(len(self.index)) if len(rows) == len(self.index) else rows


def _rank(name: str, seed: int) -> int:
    key = str(seed).encode()
    if len(key) > hashlib.blake2b.MAX_KEY_SIZE:
        key = hashlib.blake2b(key).digest()
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8, key=key).digest(), "big")


def _twice(pass_: _Pass, store: Store, problems: Problems) -> None:
    """Report each id that is there twice: equal ids have equal ranks."""
    import numpy as np

    ranks = np.frombuffer(pass_.ranks, dtype=np.uint64)
    order = np.argsort(ranks, kind="stable")
    same = np.flatnonzero(ranks[order[1:]] == ranks[order[:-1]])
    first: dict[int, int] = {}
    index = pass_.index
    for before, after in zip(order[same].tolist(), order[same + 1].tolist(), strict=True):
        first[after] = first.get(before, before)
        one, other = store.read(first[after]).id, store.read(after).id
        if one != other:
            continue  # 64 bits can be equal by chance
        several = len(index.files) > 1
        line = f"{index.lines[first[after]]}"
        place = f"{index.file(first[after]).name}:{line}" if several else f"line {line}"
        problems.add(
            index.lines[after],
            "id",
            f'"{one}" is the id of {place} too',
            file=index.file(after).name if several else "",
        )
