"""The figures of the report. Each takes the analysis' tables, and is drawn for a wide and for a narrow page."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ..analysis import Analysis
from . import formatting as f
from .style import BLUE, CONTRASTS, GREY, NARROW, PURPLE, VERMILION, WIDE, Drawn, Look, draw, new_figure, zero_line
from .view import PARTS, Estimate, SourceView, estimate, one_test, select

UNIT = {"logit": "change of the centred logit", "probability": "change of the probability"}
_DIVERGING = LinearSegmentedColormap.from_list("vermilion-blue", [VERMILION, "#f4b48a", "#ffffff", "#8fc0df", BLUE])


def all_figures(analysis: Analysis, view: SourceView) -> dict[str, Drawn]:
    """Every figure that ``view`` has numbers for, by kind: forest, dose, decomposition, heatmap, bias."""
    built = {"decomposition": decomposition(view), "dose": dose_response(analysis, view)}
    if view.n_subjects > 1:  # one person has no intervals, and a person's asymmetry is no bias of the classifier
        built |= {"forest": forest(view), "heatmap": heatmap(analysis, view), "bias": bias(analysis, view)}
    return {k: v for k, v in built.items() if v is not None}


def forest(view: SourceView) -> Drawn | None:
    """TE, IE and AE of every classifier with their intervals."""
    shown = [c for c in view.classifiers if any(math.isfinite(e.value) for e in c.parts.values())]
    if not shown:
        return None

    def build(width: float) -> Figure:
        fig = new_figure(width, 1.05 + 0.52 * len(shown))
        ax = fig.add_subplot()
        zero_line(ax)
        for row, c in enumerate(shown):
            for part, offset in zip(PARTS, (-0.24, 0.0, 0.24), strict=True):
                if part in c.parts:
                    _point(
                        ax, c.parts[part].value, c.parts[part].low, c.parts[part].high, row + offset, CONTRASTS[part]
                    )
        if (widest := f.finite([c.null_error for c in shown])).size and widest.max() > 0:
            ax.axvspan(-widest.max(), widest.max(), color="#ececec", zorder=-1, linewidth=0)
        _rows(ax, [c.label for c in shown], width)
        ax.set_xlabel(UNIT[view.outcome])
        _legend(fig, [CONTRASTS[p] for p in PARTS], width)
        return fig

    told = "; ".join(
        f"{c.label}: "
        + ", ".join(
            f"{p} {f.number(e.value)} {f.interval(e.low, e.high)}".rstrip(" " + f.MISSING) for p, e in c.parts.items()
        )
        for c in shown
    )
    return draw(
        f"forest_{view.source}",
        "Effect on every classifier",
        f"Forest plot of the total effect, the intensity part and the asymmetry part for {len(shown)} classifiers. "
        f"{told}.",
        build,
        "Points are means over subjects, bars their confidence intervals; the vertical line is no effect."
        + (" The grey band is what rendering alone does." if any(c.null_error > 0 for c in shown) else ""),
    )


def dose_response(analysis: Analysis, view: SourceView) -> Drawn | None:
    """TE, IE and AE against strength, one panel a classifier, with intervals; the origin is the factual face."""
    table = select(
        analysis.dose_response, source=view.source, outcome=view.outcome, region=view.region, side=view.side,
        pooled=view.pooled,
    )  # fmt: skip
    table = table[table["contrast"].isin(PARTS)]
    table = table[np.isfinite(pd.to_numeric(table["estimate"], errors="coerce"))]
    shown = [c for c in view.classifiers if (table["classifier"] == c.name).any()]
    if not shown or table["strength"].nunique() < 2:
        return None

    def build(width: float) -> Figure:
        columns = min(len(shown), 3 if width > NARROW else 1 if len(shown) <= 4 else 2)
        rows = math.ceil(len(shown) / columns)
        fig = new_figure(width, 0.75 + rows * (2.35 if columns > 1 or len(shown) == 1 else 2.0))
        axes = fig.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for ax in axes.flat[len(shown) :]:
            ax.set_axis_off()
        for c, ax in zip(shown, axes.flat, strict=False):
            zero_line(ax, "y")
            ax.set_title(f.shorten(c.label, 24))
            for part in PARTS:
                curve = table[(table["classifier"] == c.name) & (table["contrast"] == part)]
                _curve(ax, curve.sort_values("strength"), CONTRASTS[part])
            ax.set_xlim(0, max(1.0, float(table["strength"].max())) * 1.03)
            ax.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "¼", "½", "¾", "1"])
            ax.xaxis.set_tick_params(labelbottom=True)
        fig.supxlabel("strength of the weakness", fontsize=8.5)
        fig.supylabel(UNIT[view.outcome], fontsize=8.5)
        _legend(fig, [CONTRASTS[p] for p in PARTS], width)
        return fig

    top = table[table["strength"] == table["strength"].max()]
    told = "; ".join(
        f"{c.label}: "
        + ", ".join(
            f"{p} {f.number(v['estimate'].iloc[0])}"
            for p in PARTS
            if len(v := select(top, classifier=c.name, contrast=p))
        )
        for c in shown
    )
    return draw(
        f"dose_response_{view.source}",
        "Dose and response",
        f"Curves of TE, IE and AE against strength 0 to {f.strength_text(table['strength'].max())}, one panel for "
        "each of "
        f"{f.plural(len(shown), 'classifier')}. At the largest strength: {told}.",
        build,
        "Strength 0 is the factual face. "
        + (
            "Bands are confidence intervals."
            if np.isfinite(table["ci_low"].astype(float)).any()
            else "One subject: no intervals."
        ),
    )


def decomposition(view: SourceView) -> Drawn | None:
    """Bars: how much of the total effect is lost intensity and how much is asymmetry."""
    shown = [c for c in view.classifiers if all(p in c.parts and math.isfinite(c.parts[p].value) for p in PARTS)]
    if not shown:
        return None
    looks = (CONTRASTS["IE"], CONTRASTS["AE"])

    def build(width: float) -> Figure:
        fig = new_figure(width, 1.0 + 0.46 * len(shown))
        ax = fig.add_subplot()
        zero_line(ax)
        for row, c in enumerate(shown):
            ie, ae, te = (c.parts[p].value for p in ("IE", "AE", "TE"))
            start = ie if ie * ae > 0 else 0.0  # parts of opposite sign stand on their own sides of zero
            ax.barh(row, ie, 0.52, color="#d6e9f5", edgecolor=BLUE, hatch="////", linewidth=0.8)
            ax.barh(row, ae, 0.52, left=start, color=VERMILION, edgecolor="#7d3700", linewidth=0.8)
            ax.plot(te, row, marker="o", color="white", markeredgecolor="#1a1a1a", markersize=6, markeredgewidth=1.4)
        _rows(ax, [c.label for c in shown], width)
        ax.set_xlabel(UNIT[view.outcome])
        handles = [
            Patch(facecolor="#d6e9f5", edgecolor=BLUE, hatch="////", label=looks[0].name),
            Patch(facecolor=VERMILION, edgecolor="#7d3700", label=looks[1].name),
            Line2D(
                [],
                [],
                marker="o",
                color="none",
                markerfacecolor="white",
                markeredgecolor="#1a1a1a",
                label=CONTRASTS["TE"].name,
            ),
        ]
        fig.legend(handles=handles, loc="outside upper left", ncols=3 if width > NARROW else 1, borderaxespad=0.2)
        return fig

    told = "; ".join(
        f"{c.label}: TE {f.number(c.parts['TE'].value)} = IE {f.number(c.parts['IE'].value)} + AE "
        f"{f.number(c.parts['AE'].value)}"
        for c in shown
    )
    return draw(
        f"decomposition_{view.source}",
        "Lost intensity or asymmetry?",
        f"Stacked bars that split the total effect into lost intensity and asymmetry. {told}.",
        build,
        "TE = IE + AE exactly. Parts of opposite sign stand on opposite sides of zero.",
    )


def heatmap(analysis: Analysis, view: SourceView) -> Drawn | None:
    """Classifier × emotion: TE and AE, with the numbers written in."""
    cells = {p: _by_emotion(analysis, view, p) for p in ("TE", "AE")}
    if (
        all(c.size == 0 or not np.isfinite(c.to_numpy(dtype=float)).any() for c in cells.values())
        or len(view.emotions) < 2
    ):
        return None
    names = [c for c in view.classifiers if any(c.name in m.index for m in cells.values())]
    emotions = [e for e in view.emotions if any(e in m.columns for m in cells.values())]
    grids = {
        p: m.reindex(index=[c.name for c in names], columns=emotions).to_numpy(dtype=float) for p, m in cells.items()
    }
    limit = max(float(np.nanmax(np.abs(g))) for g in grids.values() if np.isfinite(g).any()) or 1.0

    def build(width: float) -> Figure:
        stacked = width <= NARROW or len(emotions) > 5
        height = 0.28 * len(names) + 0.95
        fig = new_figure(width, height * (2 if stacked else 1) + 0.5)
        axes = fig.subplots(2 if stacked else 1, 1 if stacked else 2, squeeze=False).ravel()
        for ax, (part, grid) in zip(axes, grids.items(), strict=True):
            image = ax.imshow(np.ma.masked_invalid(grid), cmap=_DIVERGING, vmin=-limit, vmax=limit, aspect="auto")
            for (i, j), value in np.ndenumerate(grid):
                dark = abs(value) > 0.75 * limit if math.isfinite(value) else False
                digits = 2 if limit < 10 and (width > NARROW or len(emotions) <= 6) else 1
                ax.text(
                    j, i, f.number(value, digits), ha="center", va="center",
                    fontsize=7.5 if width > NARROW else 6.5, color="white" if dark else "#1a1a1a",
                )  # fmt: skip
            narrow = width <= NARROW
            ax.set_xticks(range(len(emotions)), emotions, rotation=35 if narrow or len(emotions) > 7 else 0,
                          ha="right" if narrow or len(emotions) > 7 else "center")  # fmt: skip
            ax.set_yticks(range(len(names)), [f.shorten(c.label, 16 if narrow else 26) for c in names])
            ax.tick_params(length=0)
            ax.spines[:].set_visible(False)
            ax.set_title(CONTRASTS[part].name)
            if not stacked and ax is not axes[0]:
                ax.set_yticklabels([])
        fig.colorbar(image, ax=axes.tolist(), label=UNIT[view.outcome], shrink=0.9, aspect=30 if stacked else 18,
                     location="right" if width > NARROW else "bottom")  # fmt: skip
        return fig

    told = "; ".join(
        f"{c.label}: "
        + ", ".join(
            f"{e} {f.number(grids['TE'][i, j])} ({f.number(grids['AE'][i, j])})" for j, e in enumerate(emotions)
        )
        for i, c in enumerate(names)
    )
    return draw(
        f"emotions_{view.source}",
        "By emotion",
        f"Heat map of classifier by emotion: total effect, and the asymmetry part in brackets. {told}.",
        build,
        f"An en dash marks a cell without a number: the classifier lacks the emotion, or no pair was left. Strength "
        f"{f.strength_text(view.strength)}.",
    )


def bias(analysis: Analysis, view: SourceView) -> Drawn | None:
    """Side bias, mirror bias and what rendering alone does, one panel each."""
    kinds = {
        "side_bias": ("left minus right", Look("#1a1a1a", "o", "-", "", "side bias")),
        "mirror_bias": ("mirror image minus original", Look(PURPLE, "^", "-", "", "mirror bias")),
        "null_error": ("rendered minus photo", Look(GREY, "v", "-", "", "null error", filled=False)),
    }
    found: dict[str, dict[str, tuple[float, float, float]]] = {}
    for kind in kinds:
        for c in view.classifiers:
            row = pooled_row(analysis, view, c.name, kind)
            if row is not None and math.isfinite(row.value):
                found.setdefault(kind, {})[c.name] = (row.value, row.low, row.high)
    if not found:
        return None
    shown = [c for c in view.classifiers if any(c.name in v for v in found.values())]

    def build(width: float) -> Figure:
        narrow = width <= NARROW
        n = len(found)
        fig = new_figure(width, (0.8 + 0.3 * len(shown)) * (n if narrow else 1) + 0.45)
        axes = fig.subplots(n if narrow else 1, 1 if narrow else n, sharex=True, squeeze=False).ravel()
        for ax, (kind, values) in zip(axes, found.items(), strict=True):
            note, look = kinds[kind]
            zero_line(ax)
            for row, c in enumerate(shown):
                if c.name in values:
                    _point(ax, *values[c.name], row, look)
            _rows(ax, [c.label for c in shown], width)
            ax.set_title(f"{look.name}\n{note}", fontsize=8.5)
            if not narrow and ax is not axes[0]:
                ax.set_yticklabels([])
        fig.supxlabel(UNIT[view.outcome].replace("change", "difference"), fontsize=8.5)
        return fig

    told = ". ".join(
        f"{kinds[k][1].name}: " + ", ".join(f"{c.label} {f.number(v[c.name][0])}" for c in shown if c.name in v)
        for k, v in found.items()
    )
    return draw(
        f"bias_{view.source}",
        "Side and mirror bias",
        f"Forest plots of the classifiers' own biases. {told}.",
        build,
        "Side bias is TE(left) − TE(right); mirror bias is the change when the factual picture is mirrored"
        + ("; null error is the rendered factual face against the untouched photo." if "null_error" in found else "."),
    )


def manipulation(table: pd.DataFrame, source: str) -> Drawn | None:
    """Realised asymmetry and intensity against strength, for the weakened and the matched face."""
    if table.empty or "realised_asymmetry" not in table or not (table["arm"] == "unilateral").any():
        return None
    looks = {
        "unilateral": Look(VERMILION, "D", "-", "", "unilateral"),
        "matched": Look(BLUE, "s", "--", "", "matched", filled=False),
    }
    columns = {"realised_asymmetry": "asymmetry (mm)", "realised_intensity": "intensity (mm)"}
    base = table[table["arm"] == "baseline"]

    def build(width: float) -> Figure:
        fig = new_figure(width, 2.5 if width > NARROW else 2.3)
        axes = fig.subplots(1, 2)
        for ax, (column, title) in zip(axes, columns.items(), strict=True):
            for arm, look in looks.items():
                curve = table[table["arm"] == arm].sort_values("strength")
                x, y = curve["strength"].to_numpy(dtype=float), curve[column].to_numpy(dtype=float)
                if len(base):
                    x, y = np.r_[0.0, x], np.r_[float(base[column].iloc[0]), y]
                ax.plot(x, y, look.line, color=look.colour, marker=look.marker, markersize=4.5,
                        markerfacecolor=look.colour if look.filled else "white", label=look.name)  # fmt: skip
            ax.set_title(title)
            ax.set_ylim(0, 1.08 * max(float(table[column].max()), 1e-6))
            ax.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "¼", "½", "¾", "1"])
        fig.supxlabel("strength of the weakness", fontsize=8.5)
        fig.legend(*axes[0].get_legend_handles_labels(), loc="outside upper left", ncols=2, borderaxespad=0.2)
        return fig

    top = table[table["strength"] == table["strength"].max()]
    told = "; ".join(
        f"{r.arm}: asymmetry {f.number(r.realised_asymmetry)} mm, intensity {f.number(r.realised_intensity)} mm"
        for r in top[top["arm"].isin(looks)].itertuples()
    )
    return draw(
        f"manipulation_{source}",
        "What the edit did to the face",
        f"Realised asymmetry and intensity against strength. At the largest strength: {told}.",
        build,
        "Measured on the 3D mesh. The matched face must lie on the weakened face’s intensity and keep its asymmetry "
        "low.",
    )


def pooled_row(analysis: Analysis, view: SourceView, classifier: str, contrast: str) -> Estimate | None:
    """The most pooled row of a contrast at the primary strength and region, as an Estimate, or None."""
    rows = select(analysis.effects, source=view.source, outcome=view.outcome, classifier=classifier, contrast=contrast)
    rows = one_test(rows, analysis.options.primary_test)
    if rows["strength"].notna().any():
        at = rows[(rows["strength"] == view.strength) | rows["strength"].isna() | (rows["strength"] == 0)]
        rows = at if len(at) else rows
    if (rows["region"] == view.region).any():
        rows = rows[rows["region"] == view.region]
    if rows.empty:
        return None
    depth = rows["pooled"].fillna("").str.count(r"\w+") if "pooled" in rows else pd.Series(0, index=rows.index)
    return estimate(rows.iloc[int(depth.to_numpy().argmax())])


def _by_emotion(analysis: Analysis, view: SourceView, contrast: str) -> pd.DataFrame:
    """Classifier × emotion table of a contrast at the primary strength and region, sides averaged."""
    rows = select(
        analysis.effects, source=view.source, outcome=view.outcome, contrast=contrast,
        strength=view.strength, region=view.region,
    )  # fmt: skip
    rows = one_test(rows, analysis.options.primary_test)
    # the primary cell pools emotions and, where both were weakened, sides: here the emotions stand apart
    pooled = "side" if "side" in view.pooled else ""
    rows = rows[rows["emotion"].isin(view.emotions) & (rows["pooled"] == pooled) & (rows["side"] == view.side)]
    if rows.empty:
        return pd.DataFrame()
    return rows.pivot_table(index="classifier", columns="emotion", values="estimate", aggfunc="mean", sort=False)


def _point(ax: Axes, x: float, low: float, high: float, y: float, look: Look) -> None:
    if not math.isfinite(x):
        return
    if math.isfinite(low) and math.isfinite(high):
        ax.plot([low, high], [y, y], look.line if look.line != "-." else "-", color=look.colour, linewidth=1.5,
                solid_capstyle="butt")  # fmt: skip
        ax.plot([low, high], [y, y], "|", color=look.colour, markersize=4.5)
    ax.plot(x, y, look.marker, color=look.colour, markersize=5.5, markeredgewidth=1.3,
            markerfacecolor=look.colour if look.filled else "white", zorder=3)  # fmt: skip


def _curve(ax: Axes, curve: pd.DataFrame, look: Look) -> None:
    x = np.r_[0.0, curve["strength"].to_numpy(dtype=float)]
    y = np.r_[0.0, curve["estimate"].to_numpy(dtype=float)]
    low, high = (np.r_[0.0, curve[c].to_numpy(dtype=float)] for c in ("ci_low", "ci_high"))
    if np.isfinite(low[1:]).any():
        ax.fill_between(x, low, high, color=look.colour, alpha=0.16, linewidth=0)
    ax.plot(x, y, look.line, color=look.colour)
    ax.plot(x[1:], y[1:], look.marker, color=look.colour, markersize=4.5, markeredgewidth=1.2,
            markerfacecolor=look.colour if look.filled else "white")  # fmt: skip


def _rows(ax: Axes, names: Sequence[str], width: float) -> None:
    """Classifiers down the page, the first on top."""
    ax.set_yticks(range(len(names)), [f.shorten(n, 21 if width < WIDE else 30) for n in names])
    ax.set_ylim(len(names) - 0.45, -0.55)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.margins(x=0.06)
    for row in range(1, len(names)):
        ax.axhline(row - 0.5, color="#ececec", linewidth=0.7, zorder=-2)


def _legend(fig: Figure, looks: Sequence[Look], width: float) -> None:
    handles = [
        Line2D([], [], color=k.colour, linestyle=k.line, marker=k.marker, markersize=5.5,  # type: ignore[arg-type]
               markerfacecolor=k.colour if k.filled else "white", label=k.name)
        for k in looks
    ]  # fmt: skip
    fig.legend(handles=handles, loc="outside upper left", ncols=3 if width > NARROW else 1, borderaxespad=0.2)


__all__ = ["all_figures", "bias", "decomposition", "dose_response", "forest", "heatmap", "manipulation"]
