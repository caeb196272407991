"""Which samples to take: a stratified draw that a seed decides, the same on every machine and version."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from evalkit.meant import did_you_mean, there_are
from evalkit.rows import shown
from evalkit.sample import Sample
from evalkit.sets.spec import GoldenSpec
from guardrails.errors import ConfigError
from guardrails.meant import near


@dataclass(slots=True)
class Known:
    """The tags and the fields of metadata that the rows of a set have, if its spec names any."""

    spec: GoldenSpec
    tags: set[str] = field(default_factory=set)
    fields: set[str] = field(default_factory=set)

    def see(self, sample: Sample) -> None:
        """The next row."""
        where, drawn = self.spec.where, self.spec.sample
        if where.any or where.all or where.not_:
            self.tags.update(map(shown, sample.tags))
        if drawn is not None and drawn.by is not None:
            self.fields.update(shown(f"metadata.{name}") for name in sample.metadata)

    def mistakes(self) -> Iterator[ConfigError]:
        """Tags to take samples by, and a field to draw by, that no row has. Of `any` one is enough: sets that
        share a filter need not have all of its tags."""
        where, drawn = self.spec.where, self.spec.sample
        needed = (*(() if self._has_any() else where.any), *where.all)
        for tag in map(shown, dict.fromkeys(needed)):
            if tag not in self.tags:
                yield _none(f"`where` means the tag {tag!r}", tag, self.tags)
        by = shown(drawn.by or "tag") if drawn is not None else "tag"
        if by != "tag" and by not in self.fields:
            yield _none(f"`sample.by` means {by}", by, self.fields)

    def doubts(self) -> Iterator[str]:
        """Tags of `any` that no row has, beside others. Those to leave out are as well as left out, but for
        those that look misspelt."""
        for tag in map(shown, dict.fromkeys(self.spec.where.any)):
            if tag not in self.tags:
                guess = did_you_mean(tag, sorted(self.tags))
                yield f"`where.any` means the tag {tag!r} that no sample has{guess}"
        for tag in map(shown, self.spec.where.not_):
            if tag not in self.tags and (meant := near(tag, sorted(self.tags))) is not None:
                yield f"`where.not` means the tag {tag!r} that no sample has – did you mean `{meant}`?"

    def _has_any(self) -> bool:
        return not self.tags.isdisjoint(map(shown, self.spec.where.any))


def _none(said: str, name: str, names: set[str]) -> ConfigError:
    hint = there_are(names, name) if names else "the samples have none"
    return ConfigError(f"{said} that no sample has", hint=hint)


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
