"""The causal model, drawn: what is set by intervention, what it changes, and what is held fixed within a unit."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from ..analysis import causal
from .style import BLUE, NARROW, VERMILION, Drawn, draw, new_figure

NODES: Mapping[str, tuple[str, str]] = {
    # name: (what is written, kind)
    "expression": ("expression", "fixed"),
    "identity": ("identity", "fixed"),
    "scene": ("pose, camera, light,\nskin, background", "fixed"),
    "crop": ("crop", "fixed"),
    "weakness": ("do(weakness of a side)", "do"),
    "asymmetry": ("realised asymmetry", "mediator"),
    "intensity": ("realised intensity", "mediator"),
    "image": ("image", "chance"),
    "output": ("classifier's output", "outcome"),
}
_DRAWN_AS = {"side weakness": "weakness", **dict.fromkeys(("pose", "light", "skin", "camera"), "scene")}
"""Variables of the analysis' graph under the box that shows them; the others have a box of their own name."""

EDGES: tuple[tuple[str, str], ...] = tuple(
    dict.fromkeys((_DRAWN_AS.get(a, a), _DRAWN_AS.get(b, b)) for a, b in causal.EDGES)
)
_WIDE = {
    "weakness": (0.13, 0.85), "expression": (0.13, 0.50), "identity": (0.13, 0.14),
    "asymmetry": (0.42, 0.85), "intensity": (0.42, 0.50), "scene": (0.66, 0.13),
    "image": (0.66, 0.66), "crop": (0.89, 0.13), "output": (0.89, 0.66),
}  # fmt: skip
_NARROW = {
    "weakness": (0.27, 0.93), "expression": (0.77, 0.93), "asymmetry": (0.27, 0.69),
    "intensity": (0.77, 0.69), "identity": (0.14, 0.42), "image": (0.50, 0.42),
    "scene": (0.835, 0.42), "crop": (0.16, 0.12), "output": (0.60, 0.12),
}  # fmt: skip
_STYLE = {
    "do": ("#fdeadd", VERMILION, "-", 1.6),
    "mediator": ("#e3f0f8", BLUE, "-", 1.2),
    "fixed": ("#f3f3f3", "#777777", "--", 1.0),
    "chance": ("white", "#333333", "-", 1.0),
    "outcome": ("white", "#1a1a1a", "-", 1.8),
}

ALT = (
    "Causal graph. The weakness of a side, set by intervention, with the person's identity and expression, determines "
    "the realised asymmetry and the realised intensity of the face. Both, with identity, pose, camera, light, skin and "
    "background, determine the image; the image and the crop determine the classifier's output. Identity, expression, pose, "
    "camera, light, skin, background and crop are the same for all arms of a unit."
)


@cache
def causal_graph() -> Drawn:
    """The figure, for wide and narrow pages."""

    def build(width: float) -> Figure:
        narrow = width <= NARROW
        fig = new_figure(width, 3.3 if narrow else 2.5, fitted=False)
        ax = fig.add_axes((0.005, 0.005, 0.99, 0.99))
        ax.set_axis_off()
        ax.set_xlim(0, 1)
        ax.set_ylim(0, 1)
        boxes = {}
        for name, (x, y) in (_NARROW if narrow else _WIDE).items():
            words, kind = NODES[name]
            face, edge, line, thick = _STYLE[kind]
            style = "round,pad=0.45,rounding_size=0.35"
            boxes[name] = ax.text(
                x, y, words, ha="center", va="center", fontsize=7.6 if narrow else 8.6, zorder=3,
                fontweight="bold" if kind in ("do", "outcome") else "normal",
                bbox={"boxstyle": style, "facecolor": face, "edgecolor": edge, "linestyle": line, "linewidth": thick},
            )  # fmt: skip
        fig.draw_without_rendering()  # boxes get their patches
        for start, end in EDGES:
            a, b = boxes[start], boxes[end]
            patches = [t.get_bbox_patch() for t in (a, b)]
            assert all(isinstance(p, FancyBboxPatch) for p in patches)
            fixed = NODES[start][1] == "fixed"
            bend = 0.3 if (start, end) == ("identity", "image") and not narrow else 0.0  # around the box between
            ax.add_patch(
                FancyArrowPatch(
                    a.get_position(), b.get_position(), patchA=patches[0], patchB=patches[1], shrinkA=2, shrinkB=3,
                    arrowstyle="-|>", connectionstyle=f"arc3,rad={bend}", mutation_scale=9, zorder=1,
                    linewidth=1.0 if fixed else 1.4, color="#8a8a8a" if fixed else "#1a1a1a",
                )
            )  # fmt: skip
        return fig

    return draw(
        "causal_model",
        "The causal model",
        ALT,
        build,
        "Orange: set by intervention. Blue: the two ways through which it acts. Dashed grey: the same for every arm of "
        "a unit. The matched control acts on intensity alone; what is left of the total effect is asymmetry.",
    )
