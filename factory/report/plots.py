"""Pictures as inline SVG: the same data gives the same bytes, text stays text, nothing is loaded from anywhere.

Every function returns an ``<svg>`` element with a label for screen readers. Widths fit a phone; the page scales up.
Colours are Okabe and Ito's (distinguishable without red-green vision), and marks differ in shape as well.
"""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Callable, Sequence
from html import escape
from typing import Any, NamedTuple

from factory.report import text
from factory.report.data import Curve, Lengths, PassRates, Step

BLUE, ORANGE, GREEN, GREY, PALE = "#0072b2", "#d55e00", "#007a5a", "#5b6470", "#c9d3dc"
INK = "#1b2126"
_MODEL_STYLE = {"base": (GREY, "o"), "sft": (BLUE, "s"), "kd": (ORANGE, "D")}
_OTHER_STYLE = (GREEN, "^")
_WIDTH_IN = 4.3
_ROW_IN = 0.27
_CHAR_IN = 0.072
_Y_AXIS_IN = 0.74
_PANEL_IN = 1.6
_SETTINGS: Any = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 8.5,
    "font.family": "DejaVu Sans",
    "text.color": INK,
    "axes.edgecolor": "#8a949e",
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.unicode_minus": True,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}
# matplotlib keeps its settings in one global place
_LOCK = threading.Lock()
_FONT = "system-ui, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"


class Bar(NamedTuple):
    """A value with its interval."""

    label: str
    value: float
    low: float
    high: float
    model: str = ""
    """Decides colour and shape: base, sft, kd."""

    def spoken(self) -> str:
        """For the picture's label."""
        return f"{self.value:.1f} ({self.low:.1f} to {self.high:.1f})".replace("-", text.MINUS)


def _draw(name: str, alt: str, height_in: float, paint: Callable[[Any], None]) -> str:
    """``paint`` a figure of the given height and return it as an SVG element."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    out = io.StringIO()
    with _LOCK, matplotlib.rc_context():
        matplotlib.rcdefaults()  # the reader's matplotlibrc must not change the page
        matplotlib.rcParams.update(_SETTINGS | {"svg.hashsalt": name})
        figure = Figure(figsize=(_WIDTH_IN, height_in))
        FigureCanvasSVG(figure)
        paint(figure)
        nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(out, format="svg", metadata=nothing)
    return _inline(out.getvalue(), name, alt)


def _inline(svg: str, name: str, alt: str) -> str:
    """The bare element: no prolog, no namespaces (HTML knows them), ids of its own, the reader's own fonts."""
    body = svg[svg.index("<svg") :]
    box = re.search(r'viewBox="([^"]+)"', body)
    assert box, "matplotlib writes a viewBox"
    inner = body[body.index(">") + 1 :]
    # its style sheet would rule the whole page; report.css says the same for pictures
    inner = re.sub(r"<(metadata|style)\b.*?</\1>", "", inner, flags=re.DOTALL)
    inner = inner.replace("xlink:href=", "href=").replace("'DejaVu Sans'", _FONT.replace('"', "'"))
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', inner))
    inner = re.sub(r' id="([^"]+)"', lambda m: f' id="{name}-{m[1]}"' if m[1] in used else "", inner)
    inner = re.sub(r'(href="#|url\(#)', rf"\1{name}-", inner)
    inner = re.sub(r"\n\s*", "\n", re.sub(r"<!--.*?-->", "", inner, flags=re.DOTALL))
    label = escape(text.visible(alt), quote=True)
    return f'<svg class="plot" viewBox="{box[1]}" role="img" aria-label="{label}">{inner.strip()}'


def _axes(figure: Any, left: float, *, top: float = 0.08, bottom: float = 0.5, height: float | None = None) -> Any:
    """Axes with margins in inches (matplotlib's own layout engines draw everything twice to find them)."""
    total = float(figure.get_figheight())
    height = total - top - bottom if height is None else height
    width = _WIDTH_IN - left - 0.12
    return figure.add_axes((left / _WIDTH_IN, bottom / total, width / _WIDTH_IN, height / total))


def _label_room(labels: Sequence[str]) -> float:
    """Inches that row names take at the left."""
    return 0.14 + _CHAR_IN * max((len(label) for label in labels), default=0)


def _style(model: str) -> tuple[str, str]:
    return _MODEL_STYLE.get(model, _OTHER_STYLE)


def _short(label: str, limit: int = 26) -> str:
    label = text.visible(label)
    return label if len(label) <= limit else label[: limit - 1] + "\u2026"


def funnel(steps: Sequence[Step]) -> str:
    """Horizontal bars: what each step kept, and what it dropped, in one scale."""
    alt = "Rows left after each step: " + "; ".join(f"{s.name} {s.kept:,} of {s.rows_in:,} {s.unit}" for s in steps)

    def paint(figure: Any) -> None:
        names = [_short(text.words(s.name), 24) for s in steps]
        axes = _axes(figure, _label_room(names))
        widest = max(s.rows_in for s in steps) or 1
        for y, step in enumerate(steps):
            colour = GREEN if step.unit == "problems" else BLUE
            axes.barh(y, step.kept, color=colour, height=0.66)
            axes.barh(y, step.rows_in - step.kept, left=step.kept, color=PALE, height=0.66)
            axes.text(step.rows_in + widest * 0.012, y, f"{step.kept:,}", va="center")
        axes.set_yticks(range(len(steps)), names)
        axes.set_xlim(0, widest * 1.16)
        _upside_down(axes, len(steps))
        axes.set_xlabel("rows")
        _thousands(axes.xaxis)

    return _draw("funnel", alt, 0.58 + _ROW_IN * len(steps), paint)


def _upside_down(axes: Any, num_rows: int) -> None:
    """First row on top, as in the table."""
    axes.set_ylim(num_rows - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def _thousands(axis: Any) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axis.set_major_locator(MaxNLocator(5, integer=True))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def forest(name: str, alt: str, groups: Sequence[tuple[str, Sequence[Bar]]], *, xlabel: str, zero: bool = False) -> str:
    """Dots with intervals, one row each under the name of its group.

    Args:
        name: unique among the page's pictures.
        groups: ``(heading, rows)``; values as shown on the axis (percent or points).
        zero: draw the line of no difference.
    """
    rows = sum(len(bars) + bool(heading) for heading, bars in groups)

    def paint(figure: Any) -> None:
        axes = _axes(figure, _label_room([_short(bar.label) for _, bars in groups for bar in bars]))
        y, ticks = 0.0, []
        for heading, bars in groups:
            if heading:
                axes.annotate(
                    _short(heading, 60),
                    (0, y),
                    xycoords=("axes fraction", "data"),
                    va="center",
                    weight="bold",
                    bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.0},
                )
                y += 1
            for bar in bars:
                _forest_row(axes, y, bar)
                ticks.append((y, _short(bar.label)))
                y += 1
        if zero:
            axes.axvline(0, color=INK, linewidth=0.9, linestyle=(0, (4, 3)), zorder=0)
            low, high = axes.get_xlim()
            axes.set_xlim(min(low, -high * 0.15), max(high, -low * 0.15))
        axes.set_yticks([t[0] for t in ticks], [t[1] for t in ticks])
        _upside_down(axes, rows)
        axes.grid(axis="x", color="#e2e7ec", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.set_xlabel(xlabel)

    return _draw(name, alt, 0.58 + _ROW_IN * rows, paint)


def _forest_row(axes: Any, y: float, bar: Bar) -> None:
    colour, marker = _style(bar.model)
    axes.plot([bar.low, bar.high], [y, y], color=colour, linewidth=2.2, solid_capstyle="butt")
    axes.plot([bar.value], [y], marker, color=colour, markersize=6.5, markeredgecolor="white", markeredgewidth=0.8)


def difficulty(rates: PassRates) -> str:
    """Problems by how often the untrained student solved them."""
    listed = "; ".join(f"{label}: {n:,}" for label, n in rates.counts)

    def paint(figure: Any) -> None:
        axes = _axes(figure, _Y_AXIS_IN)
        labels, counts = [c[0] for c in rates.counts], [c[1] for c in rates.counts]
        axes.bar(range(len(counts)), counts, color=BLUE, width=0.82)
        every = 2 if len(labels) > 9 else 1
        ticks = [*range(0, len(labels) - every, every), len(labels) - 1]
        axes.set_xticks(ticks, [labels[tick] for tick in ticks])
        axes.set_xlabel("correct answers of the untrained student" if rates.per_k else "share the student solved")
        axes.set_ylabel("problems")
        _thousands(axes.yaxis)

    return _draw("difficulty", f"Problems by student pass rate: {listed}", 2.2, paint)


def lengths(data: Lengths) -> str:
    """Trace lengths: kept to the front, dropped behind, as counts."""
    alt = (
        f"Trace lengths in tokens: {sum(data.kept):,} kept, median {text.count(data.median_kept)};"
        f" {sum(data.dropped):,} dropped, median {text.count(data.median_dropped)}"
    )

    def paint(figure: Any) -> None:
        from matplotlib.ticker import FuncFormatter, NullFormatter

        axes = _axes(figure, _Y_AXIS_IN, top=0.3)
        axes.stairs(data.dropped, data.edges, fill=True, color=PALE, label=f"dropped ({sum(data.dropped):,})")
        axes.stairs(data.dropped, data.edges, color=GREY, linewidth=1.0)
        axes.stairs(data.kept, data.edges, color=BLUE, linewidth=2.0, label=f"kept ({sum(data.kept):,})")
        if data.edges[0] > 0 and data.edges[-1] / data.edges[0] > 20:
            axes.set_xscale("log")
            axes.xaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.set_xlabel("tokens of the trace")
        axes.set_ylabel("traces")
        _thousands(axes.yaxis)
        axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderpad=0)

    return _draw("lengths", alt, 2.2, paint)


def training(curves: Sequence[tuple[str, Curve]]) -> str:
    """One panel per method: their losses are not the same quantity, so they share no axis."""
    listed = "; ".join(f"{m}: {text.decimal(c.loss[0])} to {text.decimal(c.loss[-1])}" for m, c in curves)

    def paint(figure: Any) -> None:
        for place, (method, line) in enumerate(reversed(curves)):
            axes = _axes(figure, _Y_AXIS_IN, bottom=0.5 + _PANEL_IN * place, height=_PANEL_IN - 0.55)
            colour, marker = _style(method)
            axes.plot(
                line.tokens, line.loss, color=colour, linewidth=1.6, marker=marker if len(line.loss) < 3 else None
            )
            axes.set_title(f"{method}: loss {text.decimal(line.loss[-1])} at the end", loc="left", fontsize=8.5)
            axes.set_ylabel("loss")
            axes.grid(color="#e2e7ec", linewidth=0.8)
            _thousands(axes.xaxis)
            if place == 0:
                axes.set_xlabel("tokens seen")

    return _draw("training", f"Training loss from first to last step: {listed}", 0.25 + _PANEL_IN * len(curves), paint)
