"""Palette: how a picture looks, and that a method looks the same in all of them.

No state of matplotlib is left changed, no window is opened, and the defaults of a user's
own settings do not leak in.
"""

import io
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import matplotlib
import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.lines import Line2D

from nlp_meta.escapes import visible
from nlp_meta.files.outputs import write_file
from nlp_meta.report.scores import Results, title_of

WIDE, NARROW = 8.8, 3.7
"""Inches: a desk or paper, and a phone. Text keeps its size, the layout changes."""

LINE = 0.21
"""Inches that a line of text takes."""

INK, SOFT, FAINT = "#1f2933", "#52606d", "#d9dfe5"

_STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 10.0,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.color": SOFT,
    "ytick.labelcolor": INK,
    "svg.fonttype": "path",
}
_NAME = 44  # signs of a method's name in a picture
# Ours is always the first. Okabe and Ito 2008 without yellow, then Tol's muted scheme.
_COLORS = (
    *("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#5b3a99"),
    *("#7a5c3e", "#882255", "#999933", "#44aa99", "#661100", "#3b4754", "#aa4499", "#117733"),
)
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "d", "8")
_DASHES = ("-", (0, (5, 2)), (0, (2, 1.5)), (0, (6, 2, 1.5, 2)))


@dataclass(frozen=True, slots=True)
class Look:
    """How a method is drawn."""

    color: str
    marker: str
    dash: Any
    width: float


def looks_of(results: Results) -> dict[str, Look]:
    """Give each method its color, marker and dash; ours is solid, blue and thick."""
    others = [name for name in results["methods"] if name != results["ours"]]
    looks = {str(results["ours"]): Look(_COLORS[0], _MARKERS[0], "-", 2.8)}
    for place, name in enumerate(others, start=1):
        color = _COLORS[1 + (place - 1) % (len(_COLORS) - 1)]
        marker = _MARKERS[1 + (place - 1) % (len(_MARKERS) - 1)]
        looks[name] = Look(color, marker, _DASHES[1 + (place - 1) % (len(_DASHES) - 1)], 1.5)
    return looks


@contextmanager
def own_style() -> Iterator[None]:
    """Draw with this look alone, whatever the user's settings are."""
    with matplotlib.style.context(["default", _STYLE]):
        yield


def new_figure(width: float, height: float) -> Figure:
    """Make an empty figure, in inches, that belongs to no window."""
    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def place_axes(figure: Figure, *, left: float, top: float, width: float, height: float) -> Axes:
    """Add axes, all lengths in inches and `top` measured from the upper edge."""
    whole_width, whole_height = figure.get_size_inches()
    bottom = whole_height - top - height
    return figure.add_axes(
        (
            left / whole_width,
            bottom / whole_height,
            width / whole_width,
            height / whole_height,
        )
    )


def write_title(axes: Axes, text: str) -> None:
    """Write what the upright axis shows above it, where it is read first."""
    axes.set_title(text, loc="left", fontsize=10, fontweight="bold", color=INK, pad=6)


def draw_grid(axes: Axes, axis: Literal["x", "y", "both"]) -> None:
    """Draw faint lines behind the data."""
    axes.grid(True, axis=axis, color=FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)


def short_title(results: Results, method: str) -> str:
    """Give a method's name as a picture has room and letters for it."""
    title = title_of(results, method)
    return shorten(title if drawable([title]) == [title] else method, _NAME)


def write_legend(
    figure: Figure,
    results: Results,
    methods: Sequence[str],
    *,
    top: float,
    left: float = 0.15,
    key: Literal["line", "point", "bar"] = "line",
    columns: int = 1,
) -> None:
    """Write the methods one below the other, from `top` and `left` on, in inches."""
    width, height = figure.get_size_inches()
    looks, rows = looks_of(results), -(-len(methods) // columns)
    for place, name in enumerate(methods):
        column, row = divmod(place, rows)
        x, y = left + column * (width - left) / columns, 1 - (top + (row + 0.5) * LINE) / height
        look = looks[name]
        line = Line2D(
            [x / width, (x + 0.16) / width, (x + 0.32) / width],
            [y] * 3,
            color=look.color,
            linewidth={"line": look.width, "point": 0, "bar": 7}[key],
            linestyle=look.dash if key == "line" else "-",
            marker="" if key == "bar" else look.marker,
            markevery=[1],
            markersize=6.5,
            markeredgecolor="white",
            solid_capstyle="butt",
            transform=figure.transFigure,
        )
        figure.add_artist(line)
        weight = "bold" if name == results["ours"] else "normal"
        text = short_title(results, name)
        figure.text((x + 0.42) / width, y, text, va="center", fontsize=8.5, fontweight=weight)


def drawable(names: Sequence[str]) -> list[str]:
    """Replace names that the font cannot draw by `no. 3`, their place in the list."""
    return [name if _has_glyphs(name) else f"no. {place}" for place, name in enumerate(names, 1)]


def shorten(text: str, most: int) -> str:
    """Cut a text at a word's end where it is longer than so many signs."""
    whole = visible(" ".join(text.split()))
    if len(whole) <= most:
        return whole
    cut = whole[: most - 1]
    return (cut.rsplit(" ", 1)[0] if " " in cut[most // 2 :] else cut).rstrip(" ,;") + "…"


def spread(wanted: Sequence[float], *, gap: float, low: float, high: float) -> list[float]:
    """Move places apart to at least `gap`, in their order and no farther than needed.

    Where there is not room for all between `low` and `high`, the gap shrinks.
    """
    if not wanted:
        return []
    order = sorted(range(len(wanted)), key=lambda place: wanted[place])
    step = min(gap, (high - low) / max(1, len(wanted) - 1))
    placed: list[float] = []
    for rank, place in enumerate(order):
        least = placed[-1] + step if placed else low
        room = high - step * (len(order) - 1 - rank)
        placed.append(min(max(wanted[place], least), room))
    for rank in range(len(placed) - 2, -1, -1):  # back towards what was wanted
        placed[rank] = min(placed[rank], placed[rank + 1] - step)
    back = dict(zip(order, placed, strict=True))
    return [back[place] for place in range(len(wanted))]


def to_svg(figure: Figure, *, salt: str) -> str:
    """Write a figure as SVG; the same figure and salt are the same text."""
    buffer = io.StringIO()
    with own_style(), matplotlib.rc_context({"svg.hashsalt": salt}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def save_figure(figure: Figure, folder: Path, name: str) -> tuple[Path, Path]:
    """Write `name.png`, 150 dots an inch, and `name.svg`, and return their paths."""
    png, svg = folder / f"{name}.png", folder / f"{name}.svg"
    buffer = io.BytesIO()
    with own_style():
        figure.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    write_file(png, buffer.getvalue(), argument="folder")
    write_file(svg, to_svg(figure, salt=name), argument="folder")
    return png, svg


@cache
def _glyphs() -> frozenset[int]:
    font = findfont(FontProperties(family="DejaVu Sans"))
    return frozenset(get_font(font).get_charmap())


def _has_glyphs(text: str) -> bool:
    """Whether every sign has a glyph and none needs shaping or runs from right to left."""
    return bool(text.strip()) and all(
        ord(sign) in _glyphs()
        and unicodedata.bidirectional(sign) not in ("R", "AL", "AN", "RLE", "RLO", "RLI")
        and unicodedata.category(sign)[0] not in "CM"
        for sign in text
    )
