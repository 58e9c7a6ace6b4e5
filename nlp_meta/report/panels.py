"""Panels: pictures with one small picture for each domain or each set of labels."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from nlp_meta.report.outcomes import Confusion
from nlp_meta.report.palette import (
    FAINT,
    INK,
    LINE,
    SOFT,
    WIDE,
    Look,
    drawable,
    looks_of,
    new_figure,
    own_style,
    place_axes,
    shorten,
    write_legend,
    write_title,
)
from nlp_meta.report.verdict import Results
from nlp_meta.report.words import measure_of


def plot_domains(
    results: Results, *, labels: int, methods: Sequence[str], width: float = WIDE
) -> Figure:
    """Bars of the main metric for some methods in every domain, with the range of the draws."""
    looks, reach = looks_of(results), _reach(results, labels)
    tasks = [task["name"] for task in results["tasks"]]
    columns = min(2 if width >= WIDE else 1, len(tasks))
    rows = -(-len(tasks) // columns)
    each, legend = 0.24 * len(methods) + 0.12, -(-len(methods) // columns) * LINE + 0.2
    with own_style():
        figure = new_figure(width, legend + rows * (each + 0.3) + 0.35)
        write_legend(figure, results, methods, top=0.1, key="bar", columns=columns)
        room = (width - 0.15) / columns
        for place, (task, title) in enumerate(zip(tasks, drawable(tasks), strict=True)):
            row, column = divmod(place, columns)
            axes = place_axes(
                figure,
                left=0.15 + column * room,
                top=legend + 0.3 + row * (each + 0.3),
                width=room - 0.35,
                height=each,
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
    shades = LinearSegmentedColormap.from_list("shades", ["#ffffff", "#0072b2"])
    axes.imshow(share, cmap=shades, vmin=0, vmax=1)
    size = 10 if len(names) <= 3 else 8
    for true, predicted in np.ndindex(*counts.shape):
        part, count = share[true, predicted], counts[true, predicted]
        text = f"{part:.0%}\n{count:,}" if len(names) <= 6 else f"{part:.0%}"
        color = "white" if part > 0.55 else INK
        axes.text(predicted, true, text, ha="center", va="center", color=color, fontsize=size)
    ticks = [shorten(name, 12) for name in names]
    axes.set_xticks(range(len(names)), ticks, rotation=0 if len(names) <= 3 else 90)
    axes.set_yticks(range(len(names)), ticks)
    axes.tick_params(length=0)
    axes.set_xlabel("answered")
    axes.set_ylabel("true")
    for spine in axes.spines.values():
        spine.set_visible(False)
