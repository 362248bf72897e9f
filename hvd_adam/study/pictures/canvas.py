"""Draws in SVG: axes, marks whose value shows on hover, labels beside what they name. Colours are left to the page."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from html import escape

from hvd_adam.study.figures import count

LINE = 14  # pixels between two lines of labels
_LETTER = 7.7  # pixels of a digit in DejaVu Sans, the widest of the fonts below

STYLE = """
.picture{font:12px system-ui,-apple-system,"Segoe UI",Roboto,Helvetica,Arial,sans-serif;--ink:#1c2024;--quiet:#687076;
--rule:#e3e5e8;--accent:#0f6e84;--warm:#a3541b;--paper:#fff}
.picture text{fill:var(--ink);font-variant-numeric:tabular-nums}.picture .quiet{fill:var(--quiet)}
.picture .name{fill:var(--accent);font-weight:600}.picture .warm{fill:var(--warm)}
.picture .rule{stroke:var(--rule);fill:none}.picture .axis{stroke:var(--quiet);fill:none}
.picture .line{stroke:var(--accent);fill:none;stroke-width:2;stroke-linejoin:round}
.picture .thin{stroke-width:1}.picture .ideal{stroke:var(--quiet);fill:none;stroke-dasharray:5 4}
.picture .curve{stroke:var(--warm);fill:none;stroke-width:1.5}.picture .band{fill:var(--accent);opacity:.13}
.picture .greyband{fill:var(--quiet);opacity:.12}.picture .whisker{stroke:var(--accent);stroke-width:2}
.picture .dot{fill:var(--accent);stroke:var(--paper);stroke-width:1.5}.picture .seed{fill:var(--accent);opacity:.35}
.picture .open{fill:var(--paper);stroke:var(--accent);stroke-width:1.5}.picture .bar{fill:var(--accent)}
.picture .hit{fill:transparent;stroke:none;pointer-events:all}.picture .mark:hover .dot{stroke:var(--ink)}
@media (prefers-color-scheme:dark){.picture{--ink:#e6e8ea;--quiet:#99a1a8;--rule:#30363b;--accent:#5cc1d6;
--warm:#e0a273;--paper:#15181b}}
@media print{.picture{--ink:#000;--quiet:#555;--rule:#ddd;--accent:#0f6e84;--warm:#a3541b;--paper:#fff}}
"""


@dataclass(frozen=True)
class Scale:
    """From values to pixels, linear or logarithmic; `low` and `high` come to lie at `start` and `end`."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        a, b, v = (math.log(max(x, 1e-300)) for x in (self.low, self.high, value)) if self.log else (
            self.low, self.high, value
        )  # fmt: skip
        return self.start + (self.end - self.start) * (v - a) / (b - a)

    def holds(self, value: float) -> bool:
        """Whether a value lies on it."""
        return self.low <= value <= self.high

    def clip(self, value: float) -> float:
        """The nearest value on it."""
        return min(max(value, self.low), self.high)

    def ticks(self, most: int = 6) -> list[float]:
        """Round values on it, `most` or fewer where it can be had."""
        return _log_ticks(self.low, self.high, most) if self.log else _linear_ticks(self.low, self.high, most)


def around(values: Iterable[float], log: bool = True, room: float = 0.06) -> tuple[float, float]:
    """The least and the largest finite value, with some room on both sides."""
    known = [v for v in values if math.isfinite(v) and (v > 0 or not log)]
    if not known:
        return (1.0, 10.0) if log else (0.0, 1.0)
    low, high = min(known), max(known)
    if log:
        margin = max(math.log(high / low) * room, 0.04)
        return low / math.exp(margin), high * math.exp(margin)
    margin = (high - low) * room or abs(high) * 0.1 or 1.0
    return low - margin, high + margin


def _log_ticks(low: float, high: float, most: int) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9), (1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        found = [d * 10.0**k for k in decades for d in digits if low <= d * 10.0**k <= high]
        if len(found) <= most:
            break
    if len(found) < 3:  # within a part of a decade
        return _linear_ticks(low, high, most)
    return found[:: -(-len(found) // most)]


def _linear_ticks(low: float, high: float, most: int) -> list[float]:
    raw = (high - low) / most
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(unit * m for m in (1, 2, 2.5, 5, 10) if unit * m >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(step * i, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


@dataclass
class Canvas:
    """One picture of a given size in pixels, with room for axes. The upright one comes first: its labels make room.

    Args:
        left, right, top, bottom: margins; the left one grows to what the labels of `y_axis` take.
    """

    width: float
    height: float
    left: float = 52
    right: float = 16
    top: float = 26
    bottom: float = 44
    parts: list[str] = field(default_factory=list)

    def x(self, low: float, high: float, log: bool = False) -> Scale:
        """A scale from the left to the right edge."""
        return Scale(low, high, self.left, self.width - self.right, log)

    def y(self, low: float, high: float, log: bool = False) -> Scale:
        """A scale from the bottom to the top edge."""
        return Scale(low, high, self.height - self.bottom, self.top, log)

    def x_axis(
        self, scale: Scale, name: str, ticks: Sequence[float] | None = None, write: Callable[[float], str] = count
    ) -> None:
        """Ticks and name below; ticks whose labels would touch are left out."""
        base = self.height - self.bottom
        self.line([(self.left, base), (self.width - self.right, base)], "axis")
        end = -math.inf
        for tick in scale.ticks() if ticks is None else ticks:
            lines = write(tick).split("\n")
            at, half = scale(tick), max(map(len, lines)) * _LETTER / 2
            self.line([(at, base), (at, base + 4)], "axis")
            if at - half < end + 4:
                continue
            end = at + half
            for i, text in enumerate(lines):
                self.text(at, base + 17 + LINE * i, text, "quiet", "middle")
        self.text(self.width - self.right, self.height - 4, name, "quiet", "end")

    def y_axis(
        self, scale: Scale, name: str, ticks: Sequence[float] | None = None, write: Callable[[float], str] = count
    ) -> None:
        """Rules across, their labels to the left, the name above; labels that would touch one below are left out."""
        ticks = scale.ticks() if ticks is None else ticks
        self.left = max([self.left, *(width_of(write(tick)) + 8 for tick in ticks)])
        end = math.inf
        for tick in ticks:
            at = scale(tick)
            self.line([(self.left, at), (self.width - self.right, at)], "rule")
            if at > end - LINE:
                continue
            end = at
            self.text(self.left - 7, at + 4, write(tick), "quiet", "end")
        self.text(0, 12, name, "quiet")

    def line(
        self, points: Sequence[tuple[float, float]], css: str = "line", title: str = "", opacity: float = 1
    ) -> None:
        """A line through pixel positions."""
        points = [point for point in points if math.isfinite(point[0] + point[1])]
        if len(points) < 2:
            return
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        shade = f' opacity="{opacity:.2g}"' if opacity < 1 else ""
        self.parts.append(_titled("polyline", f'class="{css}" points="{path}"{shade}', title))

    def area(
        self, upper: Sequence[tuple[float, float]], lower: Sequence[tuple[float, float]], css: str = "band"
    ) -> None:
        """The band between two lines."""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (*upper, *reversed(lower)))
        self.parts.append(f'<polygon class="{css}" points="{path}"/>')

    def dot(self, x: float, y: float, title: str, css: str = "dot", radius: float = 4.5) -> None:
        """A point that tells its value on hover; a larger unseen circle makes it easy to meet."""
        if not math.isfinite(x + y):
            return
        inner = f'<circle class="{css}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}"/>'
        hit = f'<circle class="hit" cx="{x:.1f}" cy="{y:.1f}" r="{max(10.0, radius):g}"/>' if radius > 3 else ""
        self.parts.append(f'<g class="mark"><title>{escape(title)}</title>{inner}{hit}</g>')

    def bar(
        self, x: float, y: float, width: float, height: float, title: str, css: str = "bar", opacity: float = 1
    ) -> None:
        """A rectangle that tells its value on hover."""
        shade = f' opacity="{opacity:g}"' if opacity < 1 else ""
        size = f'x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{height:.1f}"'
        self.parts.append(_titled("rect", f'class="{css}" {size}{shade}', title))

    def whisker(self, x: float, low: float, high: float, title: str = "", css: str = "whisker") -> None:
        """An upright interval between two pixel heights."""
        if not math.isfinite(low + high):
            return
        place = f'x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}"'
        self.parts.append(_titled("line", f'class="{css}" {place}', title))

    def interval(self, x: float, scale: Scale, low: float, high: float, title: str = "") -> None:
        """An upright interval of values on a scale; an end that lies beyond it is an arrow."""
        ends = scale(scale.clip(low)), scale(scale.clip(high))
        self.whisker(x, *ends, title)
        for value, edge, back in ((low, ends[0], -5), (high, ends[1], 5)):
            if not scale.holds(value):
                self.line([(x - 4, edge + back), (x, edge), (x + 4, edge + back)], "line thin")

    def text(self, x: float, y: float, words: str, css: str = "", anchor: str = "start") -> None:
        """Words at a pixel position."""
        where = f'x="{x:.1f}" y="{y:.1f}"' + (f' text-anchor="{anchor}"' if anchor != "start" else "")
        self.parts.append(f"<text {where}{f' class={chr(34)}{css}{chr(34)}' if css else ''}>{escape(words)}</text>")

    def labels(self, x: float, wanted: Sequence[tuple[float, str]], css: str = "") -> None:
        """Words one below the other beside what they name, pushed apart where they would touch."""
        order = sorted(range(len(wanted)), key=lambda i: wanted[i][0])
        places = spread([wanted[i][0] for i in order], LINE, self.top + 4, self.height - self.bottom)
        for at, i in zip(places, order, strict=True):
            self.text(x, at + 4, wanted[i][1], css)

    def below(self, wanted: Sequence[tuple[float, float, str]]) -> None:
        """Short words under the points that they name, pushed apart sideways where they would touch."""
        order = sorted(wanted)
        gap = max((width_of(words) for *_, words in order), default=0) + 8
        places = spread([x for x, *_ in order], gap, self.left + gap / 2, self.width - gap / 2)
        for at, (_, y, words) in zip(places, order, strict=True):
            self.text(at, y + 15, words, "", "middle")

    def swatches(self, names: Sequence[tuple[str, float]]) -> None:
        """Names in the right margin, each behind a short line of its opacity: for names that are long."""
        gap = min(16.0, (self.height - self.top - self.bottom) / max(len(names), 1))
        left = self.width - self.right + 8
        for i, (name, opacity) in enumerate(names):
            at = self.top + 8 + gap * i
            self.line([(left, at), (left + 14, at)], "line", opacity=opacity)
            self.text(left + 19, at + 4, name, "quiet")

    def svg(self, alone: bool = False, alt: str = "", css: str = "") -> str:
        """The whole; `alone` makes a file of its own, with style, paper and alternative text inside."""
        size = f'viewBox="0 0 {self.width:g} {self.height:g}"'
        if alone:
            size += f' width="{self.width:g}" height="{self.height:g}" xmlns="http://www.w3.org/2000/svg"'
        paper = f'<rect width="{self.width:g}" height="{self.height:g}" style="fill:var(--paper)"/>'
        style = f"<style>{STYLE}</style>{paper}" if alone else ""
        label = f' role="img" aria-label="{escape(alt)}"'
        return f'<svg class="picture {css}" {size}{label}>{style}{"".join(self.parts)}</svg>'


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Places at least `gap` apart in the given order, as near to the wanted ones as one pass each way brings them.

    >>> spread([10, 11, 40], 10, 0, 100)
    [10, 20, 40]
    """
    places = list(wanted)
    for i, place in enumerate(places):
        places[i] = max(place, places[i - 1] + gap if i else low)
    if places and places[-1] > high:
        places[-1] = high
        for i in range(len(places) - 2, -1, -1):
            places[i] = min(places[i], places[i + 1] - gap)
    return places


def width_of(words: str) -> float:
    """Pixels that words take, roughly."""
    return len(words) * _LETTER


def _titled(tag: str, attributes: str, title: str) -> str:
    return f"<{tag} {attributes}><title>{escape(title)}</title></{tag}>" if title else f"<{tag} {attributes}/>"
