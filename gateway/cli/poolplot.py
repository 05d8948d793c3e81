"""A picture of the simulator's answer, as SVG or PNG. Needs matplotlib (`dialmark[plots]`): 170 MB, which a gateway
does not carry for a picture now and then, so it is loaded with this module and nowhere else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator, PercentFormatter

from gateway.cli import simulating
from gateway.core import poolmath
from gateway.core.poolmath import Outlook

# Okabe and Ito: told apart by the colour-blind, and in grey.
BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#6B7280"
INK = "#1F2937"
PALETTE = (BLUE, ORANGE, GREEN, RED, "#CC79A7", "#56B4E9")
STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10,
    "axes.edgecolor": "#9CA3AF",
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E5E7EB",
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "svg.hashsalt": "dialmark",
}
SPANS = (20, 30, 60)
"""Minutes after leaving that are drawn: as many as tell something."""
MOST_SIZES = 400
MOST_CURVES = 5
FLOOR = 1e-4
"""Shares below are drawn on the lower edge."""


def draw(outcome: simulating.Outcome, path: Path, *, about: str, current: int | None = None) -> None:
    """Write the picture to `path`, `.svg` or `.png`: share shown the overflow number by size, wrong-visitor risk by
    minutes. `current` is the size the pool has. Raises OSError."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(11, 4.9), layout=ConstrainedLayoutEngine(wspace=0.06))
        FigureCanvasAgg(figure)
        left, right = figure.subplots(1, 2)
        _sizes(left, outcome, current)
        _risks(right, outcome, current)
        figure.suptitle(_title(outcome, about), x=0.012, ha="left", fontsize=11.5, fontweight="bold")
        is_svg = path.suffix.lower() == ".svg"
        # Neither when nor with what: the same question gives the same file.
        metadata = dict.fromkeys(("Date", "Creator", "Format", "Type") if is_svg else ("Software",))
        figure.savefig(path, format="svg" if is_svg else "png", dpi=150, metadata=metadata)


def _title(outcome: simulating.Outcome, about: str) -> str:
    demand = outcome.demand
    by = "by formula" if outcome.visits is None else f"{outcome.visits:,} visits played again"
    return (
        f"{about[:1].upper()}{about[1:]}: {demand.arrivals_per_minute * 60:g} visits in the busiest hour, "
        f"{demand.stay_minutes:.1f} min on site, freeze {demand.freeze_minutes:.1f} min"
        f"{' (soft)' if outcome.pool.soft else ''} - {by}"
    )


def _sizes(axes: Axes, outcome: simulating.Outcome, current: int | None) -> None:
    """Share shown the overflow number, by size of the pool."""
    effective = outcome.pool.effective(outcome.demand)
    sizes = _range(outcome, current)
    shares = [max(poolmath.erlang_b(size, effective.erlangs), FLOOR / 10) for size in sizes]
    axes.plot(sizes, shares, color=BLUE, linewidth=2, label="busiest hour, by formula")
    if outcome.visits is not None:
        played = dict(outcome.tried) | {one.size: one.overflow_share for one in outcome.outlooks}
        points = sorted((size, max(share, FLOOR)) for size, share in played.items())
        axes.plot(*zip(*points, strict=True), "o-", color=RED, markersize=5, linewidth=1.2, label="all visits, played")
    for share, size in outcome.needed.items():
        axes.axhline(share, color=GREY, linewidth=1, linestyle=(0, (4, 3)))
        axes.annotate(
            f"{100 * share:g} %: {size} numbers",
            (0.015, share),
            xycoords=axes.get_yaxis_transform(),
            va="bottom",
            fontsize=9,
        )
        reached = next(one.overflow_share for one in outcome.outlooks if one.size == size)
        axes.plot(
            [size],
            [max(reached, FLOOR)],
            marker="o",
            color="white",
            markeredgecolor=INK,
            markeredgewidth=1.6,
            markersize=7,
        )
    if current is not None:
        axes.axvline(current, color=ORANGE, linewidth=1.6)
        axes.annotate(
            f" now {current}", (current, 1), xycoords=("data", "axes fraction"), va="top", color="#92400E", fontsize=9
        )
    axes.set_yscale("log")
    axes.set_ylim(FLOOR, 1)
    axes.set_xlim(sizes[0], sizes[-1])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g} %"))
    axes.set_xlabel("numbers in the pool")
    axes.set_title("Visitors shown the overflow number", loc="left", fontsize=10.5)
    if outcome.visits is not None:
        axes.legend(loc="upper right", fontsize=9)


def _range(outcome: simulating.Outcome, current: int | None) -> list[int]:
    """Sizes to draw: from where almost half are turned away to a little beyond what is needed."""
    largest = max([*(one.size for one in outcome.outlooks), current or 1])
    most = max(largest + 2, math.ceil(1.15 * largest))
    least = max(1, min(one.size for one in outcome.outlooks) // 3)
    step = max(1, (most - least) // MOST_SIZES)
    return list(range(least, most + 1, step))


def _risks(axes: Axes, outcome: simulating.Outcome, current: int | None) -> None:
    """Wrong-visitor risk by minutes after leaving, for some sizes."""
    chosen = _chosen(outcome, current)
    curves = {one.size: _curve(outcome, one.size) for one in chosen}
    largest = curves[chosen[-1].size]
    longest = next((at for at in SPANS if largest[at] > 0.99), SPANS[-1])
    for one, colour in zip(chosen, PALETTE, strict=False):
        label = f"{one.size} numbers{' (now)' if one.size == current else ''}"
        axes.plot(range(longest + 1), curves[one.size][: longest + 1], color=colour, linewidth=2, label=label)
    freeze = outcome.pool.effective(outcome.demand).freeze_minutes
    if 0 < freeze <= longest:
        axes.axvspan(0, freeze, color="#F3F4F6", zorder=0)
        axes.annotate(" frozen", (0, 0.985), xycoords=("data", "axes fraction"), va="top", color=GREY, fontsize=9)
    axes.set_ylim(0, 1.02)
    axes.set_xlim(0, longest * 1.01)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 5, 10]))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
    axes.set_xlabel("minutes after the visitor left")
    axes.set_title("Number already another visitor's", loc="left", fontsize=10.5)
    axes.legend(loc="lower right", fontsize=9)


def _curve(outcome: simulating.Outcome, size: int) -> Sequence[float]:
    if outcome.visits is not None:
        return outcome.curves[size]
    return simulating.curve(outcome.pool, outcome.demand, size, simulating.CURVE_MINUTES)


def _chosen(outcome: simulating.Outcome, current: int | None) -> list[Outlook]:
    """A few sizes of which a curve each can be read, those that matter first."""
    wanted = {current, outcome.late_size, *outcome.needed.values()}
    kept = sorted(outcome.outlooks, key=lambda one: one.size not in wanted)[:MOST_CURVES]
    return sorted(kept, key=lambda one: one.size)
