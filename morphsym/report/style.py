"""The look of every figure, and figures as bytes that are the same for the same input.

Okabe and Ito's palette, which colour-blind readers can tell apart; every colour also has its own marker, line style or
hatch, so that nothing is lost in greyscale. Figures are built from ``matplotlib.figure.Figure`` objects: no pyplot, no
global state left behind.
"""

from __future__ import annotations

import base64
import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

BLACK, ORANGE, SKY, GREEN = "#1a1a1a", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILION, PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"
GREY, LIGHT = "#6b6b6b", "#d9d9d9"

WIDE, NARROW = 7.2, 3.75
"""Widths of the two layouts of every figure, in inches: for a page of text, and for a telephone."""


@dataclass(frozen=True)
class Look:
    """How one kind of thing is drawn, in every figure."""

    colour: str
    marker: str
    line: str
    hatch: str
    name: str
    filled: bool = True


CONTRASTS = {
    "TE": Look(BLACK, "o", "-", "", "total effect (TE)"),
    "IE": Look(BLUE, "s", "--", "////", "lost intensity (IE)", filled=False),
    "AE": Look(VERMILION, "D", "-.", "", "asymmetry (AE)"),
}

_RC = {
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same glyphs on every machine
    "font.size": 8.5,
    "text.parse_math": False,  # names come from users: a '$' is a '$'
    "axes.unicode_minus": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#555555",
    "axes.linewidth": 0.7,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 8.5,
    "axes.labelcolor": "#222222",
    "text.color": "#1a1a1a",
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "xtick.labelcolor": "#1a1a1a",
    "ytick.labelcolor": "#1a1a1a",
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "hatch.linewidth": 0.6,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.fonttype": "path",
    "svg.hashsalt": "morphsym",
}
_LOCK = threading.RLock()  # rc_context swaps a module-wide dictionary while it is open


@contextmanager
def drawing() -> Iterator[None]:
    """The look, while a figure is built and saved."""
    with _LOCK, matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_RC)  # type: ignore[arg-type]
        yield


def new_figure(width: float, height: float, fitted: bool = True) -> Figure:
    """A figure of ``width`` × ``height`` inches; ``fitted`` keeps all labels inside."""
    return Figure(figsize=(width, height), layout="constrained" if fitted else None)


def zero_line(ax: Axes, axis: str = "x") -> None:
    """The line of no effect."""
    (ax.axvline if axis == "x" else ax.axhline)(0, color="#888888", linewidth=0.8, zorder=0)


@dataclass(frozen=True)
class Drawn:
    """One figure, drawn for a wide and a narrow page."""

    name: str  # file stem
    title: str
    alt: str  # what the figure shows, in words and numbers
    svg: bytes  # wide
    png: bytes  # wide, 200 dots an inch
    svg_narrow: bytes
    width: int  # CSS pixels of the wide layout
    height: int
    caption: str = ""

    @property
    def uri(self) -> str:
        return svg_uri(self.svg)

    @property
    def uri_narrow(self) -> str:
        return svg_uri(self.svg_narrow)


def draw(name: str, title: str, alt: str, build: Callable[[float], Figure], caption: str = "") -> Drawn:
    """Build and save one figure twice: ``build(width in inches) -> Figure``."""
    with drawing():
        wide = build(WIDE)
        svg = to_svg(wide)
        wide.set_layout_engine("none")  # the places are found; finding them again would only take time
        png = to_png(wide)
        width, height = wide.get_size_inches() * 96
        narrow = to_svg(build(NARROW))
    return Drawn(name, title, alt, svg, png, narrow, round(width), round(height), caption)


def to_svg(figure: Figure) -> bytes:
    """Deterministic SVG: fixed ids, no date, no program version."""
    buffer = io.BytesIO()
    FigureCanvasSVG(figure)
    _settle(figure, 72)  # what SVG is drawn at
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def to_png(figure: Figure, dpi: int = 200) -> bytes:
    """Deterministic PNG."""
    buffer = io.BytesIO()
    FigureCanvasAgg(figure)
    _settle(figure, dpi)
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def _settle(figure: Figure, dpi: int) -> None:
    """Lay text out at the resolution that is saved: arrows between text boxes end where the boxes were last drawn."""
    figure.set_dpi(dpi)
    if figure.get_layout_engine() is None:
        figure.draw_without_rendering()


def svg_uri(svg: bytes) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg).decode("ascii")
