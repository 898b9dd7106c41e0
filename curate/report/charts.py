"""Small charts as inline SVG, and numbers as people read them. Every text goes through markupsafe.

A chart is drawn in a fixed coordinate system and scaled by the browser; colors are CSS variables of the page, so that charts
follow its light and dark dress.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

WIDTH, HEIGHT = 340, 240
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 12, 40

Point = tuple[float, float]


def count(value: float) -> str:
    """Return a whole number with separators."""
    return f"{round(value):,}"


def short(value: float) -> str:
    """Return a number in three digits with k, M, G or T."""
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def percent(value: float | None) -> str:
    """Return a share as a percentage."""
    if value is None:
        return "–"
    return f"{100 * value:{'.3g' if abs(value) < 10 else ',.0f'}} %".replace("-", "\N{MINUS SIGN}")


def number(value: Any) -> str:
    """Return a number in four significant digits, anything else as text."""
    return f"{value:.4g}" if isinstance(value, float) else "–" if value is None else str(value)


def signed(value: float) -> str:
    """Return a number with its sign."""
    return f"{value:+.4f}".replace("-", "\N{MINUS SIGN}")


def visible(text: Any) -> str:
    """Return text with control and direction characters replaced: they could hide or reorder what is shown."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in str(text))


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Return round numbers that divide the range into about `wanted` parts."""
    span = high - low
    if not math.isfinite(span) or span <= 0:
        return [low]
    step = 10.0 ** math.floor(math.log10(span / wanted))
    step *= next((m for m in (1, 2, 5, 10) if span / (step * m) <= wanted), 10)
    first = math.ceil(low / step - 1e-9) * step
    return [round(first + i * step, 12) for i in range(int((high - first) / step + 1e-9) + 1)]


class Axes:
    """A chart in the making: two linear axes, and the marks drawn so far."""

    def __init__(self, x: tuple[float, float], y: tuple[float, float], labels: tuple[str, str], title: str) -> None:
        self.x, self.y, self.labels, self.title = _padded(*x), _padded(*y), labels, title
        self.marks: list[Markup] = []

    def at(self, x: float, y: float) -> Point:
        """Return where the data point (x, y) lies in the drawing."""
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        return round(LEFT + across * (WIDTH - LEFT - RIGHT), 1), round(HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM), 1)

    def line(self, points: Sequence[Point], kind: str = "a") -> None:
        """Draw a line through data points; `kind` is the letter of its color."""
        path = " ".join(f"{x},{y}" for x, y in (self.at(*point) for point in points))
        self.marks.append(Markup('<polyline class="line {}" points="{}"/>').format(kind, path))

    def band(self, low: Sequence[Point], high: Sequence[Point], kind: str = "a") -> None:
        """Fill the area between two lines."""
        path = " ".join(f"{x},{y}" for x, y in (self.at(*point) for point in [*low, *reversed(high)]))
        self.marks.append(Markup('<polygon class="band {}" points="{}"/>').format(kind, path))

    def dot(self, x: float, y: float, title: str, kind: str = "a") -> None:
        """Draw a dot with a title."""
        cx, cy = self.at(x, y)
        self.marks.append(Markup('<circle class="dot {}" cx="{}" cy="{}" r="3.5"><title>{}</title></circle>').format(kind, cx, cy, title))

    def bar(self, x: float, low: float, high: float, kind: str = "a") -> None:
        """Draw a vertical interval."""
        (cx, bottom), (_, top) = self.at(x, low), self.at(x, high)
        self.marks.append(Markup('<line class="interval {}" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(kind, cx, cx, bottom, top))

    def svg(self) -> Markup:
        """Return the chart."""
        parts = [Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">').format(WIDTH, HEIGHT, self.title)]
        for value in ticks(*self.x):
            cx, _ = self.at(value, self.y[0])
            parts.append(Markup('<line class="grid" x1="{0}" x2="{0}" y1="{1}" y2="{2}"/>').format(cx, TOP, HEIGHT - BOTTOM))
            parts.append(Markup('<text x="{}" y="{}" text-anchor="middle">{}</text>').format(cx, HEIGHT - BOTTOM + 14, f"{value:.4g}"))
        for value in ticks(*self.y):
            _, cy = self.at(self.x[0], value)
            parts.append(Markup('<line class="grid" x1="{0}" x2="{1}" y1="{2}" y2="{2}"/>').format(LEFT, WIDTH - RIGHT, cy))
            parts.append(Markup('<text x="{}" y="{}" text-anchor="end">{}</text>').format(LEFT - 6, cy + 4, f"{value:.4g}"))
        middle = (LEFT + WIDTH - RIGHT) / 2
        parts.append(Markup('<text class="label" x="{}" y="{}" text-anchor="middle">{}</text>').format(middle, HEIGHT - 6, self.labels[0]))
        turned = f"rotate(-90 12 {(TOP + HEIGHT - BOTTOM) / 2})"
        parts.append(
            Markup('<text class="label" x="12" y="{}" text-anchor="middle" transform="{}">{}</text>').format(
                (TOP + HEIGHT - BOTTOM) / 2, turned, self.labels[1]
            )
        )
        return Markup("").join([*parts, *self.marks, Markup("</svg>")])


def _padded(low: float, high: float) -> tuple[float, float]:
    if not (math.isfinite(low) and math.isfinite(high)):
        return 0.0, 1.0
    if high <= low:
        return low - 0.5, low + 0.5
    return low, high


def span(values: Sequence[float], pad: float = 0.06) -> tuple[float, float]:
    """Return the range of finite values, with some room on both sides."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return 0.0, 1.0
    low, high = min(finite), max(finite)
    room = (high - low) * pad or abs(high) * pad or 0.5
    return low - room, high + room
