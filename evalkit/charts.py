"""Small pictures as inline SVG: intervals, cumulative distributions. Pure strings, nothing loaded.

Colours are classes (`s0`, `s1`, …) that the page's style sheet defines for light and dark. Text that comes
from outside is escaped here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from unicodedata import east_asian_width

from evalkit.stats import Measured

WIDTH = 460
LABEL = 132
GAP = 10
RIGHT = 20
ROW = 26
LONGEST = 17
"""Characters of a label; the whole name is in its title."""


def intervals(
    rows: Sequence[tuple[str, Sequence[Measured | None]]],
    shown: Callable[[float], str],
    *,
    top: float | None = None,
    title: str,
    by_row: bool = False,
) -> str:
    """A line per row, a dot with its interval per series. `top`: the axis' end; None takes the data's.

    Each series has a colour; with `by_row` each row has, which then is an arm.
    """
    ends = [m.high if math.isfinite(m.high) else m.value for _, ms in rows for m in ms if m is not None]
    if not ends:
        return ""
    limit = top if top is not None else nice(max(ends))
    series = max(len(ms) for _, ms in rows)
    step = max(ROW, 14 * series)
    height = step * len(rows) + 34
    x = _scale(limit)
    parts = [_axis(limit, shown, height, x)]
    names = shortened([label for label, _ in rows])
    for number, (label, measures) in enumerate(rows):
        middle = step * number + step / 2 + 6
        parts.append(_label(names[number], middle + 4, label))
        for index, m in enumerate(measures):
            if m is not None:
                y = middle + (index - (len(measures) - 1) / 2) * 12
                parts.append(_dot(m, number if by_row else index, y, x, limit, f"{label}: {shown(m.value)}"))
    return _svg(height, title, parts)


def _dot(m: Measured, index: int, y: float, x: Callable[[float], float], limit: float, said: str) -> str:
    low, high = x(max(0.0, min(m.low, limit))), x(min(m.high, limit))
    return (
        f'<g class="s{index % 6}"><title>{escape(said)} (n = {m.n})</title>'
        f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{y:.1f}" y2="{y:.1f}" class="bar"/>'
        f'<circle cx="{x(min(m.value, limit)):.1f}" cy="{y:.1f}" r="5"/></g>'
    )


def ecdf(series: Mapping[str, tuple[int, Sequence[float]]], *, unit: str, title: str) -> str:
    """For each series the share of values at or below x. The slowest hundredth is cut when it is far out.

    A series is how many values there are, and values of evenly spread ranks, the first and the last included.
    """
    found = {name: sorted(values) for name, (_, values) in series.items() if values}
    if not found:
        return ""
    limit = nice(max(values[max(0, math.ceil(0.99 * len(values)) - 1)] for values in found.values()))
    height, top, bottom = 210, 10, 180
    x = _scale(limit)
    parts = [_axis(limit, lambda value: f"{value:,.4g}{unit}", height, x)]
    for share in (0.5, 0.9, 1.0):
        y = bottom - share * (bottom - top)
        parts.append(
            f'<line x1="{LABEL}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>'
            + _label(f"{100 * share:.0f}%", y + 4)
        )
    for index, name in enumerate(series):
        points = _steps(found.get(name, []), limit, x, top, bottom)
        label = f"{escape(name)} (n = {series[name][0]:,})"
        parts.append(f'<path d="{points}" class="s{index % 6} curve"><title>{label}</title></path>')
    return _svg(height, title, parts)


def _steps(
    values: Sequence[float], limit: float, x: Callable[[float], float], top: float, bottom: float
) -> str:
    if not values:
        return ""
    path = [f"M{x(min(values[0], limit)):.1f},{bottom:.1f}"]
    for number, value in enumerate(values, 1):
        if value > limit:
            break
        path.append(f"H{x(value):.1f}V{bottom - number / len(values) * (bottom - top):.1f}")
    return "".join(path) + f"H{x(limit):.1f}"


# --- labels ------------------------------------------------------------------------------------------------


def shortened(names: Sequence[str]) -> list[str]:
    """The names in `LONGEST` characters: cut in the middle, so that those that differ still do."""
    for head in (6, 3, 10, 0, LONGEST - 1):
        made = [_cut(name, head, LONGEST) for name in names]
        if len(set(made)) == len(set(names)):
            return made
    known = {name: number for number, name in enumerate(dict.fromkeys(names), start=1)}
    return [f"{_cut(name, 6, LONGEST - 4)} {known[name]}" for name in names]


def _cut(name: str, head: int, most: int) -> str:
    if len(name) <= most:
        return name
    head = min(head, most - 1)
    return f"{name[:head]}…{name[len(name) - (most - 1 - head) :]}"


def _label(text: str, y: float, title: str = "") -> str:
    """Left of the axis, squeezed where it would be cut off at the picture's edge."""
    room = LABEL - GAP - 2
    fitted = f' textLength="{room}" lengthAdjust="spacingAndGlyphs"' if _width(text) > room else ""
    told = f"<title>{escape(title)}</title>" if title else ""
    return f'<text x="{LABEL - GAP}" y="{y:.1f}" class="name"{fitted}>{told}{escape(text)}</text>'


def _width(text: str) -> float:
    """About so many units a text is wide, in the widest fonts that browsers have for `system-ui`."""
    return sum(14 if east_asian_width(one) in "WF" else _WIDTHS.get(one, 8.3) for one in text)


_WIDTHS = {**dict.fromkeys("mwMW@%…", 12.8), **dict.fromkeys("fijlrtI.,:;'|!-/() ", 5)}


# --- parts -------------------------------------------------------------------------------------------------


def nice(value: float) -> float:
    """The smallest of 1, 1.5, 2, 3, 4, 5, 6, 8 × a power of ten that is at least `value`."""
    if value <= 0 or not math.isfinite(value):
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    steps = (1, 1.5, 2, 3, 4, 5, 6, 8, 10)
    return next(step * power for step in steps if step * power >= value * (1 - 1e-12))


def _scale(limit: float) -> Callable[[float], float]:
    return lambda value: LABEL + (WIDTH - RIGHT - LABEL) * value / limit


def _axis(limit: float, shown: Callable[[float], str], height: float, x: Callable[[float], float]) -> str:
    parts = []
    for part in range(5):
        value = limit * part / 4
        at = x(value)
        anchor = "end" if part == 4 else "middle"
        parts.append(
            f'<line x1="{at:.1f}" x2="{at:.1f}" y1="6" y2="{height - 26}" class="grid"/>'
            f'<text x="{at + (RIGHT if part == 4 else 0):.1f}" y="{height - 8}" class="tick" '
            f'text-anchor="{anchor}">{escape(shown(value))}</text>'
        )
    return "".join(parts)


def _svg(height: float, title: str, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(title)}" '
        f'xmlns="http://www.w3.org/2000/svg">{"".join(parts)}</svg>'
    )
