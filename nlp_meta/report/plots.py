"""Plots of a comparison, each a function from results or rows to a figure, and how they look.

A method looks the same in all of them. Every picture can be drawn wide, for a desk or paper, and
narrow, for a phone; its text has the same size in both. In a page it turns dark where the reader's
screen does. A table of the page holds the numbers of each picture. No state of matplotlib is left
changed, no window is opened, and the defaults of a user's own settings do not leak in.
"""

import io
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import matplotlib
import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from nlp_meta.files.outputs import write_file
from nlp_meta.report.scores import (
    Results,
    Score,
    cost_of,
    measure_of,
    rank_advised,
    rank_methods,
    score_of,
    scored_methods,
    title_of,
    words_of,
)
from nlp_meta.report.texts import Bin, Confusion, shorten

WIDE, NARROW = 8.8, 3.7
"""Inches: a desk or paper, and a phone. Text keeps its size, the layout changes."""

LINE = 0.21
"""Inches that a line of text takes."""

INK, SOFT, FAINT, PAPER = "#1f2933", "#52606d", "#d9dfe5", "#ffffff"

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
# The best is always the first. Okabe and Ito 2008 without yellow, then Tol's muted scheme.
_COLORS = (
    *("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#5b3a99"),
    *("#7a5c3e", "#882255", "#999933", "#44aa99", "#661100", "#3b4754", "#aa4499", "#117733"),
)
# The same on a dark screen: lighter, each as far from the ground as its like on white.
_ON_DARK = (
    *("#5ab4f0", "#ff8a3d", "#2fcf9f", "#e79ac4", "#f0b429", "#8fd0f7", "#a98bea"),
    *("#c9a27a", "#d97fae", "#c3c35a", "#6fd3c3", "#e08a76", "#a9b7c6", "#d98fcd", "#4fbf75"),
)
_DARK = dict(zip(_COLORS, _ON_DARK, strict=True))
_SHADE, _ON_SHADE = "#0073b2", "#fffffe"  # the latter white on a dark screen too
_DARK |= {_SHADE: "#2a78b5", INK: "#e4e9ee", SOFT: "#a3b1bf", FAINT: "#333c46", PAPER: "#15191e"}
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
    """Give each method its color, marker and dash; the best is solid, blue and thick."""
    best = best_of(results)
    others = [name for name in results["methods"] if name != best]
    looks = {str(best): Look(_COLORS[0], _MARKERS[0], "-", 2.8)}
    for place, name in enumerate(others, start=1):
        color = _COLORS[1 + (place - 1) % (len(_COLORS) - 1)]
        marker = _MARKERS[1 + (place - 1) % (len(_MARKERS) - 1)]
        looks[name] = Look(color, marker, _DASHES[1 + (place - 1) % (len(_DASHES) - 1)], 1.5)
    return looks


def best_of(results: Results) -> str | None:
    """Name the method that stands out in every picture: the best at the most labels."""
    return next(iter(rank_advised(results, max(results["labels"]))), None)


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
        (left / whole_width, bottom / whole_height, width / whole_width, height / whole_height)
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
    title = title_of(results, method).replace("`", "")
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
        weight = "bold" if name == best_of(results) else "normal"
        text = short_title(results, name)
        figure.text((x + 0.42) / width, y, text, va="center", fontsize=8.5, fontweight=weight)


def drawable(names: Sequence[str]) -> list[str]:
    """Replace names that the font cannot draw by `no. 3`, their place in the list."""
    return [name if _has_glyphs(name) else f"no. {place}" for place, name in enumerate(names, 1)]


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


def follow_screen(svg: str) -> str:
    """Let a picture take the colors of a dark screen where its reader has one, but not in print.

    Only for pages: programs that are no browser may not know variables of a style sheet.
    """
    light, dark = [], []
    for place, (color, other) in enumerate(_DARK.items()):
        svg = svg.replace(color, f"var(--c{place})")
        light.append(f"--c{place}:{color}")
        dark.append(f"--c{place}:{other}")
    sheet = (
        f"<style>svg{{{';'.join(light)}}}@media screen and (prefers-color-scheme:dark)"
        f"{{svg{{{';'.join(dark)}}}}}</style>"
    )
    begin, end, rest = svg.partition("<defs>")
    return f"{begin}{sheet}{end}{rest}"


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


def plot_learning_curves(
    results: Results, *, methods: Sequence[str] | None = None, width: float = WIDE
) -> Figure:
    """Mean of the main metric against the number of labels, with intervals.

    Args:
        methods: Those to draw; every one that has a score unless told.
    """
    looks, names = looks_of(results), list_drawn(results)
    names = [name for name in names if methods is None or name in methods]
    # Where there is but one number of labels, methods stand side by side.
    apart = 0.3 if len(results["labels"]) == 1 else 0.0
    steps = np.linspace(-apart, apart, len(names)).tolist()
    shifts = dict(zip(names, steps, strict=True))
    beside = width >= WIDE
    height = max(2.9, len(names) * LINE + 0.2)
    below = 0 if beside else len(names) * LINE + 0.1
    with own_style():
        figure = new_figure(width, height + below + 1.0)
        side = 3.75 if beside else 0.15
        axes = place_axes(figure, left=0.5, top=0.4, width=width - 0.5 - side, height=height)
        for name in reversed(names):
            _draw_curve(axes, results, name, looks[name], shift=shifts[name])
        places = {labels: _place(results, labels) for labels in results["labels"]}
        axes.set_xticks(list(places.values()), [str(labels) for labels in places])
        each = " of each task" if len(results["tasks"]) > 1 else ""
        axes.set_xlabel(f"{words_of(results).given}s{each}")
        axes.margins(x=0.08 if apart else 0.05)
        write_title(axes, measure_of(results).name)
        draw_grid(axes, "y")
        if beside:
            _name_ends(figure, axes, results, shifts, looks)
        else:
            write_legend(figure, results, names, top=height + 1.0)
    return figure


def plot_cost(results: Results, *, labels: int, width: float = WIDE) -> Figure:
    """Main metric against the seconds that adapting takes, on a logarithmic axis."""
    looks = looks_of(results)
    seconds = {
        name: value
        for name in scored_methods(results, labels)
        if (value := cost_of(results, name, labels, "seconds_adapt")) is not None
    }
    names, beside = list(seconds), width >= WIDE
    height = max(3.2, len(names) * LINE) if beside else 2.8
    below = 0 if beside else len(names) * LINE + 0.1
    with own_style():
        figure = new_figure(width, height + below + 1.0)
        side = 3.5 if beside else 0.2
        axes = place_axes(figure, left=0.5, top=0.4, width=width - 0.5 - side, height=height)
        places = _decades(axes, list(seconds.values()))
        for name, place in zip(names, places, strict=True):
            score = score_of(results, name, labels)
            if score:
                _draw_point(axes, place, score, looks[name])
        axes.set_xlabel("seconds to adapt to one task")
        write_title(axes, measure_of(results).name)
        draw_grid(axes, "both")
        top = height + 1.0 if not beside else 0.4
        left = width - side + 0.15 if beside else 0.15
        write_legend(figure, results, names, top=top, left=left, key="point")
    return figure


def plot_calibration(
    bins: Mapping[str, Sequence[Bin]], results: Results, *, width: float = WIDE
) -> Figure:
    """Share of right answers against the probability that methods gave them."""
    looks, names = looks_of(results), list(bins)
    side = min(width - 0.8, 3.6)
    beside = width >= WIDE
    below = 0 if beside else len(names) * LINE + 0.1
    with own_style():
        figure = new_figure(width, side + 1.0 + below)
        axes = place_axes(figure, left=0.6, top=0.4, width=side, height=side)
        axes.plot([0, 1], [0, 1], color=SOFT, linewidth=1, linestyle=(0, (1, 2)))
        for name in names:
            rows = np.array([group.rows for group in bins[name]], dtype=np.float64)
            across = [group.probability for group in bins[name]]
            up = [group.right for group in bins[name]]
            look = looks[name]
            axes.plot(across, up, color=look.color, linewidth=look.width, linestyle=look.dash)
            sizes = 15 + 150 * rows / max(rows.sum(), 1)
            axes.scatter(across, up, s=sizes, color=look.color, marker=look.marker, zorder=3)
        axes.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel="probability given to the answer")
        write_title(axes, "share that is right")
        draw_grid(axes, "both")
        left = side + 1.0 if beside else 0.15
        top = 0.4 if beside else side + 1.0
        write_legend(figure, results, names, top=top, left=left)
    return figure


def list_drawn(results: Results) -> list[str]:
    """Name the methods with any score, best first where the most labels were given."""
    names = rank_methods(results, max(results["labels"]))
    return [name for name in names if any(score_of(results, name, n) for n in results["labels"])]


def _place(results: Results, labels: int) -> float:
    """Where a number of labels stands: logarithmic, with a place for 0."""
    least = min((count for count in results["labels"] if count > 0), default=1)
    return float(np.log2(1 + labels / least))


def _draw_curve(axes: Axes, results: Results, name: str, look: Look, *, shift: float) -> None:
    scores = {n: score_of(results, name, n) for n in results["labels"]}
    points = [(_place(results, n) + shift, score) for n, score in scores.items() if score]
    across, means = [place for place, _ in points], [score.mean for _, score in points]
    best = name == best_of(results)
    banded = [
        (place, score.low, score.high)
        for place, score in points
        if score.low is not None and score.high is not None
    ]
    where, low, high = zip(*banded, strict=True) if banded else ((), (), ())
    if len(banded) > 1:
        axes.fill_between(where, low, high, color=look.color, alpha=0.2 if best else 0.07, lw=0)
    elif banded:
        axes.vlines(where, low, high, color=look.color, linewidth=1.2)
    axes.plot(
        across,
        means,
        color=look.color,
        marker=look.marker,
        markersize=7 if best else 5.5,
        markeredgecolor="white",
        markeredgewidth=0.6,
        linestyle=look.dash,
        linewidth=look.width,
        clip_on=False,
        zorder=4 if best else 3,
    )


def _name_ends(
    figure: Figure,
    axes: Axes,
    results: Results,
    shifts: Mapping[str, float],
    looks: Mapping[str, Look],
) -> None:
    """Write each method's name beside the end of its curve, moved apart where they meet."""
    last, places = max(results["labels"]), measure_of(results).places - 1
    best, ends = best_of(results), []
    for name in shifts:
        scores = {n: score_of(results, name, n) for n in results["labels"]}
        ends.append([(n, score.mean) for n, score in scores.items() if score][-1])
    axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())  # what follows moves no limit
    low, high = axes.get_ylim()
    tall = axes.get_position().height * figure.get_figheight()  # inches
    gap = LINE * (high - low) / tall
    heights = spread([end for _, end in ends], gap=gap, low=low + gap / 2, high=high - gap / 2)
    edge = axes.get_xlim()[1]
    span = edge - axes.get_xlim()[0]
    for name, (labels, end), height in zip(shifts, ends, heights, strict=True):
        look, weight = looks[name], "bold" if name == best else "normal"
        axes.plot(
            [_place(results, labels) + shifts[name], edge, edge + 0.06 * span],
            [end, end, height],
            color=look.color,
            linewidth=0.7,
            linestyle="-" if labels == last else (0, (1, 3)),
            marker=look.marker,
            markevery=[2],
            markersize=6,
            markeredgecolor="white",
            clip_on=False,
        )
        early = "" if labels == last else f", at {labels}"
        text = f"{end:.{places}f}  {short_title(results, name)}{early}"
        where = edge + 0.1 * span
        axes.text(where, height, text, va="center", fontsize=8.5, fontweight=weight)


def _draw_point(axes: Axes, across: float, score: Score, look: Look) -> None:
    if score.low is not None and score.high is not None:
        axes.plot([across, across], [score.low, score.high], color=look.color, linewidth=1.2)
    axes.plot(
        across,
        score.mean,
        color=look.color,
        marker=look.marker,
        markersize=10 if look.width > 2 else 7.5,
        markeredgecolor="white",
        markeredgewidth=0.8,
        linestyle="none",
    )


def _decades(axes: Axes, seconds: Sequence[float]) -> list[float]:
    """Make the axis logarithmic, with a place for no time at all; give each value's place."""
    above = [value for value in seconds if value > 0] or [1.0]
    first, last = int(np.floor(np.log10(min(above)))), int(np.ceil(np.log10(max(above))))
    last = max(last, first + 1)
    ticks = {float(power): f"{10.0**power:,.10g}" for power in range(first, last + 1)}
    if len(above) < len(seconds):
        ticks = {first - 1.0: "0", **ticks}
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.set_xlim(min(ticks) - 0.2, max(ticks) + 0.1)
    return [float(np.log10(value)) if value > 0 else first - 1.0 for value in seconds]


def plot_domains(
    results: Results, *, labels: int, methods: Sequence[str], width: float = WIDE
) -> Figure:
    """Bars of the main metric for some methods in every domain, with the range of the draws."""
    looks, reach = looks_of(results), _reach(results, labels)
    tasks = [task["name"] for task in results["tasks"]]
    columns = min(2 if width >= WIDE else 1, len(tasks))
    rows = -(-len(tasks) // columns)
    height, legend = 0.24 * len(methods) + 0.12, -(-len(methods) // columns) * LINE + 0.2
    with own_style():
        figure = new_figure(width, legend + rows * (height + 0.3) + 0.35)
        write_legend(figure, results, methods, top=0.1, key="bar", columns=columns)
        room = (width - 0.15) / columns
        for place, (task, title) in enumerate(zip(tasks, drawable(tasks), strict=True)):
            row, column = divmod(place, columns)
            axes = place_axes(
                figure,
                left=0.15 + column * room,
                top=legend + 0.3 + row * (height + 0.3),
                width=room - 0.35,
                height=height,
            )
            _draw_bars(
                axes, results, task, labels=labels, methods=methods, looks=looks, reach=reach
            )
            write_title(axes, shorten(title, 44))
            last = place + columns >= len(tasks)
            axes.tick_params(labelbottom=last, length=3 if last else 0)
    return figure


def plot_confusion(confusions: Sequence[Confusion], *, width: float = WIDE) -> Figure:
    """Matrices of true against answered label, colored by the share of the true label."""
    columns = min(2 if width >= WIDE else 1, len(confusions))
    rows = -(-len(confusions) // columns)
    room = min(width / columns, 4.4)
    side = room - 1.4
    with own_style():
        figure = new_figure(columns * room, rows * (side + 1.15))
        for place, confusion in enumerate(confusions):
            row, column = divmod(place, columns)
            axes = place_axes(
                figure,
                left=column * room + 1.25,
                top=row * (side + 1.15) + 0.4,
                width=side,
                height=side,
            )
            _draw_confusion(axes, confusion)
    return figure


def _draw_bars(
    axes: Axes,
    results: Results,
    task: str,
    *,
    labels: int,
    methods: Sequence[str],
    looks: Mapping[str, Look],
    reach: float,
) -> None:
    metric = results["metric"]
    places = measure_of(results).places - 1
    for place, name in enumerate(methods):
        values = [
            float(cell[metric])
            for cell in results.get("cells") or ()
            if cell.get(metric) is not None
            and (cell["method"], cell["task"], cell["labels"]) == (name, task, labels)
        ]
        if not values:
            axes.text(0.01 * reach, place, "not measured", va="center", fontsize=8.5, color=SOFT)
            continue
        mean = sum(values) / len(values)
        axes.barh(place, mean, height=0.74, color=looks[name].color)
        if len(values) > 1:
            axes.plot([min(values), max(values)], [place, place], color=INK, linewidth=1)
        behind = max(values) + 0.015 * reach
        axes.text(behind, place, f"{mean:.{places}f}", va="center", fontsize=8.5)
    axes.set(xlim=(0, 1.12 * reach), ylim=(len(methods) - 0.5, -0.5), yticks=[])
    ticks = [part * reach for part in (0, 0.25, 0.5, 0.75, 1)]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.xaxis.grid(True, color=FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(axis="x", length=0)


def _reach(results: Results, labels: int) -> float:
    """How far the axis of the bars goes: to the best score there is, or a round part of 100."""
    top = measure_of(results).top
    values = [
        float(cell[results["metric"]])
        for cell in results.get("cells") or ()
        if cell["labels"] == labels and cell.get(results["metric"]) is not None
    ]
    parts = (0.1, 0.2, 0.4, 0.6, 1) if top > 1 else (1,)
    return next((part * top for part in parts if max(values, default=top) <= part * top), top)


def _draw_confusion(axes: Axes, confusion: Confusion) -> None:
    counts, names = confusion.counts, drawable(confusion.labels)
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axes.set(xlim=(-0.5, len(names) - 0.5), ylim=(len(names) - 0.5, -0.5))
    size = 10 if len(names) <= 3 else 8
    for true, predicted in np.ndindex(*counts.shape):
        part, count = share[true, predicted], counts[true, predicted]
        text = f"{part:.0%}\n{count:,}" if len(names) <= 6 else f"{part:.0%}"
        # A shade is more or less of one color, so that it reads on dark paper too.
        corner = (predicted - 0.5, true - 0.5)
        axes.add_patch(Rectangle(corner, 1, 1, color=_SHADE, alpha=part, linewidth=0))
        color = _ON_SHADE if part > 0.85 else INK
        axes.text(predicted, true, text, ha="center", va="center", color=color, fontsize=size)
    ticks = [shorten(name, 12) for name in names]
    axes.set_xticks(range(len(names)), ticks, rotation=0 if len(names) <= 3 else 90)
    axes.set_yticks(range(len(names)), ticks)
    axes.tick_params(length=0)
    axes.set_xlabel("answered")
    axes.set_ylabel("true")
    for spine in axes.spines.values():
        spine.set_visible(False)
