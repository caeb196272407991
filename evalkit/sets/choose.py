"""Which samples to take: a stratified draw that a seed decides, the same on every machine and version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from evalkit.sample import Sample


def stratum(sample: Sample, by: str | None) -> str:
    """What the draw keeps in proportion: all of the tags together, a field of the metadata, or nothing."""
    if by is None:
        return ""
    if by == "tag":
        return "\x1f".join(sorted(set(sample.tags)))
    return str(sample.metadata.get(by.removeprefix("metadata."), ""))


def shares(sizes: Mapping[str, int], n: int) -> dict[str, int]:
    """How many of `n` each stratum gets, by largest remainder (Hamilton); ties go to the first by name.

    `n` is at most the sum of the sizes; no stratum gets more than it has.
    """
    total = sum(sizes.values())
    given, rest = {}, []
    for name in sorted(sizes):
        given[name], remainder = divmod(n * sizes[name], total)
        rest.append((-remainder, name))
    for _, name in sorted(rest)[: n - sum(given.values())]:
        given[name] += 1
    return given


def draw(rows: Sequence[int], strata: Sequence[str], ranks: Sequence[int], n: int) -> list[int]:
    """`n` of the rows, in their order: from each stratum its share, the rows of the lowest rank.

    A rank is a hash of the seed and the sample's id, so that a row more or less changes no other's luck.
    """
    members: dict[str, list[tuple[int, int]]] = {}
    for row, name, rank in zip(rows, strata, ranks, strict=True):
        members.setdefault(name, []).append((rank, row))
    wanted = shares({name: len(found) for name, found in members.items()}, n)
    return sorted(row for name, found in members.items() for _, row in sorted(found)[: wanted[name]])
