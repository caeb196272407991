"""A linear model over hashed n-grams: the text classifier that needs nothing but numpy and 150 KB of weights.

Why this and not a transformer? It takes microseconds where those take tens of milliseconds, so it can judge
every message on the path. It knows words and spellings, not meaning: what that misses is in each model's
card (`weights/*.md`).

The features, the same for every model, so that several models share one extraction:

- The text is folded: lower case, no accents, white space to one space, runs of a character to two, invisible
  characters away. Only Unicode 3.2's tables are used: every Python version folds alike.
- Character n-grams (2 to 5, across words) and word n-grams (1 and 2) are hashed to 2^18 buckets by rolling
  polynomials over the array of code points; there is no loop over n-grams.
- A long text is judged in overlapping windows that begin and end at spaces, one about every `STRIDE`
  characters and as many strides long as the model says; an n-gram counts where all of it lies in the window.
  The sums of all windows come from one running total.
- A window's score is logistic(Σ worth · weight / √n-grams · scale + bias), where a word is worth three
  character n-grams; a text's is the highest of its windows.

Time and the number of n-grams are linear in the length (six per character at most), for any text.
Memory is that of one block: `BLOCK` characters.

    model = LinearModel.load("toxicity")
    model.score("have a nice day")              # 0.01
    for block in Features.of(text):             # one extraction, two models
        toxic, jailbreak = first.judge(block), second.judge(block)
"""

from __future__ import annotations

import functools
import json
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from importlib import resources
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeAlias

from guardrails.errors import ConfigError

if TYPE_CHECKING:
    from unicodedata import UCD

    import numpy as np
    import numpy.typing as npt

    Ints: TypeAlias = npt.NDArray[np.intp]
    Words: TypeAlias = npt.NDArray[np.uint32]

BITS = 18
STRIDE = 100
SLACK = 40  # how far back from its place a window's edge looks for a space
LONGEST = 4  # strides in a window, at most
BLOCK = 1 << 14

_ORDERS = (2, 3, 4, 5)
WORTH = (1, 1, 1, 1, 3, 3)  # of each kind: a text has four times as many character n-grams as characters
_ROWS = len(_ORDERS) + 2  # and words, and pairs of words
_FORMAT = "hashed-ngrams/1"

_TABLE = 0x2070  # the code points that are folded: up to general punctuation
_SPREAD = 0x9E3779B1  # odd constants: multiplying by one is a bijection of 32 bits
_ROLL = 0x85EBCA6B
_WORD = 0x01000193
_PAIR = 0xC2B2AE35
_FINISH = 0x2C1B3C6D
_MASK = 0xFFFFFFFF
_SPACE = (0x20 * _SPREAD) & _MASK


class Window(NamedTuple):
    """`text[start:end]` has this score (0 to 1)."""

    start: int
    end: int
    score: float


@dataclass(frozen=True, slots=True)
class Features:
    """The n-grams of one block of a text, and where it can be cut. Make them by `Features.of`.

    `buckets` (1-d) holds all n-grams, kind after kind. From cut `a` to cut `b` there are those at
    `low[k, a] <= i < high[k, b]` for each of the six kinds; that is `text[after[a]:before[b]]`. The first cut
    is the block's begin, the last its end.
    """

    buckets: Ints = field(repr=False)
    low: Ints = field(repr=False)
    high: Ints = field(repr=False)
    after: Ints = field(repr=False)
    before: Ints = field(repr=False)

    @classmethod
    def of(cls, text: str) -> Iterator[Features]:
        """Block by block; none for a text without a visible character."""
        overlap = LONGEST * STRIDE  # a window's worth of characters is in two blocks
        for at in range(0, max(1, len(text) - overlap), BLOCK - overlap):
            block = _extract(text[at : at + BLOCK], at)
            if block is not None:
                yield block

    def windows(self, strides: int) -> tuple[Ints, Ints, Ints, Ints]:
        """Of every window of so many strides: low and high (by kind), start and end in the text."""
        import numpy as np

        count = max(1, self.after.size - strides)
        low = self.low[:, :count]
        high = np.maximum(self.high[:, -count:], low)  # fewer than five characters: no n-gram of five
        return low, high, self.after[:count], self.before[-count:]


@dataclass(frozen=True, slots=True)
class Blocks:
    """The features of a text of many blocks, extracted anew each time: together they would be large."""

    text: str = field(repr=False)

    def __iter__(self) -> Iterator[Features]:
        return Features.of(self.text)


def blocks(text: str) -> Iterable[Features]:
    """The features of a text, for several models (see `detector.Reading`)."""
    return tuple(Features.of(text)) if len(text) <= BLOCK else Blocks(text)


@dataclass(frozen=True, slots=True)
class LinearModel:
    """Weights for `Features`. `weights` is int8, `scale` and `bias` turn their sums into log odds.

    `strides` is the length of its windows, `threshold` the score that the training script chose; `name` is
    the file's.
    """

    name: str
    weights: npt.NDArray[np.int8] = field(repr=False)
    scale: float
    bias: float
    threshold: float
    strides: int = LONGEST

    @classmethod
    def load(cls, name: str) -> LinearModel:
        """The embedded model of that name, read once per process."""
        return _load(name)

    @classmethod
    def decode(cls, name: str, data: bytes) -> Self:
        """A model from the bytes that `encode` made. Raises `ConfigError` if they are not whole."""
        import numpy as np

        try:
            header, _, packed = data.partition(b"\n")
            meta = json.loads(header)
            if meta["format"] != _FORMAT:
                raise ConfigError(
                    f"{name}: the model has format {meta['format']!r}, this version reads {_FORMAT}"
                )
            unpack = zlib.decompressobj()
            raw = unpack.decompress(packed, (1 << BITS) + 1)
            if len(raw) != 1 << BITS or not unpack.eof:
                raise ValueError("the weights are cut off")
            numbers = [float(meta[key]) for key in ("scale", "bias", "threshold")]
            strides = int(meta.get("strides", LONGEST))
            if not 1 <= strides <= LONGEST:
                raise ValueError(f"windows of {strides} strides")
        except (ValueError, KeyError, TypeError, zlib.error) as error:
            raise ConfigError(
                f"{name}: the model file is damaged ({error}); install the package again"
            ) from None
        scale, bias, threshold = numbers
        return cls(name, np.frombuffer(raw, np.int8), scale, bias, threshold, strides)

    def encode(self) -> bytes:
        """One line of JSON, then the weights, deflated."""
        meta = {
            "format": _FORMAT,
            "scale": self.scale,
            "bias": self.bias,
            "threshold": self.threshold,
            "strides": self.strides,
        }
        return json.dumps(meta).encode() + b"\n" + zlib.compress(self.weights.tobytes(), 9)

    def judge(self, block: Features) -> npt.NDArray[np.float64]:
        """The score of each window of the block, rounded to six places: there all platforms agree."""
        import numpy as np

        low, high, _, _ = block.windows(self.strides)
        totals = np.zeros(block.buckets.size + 1, np.int32)
        np.cumsum(self.weights.take(block.buckets), dtype=np.int32, out=totals[1:])
        sums = np.array(WORTH) @ (totals[high] - totals[low])
        odds = sums / np.sqrt((high - low).sum(0)) * self.scale + self.bias
        scores: npt.NDArray[np.float64] = (1 / (1 + np.exp(np.minimum(-odds, 60)))).round(6)
        return scores

    def windows(self, text: str) -> list[Window]:
        """The score of every window, in order of the text."""
        return [window for block in Features.of(text) for window in self.spans(block)]

    def spans(self, block: Features) -> list[Window]:
        """The block's windows with their scores."""
        _, _, starts, ends = block.windows(self.strides)
        return list(map(Window, starts.tolist(), ends.tolist(), self.judge(block).tolist()))

    def score(self, text: str) -> float:
        """The highest score of a window; 0 for a text without a visible character."""
        return max((float(self.judge(block).max()) for block in Features.of(text)), default=0.0)


@functools.cache
def _load(name: str) -> LinearModel:
    file = resources.files("guardrails.filters") / "weights" / f"{name}.linear"
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        raise ConfigError(
            f"there is no embedded model {name!r}", hint="see guardrails/filters/weights"
        ) from None
    return LinearModel.decode(name, data)


# --- extraction --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Tables:
    """By code point: what it counts as (spread over 32 bits; 0: nothing), and whether it is part of a word.

    By position in a block: the powers of `_WORD` and their inverses, modulo 2^32.
    """

    folded: Words
    letters: npt.NDArray[np.bool_]
    powers: Words
    inverses: Words


@functools.cache
def _tables() -> _Tables:
    from unicodedata import ucd_3_2_0 as unicode  # the same in every Python

    import numpy as np

    folded = [_fold(unicode, code) for code in range(_TABLE)]
    letters = [unicode.category(chr(code))[0] in "LN" for code in folded]
    size = BLOCK + 2
    return _Tables(
        np.array(folded, np.uint32) * np.uint32(_SPREAD),
        # What the table does not hold (emoji, Chinese) is no word: its character n-grams speak for it.
        np.array([*letters, False], np.bool_),
        np.cumprod(np.array([1] + [_WORD] * (size - 1), np.uint32), dtype=np.uint32),
        np.cumprod(np.array([1] + [pow(_WORD, -1, 1 << 32)] * (size - 1), np.uint32), dtype=np.uint32),
    )


def _fold(unicode: UCD, code: int) -> int:
    """The code point that stands for this one; 0 if it is invisible."""
    character = chr(code)
    category = unicode.category(character)
    if character == "\u200b":  # zero width; a space to Unicode 3.2
        return 0
    if character.isspace() or category == "Zs":
        return 0x20
    if category in ("Cc", "Cf", "Mn"):
        return 0
    if category == "Cn":  # younger than the table
        return code
    if character in "‘’‚‛":  # a keyboard's and an editor's apostrophe are one
        return ord("'")
    first = unicode.normalize("NFKD", character)[0].lower()
    return ord(first[0]) if first != " " else code


def _extract(text: str, offset: int) -> Features | None:
    import numpy as np

    chars, letters, place = _folded(np, text)
    size = chars.size
    if size < 3:  # one space, or two around nothing
        return None
    space = chars == _SPACE
    cuts = _cuts(np, space)
    edges = (letters[1:] != letters[:-1]).nonzero()[0] + 1  # a space begins and ends the text
    word_at, word_end = edges[::2], edges[1::2]
    hashes = _hashes(np, chars, word_at, word_end)
    # Where each kind begins among the hashes, and how much further its n-grams reach than one of their parts.
    words = len(_ORDERS) * size
    low = np.empty((_ROWS, cuts.size), np.intp)
    high = np.empty((_ROWS, cuts.size), np.intp)
    kinds = np.arange(len(_ORDERS))[:, None] * size
    low[:-2] = cuts + kinds
    high[:-2] = cuts - (np.array(_ORDERS)[:, None] - 2) + kinds  # the space at a cut belongs to both sides
    low[-2] = word_at.searchsorted(cuts) + words
    high[-2] = word_end.searchsorted(cuts + 1, "right") + words
    low[-1] = low[-2] + word_at.size
    high[-1] = high[-2] + (word_at.size - 1)
    here = space[cuts]
    # The last cut begins no window, and the first ends none.
    after = place[np.minimum(cuts + here, size - 1)] + offset
    before = place[np.minimum(cuts + ~here, size - 1)] + offset
    return Features(hashes, low, high, after, before)


def _folded(np: Any, text: str) -> tuple[Words, npt.NDArray[np.bool_], Ints]:
    """The characters (spread over 32 bits) between two spaces, which are letters, and where they stood."""
    tables = _tables()
    codes = np.frombuffer(f" {text} ".encode("utf-32-le", "surrogatepass"), "<u4")
    chars = tables.folded.take(codes, mode="clip")
    if codes.max() >= _TABLE:
        chars = np.where(codes < _TABLE, chars, codes * np.uint32(_SPREAD))
    letters = tables.letters.take(codes, mode="clip")
    place = np.arange(-1, codes.size - 1)
    if not chars.all():
        visible = chars.nonzero()[0]
        chars, letters, place = chars[visible], letters[visible], place[visible]
    again = np.zeros(chars.size, np.bool_)
    np.equal(chars[1:], chars[:-1], out=again[1:])
    again[2:] &= again[1:-1] | (chars[2:] == _SPACE)  # a second space is one too many, of others the third
    again[1] &= chars[1] == _SPACE
    if again.any():
        kept = (~again).nonzero()[0]
        chars, letters, place = chars[kept], letters[kept], place[kept]
    return chars, letters, place


def _hashes(np: Any, chars: Words, word_at: Ints, word_end: Ints) -> Ints:
    """The buckets of all n-grams, kind after kind: those of an order begin at every character.

    The last few of an order hang over the end, and the last pair of words has no second: no window has them.
    """
    tables = _tables()
    size, words = chars.size, word_at.size
    out = np.empty(len(_ORDERS) * size + 2 * words, np.uint32)
    grams = out[: len(_ORDERS) * size].reshape(len(_ORDERS), size)
    longest = np.zeros(size + len(_ORDERS), np.uint32)
    longest[:size] = rolled = chars
    for row in range(len(_ORDERS)):
        np.multiply(rolled, np.uint32(_ROLL), out=grams[row])
        grams[row] += longest[row + 1 : row + 1 + size]
        rolled = grams[row]
    # A word's polynomial is a difference of two running sums, moved back to position 0.
    running = np.zeros(size + 1, np.uint32)
    np.multiply(chars, tables.powers[:size], out=running[1:])
    running.cumsum(dtype=np.uint32, out=running)
    single, pairs = out[grams.size : grams.size + words], out[grams.size + words :]
    np.multiply(running[word_end] - running[word_at], tables.inverses[word_at], out=single)
    np.multiply(single, np.uint32(_PAIR), out=pairs)
    pairs[:-1] += single[1:]
    out ^= out >> np.uint32(15)
    out *= np.uint32(_FINISH)
    out >>= np.uint32(32 - BITS)
    buckets: Ints = out.astype(np.intp)
    return buckets


def _cuts(np: Any, space: npt.NDArray[np.bool_]) -> Ints:
    """Where windows of the folded text may begin and end; its first and last character are spaces."""
    end = space.size - 1
    if end <= STRIDE:
        whole: Ints = np.array([0, end])
        return whole
    spaces = space.nonzero()[0]
    goals = np.arange(0, end, STRIDE)
    near = spaces[spaces.searchsorted(goals, "right") - 1]
    near = np.where(goals - near <= SLACK, near, goals)
    cuts: Ints = np.append(near, end)
    return cuts
