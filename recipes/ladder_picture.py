"""Draw what learning the trust in the views brings: macro-F1 by labels, one panel a suite.

python recipes/ladder_picture.py    # reads recipes/results/ladder_*.json, writes docs/ladder.svg
"""

import json
from html import escape
from math import log
from pathlib import Path
from statistics import fmean

from nlp_meta.files.outputs import write_file

ROOT = Path(__file__).resolve().parents[1]
SUITES = {"languages": "six languages", "reviews": "four industries", "labels": "27 new label sets"}
RUNGS = {
    "learned": ("#2463a8", "numbers learned on other tasks"),
    "folds": ("#c2410c", "chosen by folds of the support set"),
    "shuffled": ("#6b7785", "learned where labels are shuffled"),
    "random": ("#b3bac2", "random numbers"),
}
WIDTH, HEIGHT, PANEL, LEFT, TOP, DEEP = 760, 330, 235, 45, 40, 200
FONT = "font-family='Helvetica, Arial, sans-serif' font-size='12'"


def panel(place: int, suite: str, title: str) -> list[str]:
    """One suite: a line for each rung over tasks that all of them answered."""
    scores = json.loads((ROOT / f"recipes/results/ladder_{suite}.json").read_text("utf-8"))
    sizes = [size for size in scores if "folds" in scores[size]]
    means: dict[str, list[float]] = {rung: [] for rung in RUNGS}
    for size in sizes:
        by_rung = {rung: scores[size][rung]["macro_f1"] for rung in RUNGS}
        tasks = set.intersection(*(set(of) for of in by_rung.values()))
        for rung, of in by_rung.items():
            means[rung].append(fmean(fmean(of[task]) for task in tasks))
    low, high = min(map(min, means.values())), max(map(max, means.values()))
    begin, last = log(float(sizes[0])), log(float(sizes[-1]))
    left, wide = LEFT + place * (PANEL + 12), PANEL - 60

    def at(size: str, value: float) -> tuple[float, float]:
        across = (log(float(size)) - begin) / (last - begin)
        return left + across * wide, TOP + DEEP * (1 - (value - low) / (high - low))

    out = [f"<text x='{left}' y='{TOP - 18}' {FONT} font-weight='bold'>{escape(title)}</text>"]
    for value in (low, high):
        x, y = at(sizes[0], value)
        out.append(f"<text x='{x - 8}' y='{y + 4}' {FONT} text-anchor='end'>{value:.2f}</text>")
    for size in sizes:
        x, _ = at(size, low)
        out.append(f"<text x='{x}' y='{TOP + DEEP + 22}' {FONT} text-anchor='middle'>{size}</text>")
    for rung, (color, _) in reversed(RUNGS.items()):
        points = [at(size, value) for size, value in zip(sizes, means[rung], strict=True)]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        out.append(f"<polyline points='{line}' fill='none' stroke='{color}' stroke-width='2'/>")
        out += [f"<circle cx='{x:.1f}' cy='{y:.1f}' r='3' fill='{color}'/>" for x, y in points]
    return out


def main() -> None:
    drawn = [f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {HEIGHT}' role='img'>"]
    drawn += ["<title>Macro-F1 by number of labels</title>"]
    drawn += ["<rect width='100%' height='100%' fill='#ffffff'/>"]
    for place, (suite, title) in enumerate(SUITES.items()):
        drawn += panel(place, suite, f"{title}, macro-F1")
    for place, (color, words) in enumerate(RUNGS.values()):
        x, y = LEFT + place % 2 * 330, HEIGHT - 38 + place // 2 * 20
        drawn.append(f"<rect x='{x}' y='{y - 10}' width='12' height='12' fill='{color}'/>")
        drawn.append(f"<text x='{x + 18}' y='{y}' {FONT}>{words}</text>")
    write_file(ROOT / "docs" / "ladder.svg", "\n".join([*drawn, "</svg>"]) + "\n", replace=True)


if __name__ == "__main__":
    main()
