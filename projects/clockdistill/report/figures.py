"""Curves as SVG that takes its colours and letters from the page."""

import hashlib
import html
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter
from scipy.ndimage import uniform_filter1d

COLORS = 8  # the page's style sheet has as many
_MAX_POINTS = 300  # of a line; a long run has thousands
# lengths of dashes and gaps in points: lines can be told apart without colours
_DASHES = ((), (5, 1.6), (1.4, 1.4), (5, 1.5, 1.2, 1.5), (9, 2), (2.6, 1.3), (8, 1.4, 2.6, 1.4))
# Matplotlib writes these; the page's variables replace them
_TEXT, _GRID = "#0000f0", "#0000f1"
_AXES = (0.15, 0.155, 0.835, 0.825)  # left, bottom, width, height as shares of the figure
_STYLE = {
    "svg.fonttype": "none",  # text stays text
    "text.parse_math": False,
    "axes.edgecolor": _GRID,
    "axes.labelcolor": _TEXT,
    "xtick.color": _GRID,
    "ytick.color": _GRID,
    "xtick.labelcolor": _TEXT,
    "ytick.labelcolor": _TEXT,
    "grid.color": _GRID,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.size": 9,
}


@dataclass(frozen=True)
class Series:
    """One line of a figure.

    Attributes:
        label: for the legend.
        x, y: of equal length; NaN leaves a gap.
        color: number of a colour and a kind of dashes.
        faint: drawn thin and pale, without an entry in the legend.
        width: in points.
        mark: index of a point to mark, with a line down to 0.
        dots: whether every point is marked.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    color: int
    faint: bool = False
    width: float = 1.5
    mark: int | None = None
    dots: bool = False


@dataclass(frozen=True)
class Drawn:
    """A figure of a page.

    Attributes:
        title: its heading.
        svg: the picture, as safe HTML.
        legend: (label, number of the colour, dashes as SVG writes them) of each line.
        note: a sentence below.
    """

    title: str
    svg: str
    legend: list[tuple[str, int, str]] = field(default_factory=list)
    note: str = ""


def draw(
    title: str,
    lines: Sequence[Series],
    *,
    x_label: str,
    y_label: str,
    log: bool = False,
    y_range: tuple[float, float] | None = None,
    note: str = "",
) -> Drawn:
    """Draws lines.

    Args:
        title: heading of the figure, also what a screen reader says of it.
        lines: from the back to the front.
        x_label, y_label: of the axes, with the unit.
        log: whether the vertical axis is logarithmic.
        y_range: of the vertical axis.
        note: a sentence below the figure.
    """
    # the same figure has the same names in its SVG, and no other figure has them
    salt = hashlib.sha256(repr((title, x_label, y_label, lines)).encode()).hexdigest()
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": salt}):
        figure = Figure(figsize=(4.7, 2.9))
        axis = figure.add_axes(_AXES)  # a layout engine would draw every figure twice
        for line in lines:
            axis.plot(
                line.x,
                line.y,
                color=_placeholder(line.color),
                lw=0.8 if line.faint else line.width,
                alpha=0.35 if line.faint else 1,
                dashes=() if line.faint else _DASHES[line.color % len(_DASHES)],
                marker="o" if line.dots else None,
                ms=3.5,
            )
            if line.mark is not None:
                x, y = line.x[line.mark], line.y[line.mark]
                axis.plot([x, x], [0, y], color=_TEXT, lw=0.8, dashes=(2, 2))
                axis.plot([x], [y], "o", color=_TEXT, ms=5)
        axis.set_xlabel(x_label)
        axis.set_ylabel(y_label)
        axis.set_xlim(left=0)
        axis.grid(lw=0.5, alpha=0.5)
        if log:
            axis.set_yscale("log")
            low, high = axis.get_ylim()
            subs = (1, 2, 5) if high > 10 * low else (1, 1.5, 2, 3, 4, 5, 7)
            axis.yaxis.set_major_locator(LogLocator(subs=subs))
            axis.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axis.yaxis.set_minor_locator(NullLocator())
        if y_range:
            axis.set_ylim(*y_range)
        buffer = io.StringIO()
        metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=metadata)
    named = sorted((line for line in lines if not line.faint), key=lambda line: -line.width)
    legend = [(line.label, line.color % COLORS, _svg_dashes(line)) for line in named]
    names = ", ".join(label for label, _, _ in legend)
    svg = _adapt(buffer.getvalue(), f"{title}: {y_label} over {x_label}; lines: {names}")
    return Drawn(title, svg, legend if len(legend) > 1 else [], note)


def smooth(label: str, x: Sequence[float], y: Sequence[float], color: int) -> list[Series]:
    """Returns a noisy line twice: faint as it is, and its moving average over a twentieth."""
    bins = min(len(x), _MAX_POINTS)
    if not bins:
        return []
    x = [float(np.mean(part)) for part in np.array_split(x, bins)]
    y = [float(np.mean(part)) for part in np.array_split(y, bins)]
    if bins < 10:
        return [Series(label, x, y, color, dots=True)]
    average = uniform_filter1d(y, max(3, bins // 20), mode="nearest").tolist()
    return [Series(label, x, y, color, faint=True), Series(label, x, average, color)]


def _placeholder(color: int) -> str:
    return f"#0000a{color % COLORS}"


def _svg_dashes(line: Series) -> str:
    """Returns the dashes as Matplotlib draws them, which scales them with the width."""
    lengths = _DASHES[line.color % len(_DASHES)]
    return " ".join(f"{length * line.width:.2g}" for length in lengths)


def _adapt(svg: str, description: str) -> str:
    """Makes Matplotlib's SVG a part of an HTML page: colours, font, size and names."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->|<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"#0000a(\d)", r"var(--line-\1)", svg)
    svg = svg.replace(_TEXT, "var(--text)").replace(_GRID, "var(--grid)")
    svg = re.sub(r"font-family: [^;]*; ", "", svg)
    svg = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", svg)
    svg = re.sub(r"\s+", " ", svg)
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', svg))
    svg = re.sub(
        r' id="([^"]+)"', lambda match: match.group(0) if match.group(1) in used else "", svg
    )
    head, _, body = svg.partition(">")
    view_box = re.search(r'viewBox="[^"]+"', head).group(0)
    return f'<svg {view_box} role="img" aria-label="{html.escape(description)}">{body}'
