# SPDX-License-Identifier: Apache-2.0
"""Plots as SVG text: lines over a logarithmic axis, and bars, both with the range of the rounds; and curves over time.

No plotting library: these shapes need a hundred lines, the same input gives the same bytes, and a diff of a plot can be read.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor, log10
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.document.results import Spread

__all__ = ["Axes", "Bar", "Curve", "Line", "bars", "lines", "over_time"]

_WIDTH, _HEIGHT = 720, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 170, 40, 60
_COLOURS = {
    "direct": "#8a8a8a",
    "acmgproxy": "#0b62a4",
    "nginx": "#3f8f4f",
    "haproxy": "#b08a1e",
    "envoy": "#c4622d",
    "envoy-two-hops": "#8e2f5c",
}
_OTHER_COLOUR = "#444444"


@dataclass(frozen=True, slots=True, kw_only=True)
class Axes:
    """What a plot says around its data."""

    title: str
    x: str
    y: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A peer's values over x. `is_dashed` tells a second line of the same peer from the first."""

    peer: str
    label: str
    points: Sequence[tuple[float, Spread]]
    is_dashed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One value of a group, in a peer's colour."""

    group: str
    peer: str
    label: str
    value: Spread


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Values over time. One without a label is not in the legend."""

    label: str
    colour: str
    points: Sequence[tuple[float, float]]


def over_time(axes: Axes, data: Sequence[Curve]) -> str:
    """Return curves over a linear axis that begins at 0."""
    across = _ticks(max((x for curve in data for x, _ in curve.points), default=0.0) or 1.0)
    ticks = _ticks(max((y for curve in data for _, y in curve.points), default=0.0) or 1.0)
    place_x = _linear(across[-1], _LEFT, _WIDTH - _RIGHT)
    place_y = _linear(ticks[-1], _HEIGHT - _BOTTOM, _TOP)
    parts = _frame(axes, ticks, place_y)
    parts += [_text(place_x(x), _HEIGHT - _BOTTOM + 18, f"{x:g}", anchor="middle") for x in across]
    for curve in data:
        path = " ".join(f"{place_x(x):.1f},{place_y(y):.1f}" for x, y in curve.points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{curve.colour}" stroke-width="1.5"/>')
    for number, curve in enumerate([one for one in data if one.label]):
        y, left = _TOP + 14 + 18 * number, _WIDTH - _RIGHT + 12
        parts.append(f'<line x1="{left}" y1="{y - 4}" x2="{left + 22}" y2="{y - 4}" stroke="{curve.colour}" stroke-width="2"/>')
        parts.append(_text(left + 28, y, curve.label))
    return _document(axes, parts)


def lines(axes: Axes, data: Sequence[Line], *, is_y_logarithmic: bool = False) -> str:
    """Return lines over a logarithmic x axis whose ticks are the points."""
    xs = sorted({x for line in data for x, _ in line.points})
    lows = [spread.low for line in data for _, spread in line.points]
    highs = [spread.high for line in data for _, spread in line.points]
    place_x = _logarithmic(xs[0], xs[-1], _LEFT + 20, _WIDTH - _RIGHT - 20)
    if is_y_logarithmic:
        bottom, top = 10.0 ** floor(log10(max(min(lows), 1e-9))), 10.0 ** ceil(log10(max(highs)))
        place_y = _logarithmic(bottom, max(top, bottom * 10), _HEIGHT - _BOTTOM, _TOP)
        ticks = [10.0**power for power in range(round(log10(bottom)), round(log10(top)) + 1)]
    else:
        ticks = _ticks(max(highs))
        place_y = _linear(ticks[-1], _HEIGHT - _BOTTOM, _TOP)
    parts = _frame(axes, ticks, place_y)
    parts += [_text(place_x(x), _HEIGHT - _BOTTOM + 18, f"{x:,.0f}", anchor="middle") for x in xs]
    for number, line in enumerate(data):
        colour = _COLOURS.get(line.peer, _OTHER_COLOUR)
        dash = ' stroke-dasharray="6 4"' if line.is_dashed else ""
        path = " ".join(f"{place_x(x):.1f},{place_y(spread.median):.1f}" for x, spread in line.points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>')
        for x, spread in line.points:
            parts.append(_range(place_x(x), place_y(spread.low), place_y(spread.high), colour))
            parts.append(f'<circle cx="{place_x(x):.1f}" cy="{place_y(spread.median):.1f}" r="3" fill="{colour}"/>')
        y = _TOP + 14 + 18 * number
        left = _WIDTH - _RIGHT + 12
        parts.append(f'<line x1="{left}" y1="{y - 4}" x2="{left + 22}" y2="{y - 4}" stroke="{colour}" stroke-width="2"{dash}/>')
        parts.append(_text(left + 28, y, line.label))
    return _document(axes, parts)


def bars(axes: Axes, data: Sequence[Bar]) -> str:
    """Return bars in groups, each with its value above it."""
    groups = list(dict.fromkeys(bar.group for bar in data))
    ticks = _ticks(max(bar.value.high for bar in data))
    place_y = _linear(ticks[-1], _HEIGHT - _BOTTOM, _TOP)
    parts = _frame(axes, ticks, place_y)
    width = (_WIDTH - _LEFT - _RIGHT) / len(groups)
    labels: dict[str, str] = {}
    for position, group in enumerate(groups):
        members = [bar for bar in data if bar.group == group]
        bar_width = width * 0.84 / len(members)
        left = _LEFT + position * width + width * 0.08
        parts.append(_text(left + width * 0.42, _HEIGHT - _BOTTOM + 18, group, anchor="middle"))
        for number, bar in enumerate(members):
            colour = _COLOURS.get(bar.peer, _OTHER_COLOUR)
            labels.setdefault(bar.label, colour)
            x, y = left + number * bar_width, place_y(bar.value.median)
            height = _HEIGHT - _BOTTOM - y
            parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{bar_width - 3:.1f}" height="{height:.1f}" fill="{colour}"/>')
            middle = x + (bar_width - 3) / 2
            parts.append(_range(middle, place_y(bar.value.low), place_y(bar.value.high), "#000000"))
            above = min(y, place_y(bar.value.high)) - 4
            parts.append(
                _text(middle, above, f"{bar.value.median:,.{0 if bar.value.median >= 100 else 1}f}", anchor="middle", size=10)
            )
    for number, (label, colour) in enumerate(labels.items()):
        y = _TOP + 14 + 18 * number
        left = _WIDTH - _RIGHT + 12
        parts.append(f'<rect x="{left}" y="{y - 10}" width="14" height="12" fill="{colour}"/>')
        parts.append(_text(left + 20, y, label))
    return _document(axes, parts)


def _frame(axes: Axes, ticks: Sequence[float], place_y: Callable[[float], float]) -> list[str]:
    right = _WIDTH - _RIGHT
    parts = []
    for tick in ticks:
        y = place_y(tick)
        parts.append(f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" stroke="#dddddd"/>')
        parts.append(_text(_LEFT - 8, y + 4, f"{tick:,.{0 if tick >= 1 or not tick else 1}f}", anchor="end"))
    parts.append(f'<line x1="{_LEFT}" y1="{_HEIGHT - _BOTTOM}" x2="{right}" y2="{_HEIGHT - _BOTTOM}" stroke="#000000"/>')
    parts.append(_text((_LEFT + right) / 2, _HEIGHT - 16, axes.x, anchor="middle"))
    middle = (_TOP + _HEIGHT - _BOTTOM) / 2
    parts.append(
        f'<text x="16" y="{middle:.1f}" text-anchor="middle" transform="rotate(-90 16 {middle:.1f})">{escape(axes.y)}</text>'
    )
    return parts


def _document(axes: Axes, parts: Sequence[str]) -> str:
    size = f'viewBox="0 0 {_WIDTH} {_HEIGHT}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" font-family="sans-serif" font-size="12">'
    title = escape(axes.title)
    begin = [head, f"<title>{title}</title>", f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>']
    return "\n".join([*begin, _text(_LEFT, 24, axes.title, size=15), *parts, "</svg>", ""])


def _text(x: float, y: float, text: str, *, anchor: str = "start", size: int = 12) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">{escape(text)}</text>'


def _range(x: float, low: float, high: float, colour: str) -> str:
    return f'<line x1="{x:.1f}" y1="{low:.1f}" x2="{x:.1f}" y2="{high:.1f}" stroke="{colour}" stroke-opacity="0.6"/>'


def _logarithmic(low: float, high: float, begin: float, end: float) -> Callable[[float], float]:
    span = log10(high / low) or 1.0
    return lambda value: begin + (end - begin) * (log10(max(value, low) / low) / span)


def _linear(high: float, begin: float, end: float) -> Callable[[float], float]:
    return lambda value: begin + (end - begin) * (value / high)


def _ticks(highest: float) -> list[float]:
    """Return round values from 0 to one that is not below the highest."""
    power = 10.0 ** floor(log10(highest or 1.0))
    step = next(size for size in (0.2 * power, 0.5 * power, power, 2 * power) if size * 6 >= highest)
    return [step * number for number in range(ceil(highest / step) + 1)]
