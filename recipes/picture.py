"""Draw the idea of meta-training: one start from which each domain is a few steps away.

python recipes/picture.py            # writes docs/idea.svg
python recipes/picture.py --check    # exit code 1 where the file is not what this script draws
"""

import argparse
from math import hypot
from pathlib import Path

from nlp_meta.files.outputs import write_file

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "idea.svg"
WIDTH, HEIGHT = 640, 430
INK, GRAY, BLUE, ORANGE = "#1f2933", "#6b7785", "#2463a8", "#c2410c"
FONT = "font-family='Helvetica, Arial, sans-serif'"
CAPTION = "A few steps of LoRA lead from the start to each domain."

Point = tuple[float, float]
MODEL: Point = (78, 322)
START: Point = (335, 205)
DOMAINS: dict[str, Point] = {
    "food": (205, 96),
    "travel": (335, 66),
    "finance": (478, 94),
    "phones": (240, 290),
    "health": (395, 316),
}
YOURS: Point = (520, 225)


def text(place: Point, words: str, *, color: str = INK, anchor: str = "middle", bold: bool) -> str:
    return (
        f"<text x='{place[0]:.0f}' y='{place[1]:.0f}' fill='{color}' {FONT} font-size='18' "
        f"font-weight='{'bold' if bold else 'normal'}' text-anchor='{anchor}'>{words}</text>"
    )


def dot(place: Point, radius: float, color: str) -> str:
    return f"<circle cx='{place[0]:.0f}' cy='{place[1]:.0f}' r='{radius}' fill='{color}'/>"


def arrow(begin: Point, end: Point, *, color: str, width: float, gap: float) -> str:
    """A line with a head, which leaves out `gap` at both ends."""
    across, down = end[0] - begin[0], end[1] - begin[1]
    along = (across / hypot(across, down), down / hypot(across, down))
    tail = (begin[0] + gap * along[0], begin[1] + gap * along[1])
    tip = (end[0] - gap * along[0], end[1] - gap * along[1])
    size = 6 + 2 * width
    neck = (tip[0] - size * along[0], tip[1] - size * along[1])
    side = (0.6 * size * -along[1], 0.6 * size * along[0])
    corners = (tip, (neck[0] + side[0], neck[1] + side[1]), (neck[0] - side[0], neck[1] - side[1]))
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
    return (
        f"<line x1='{tail[0]:.1f}' y1='{tail[1]:.1f}' x2='{neck[0]:.1f}' y2='{neck[1]:.1f}' "
        f"stroke='{color}' stroke-width='{width}'/><polygon points='{points}' fill='{color}'/>"
    )


def draw() -> str:
    bend = f"M {MODEL[0] + 12} {MODEL[1] - 8} C 110 260, 190 215, {START[0] - 16} {START[1]}"
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{WIDTH}' height='{HEIGHT}' "
        f"viewBox='0 0 {WIDTH} {HEIGHT}' role='img'>",
        "<title>One start, from which each domain is a few steps away</title>",
        f"<rect width='{WIDTH}' height='{HEIGHT}' rx='12' fill='#ffffff'/>",
        f"<path d='{bend}' fill='none' stroke='{BLUE}' stroke-width='5' stroke-dasharray='2 9' "
        "stroke-linecap='round'/>",
    ]
    for name, place in DOMAINS.items():
        words = (place[0], place[1] + (-14 if place[1] < START[1] else 27))
        parts += [arrow(START, place, color=GRAY, width=1.5, gap=14), dot(place, 6, GRAY)]
        parts += [text(words, name, color=GRAY, bold=False)]
    parts += [
        arrow(START, YOURS, color=ORANGE, width=5, gap=16),
        dot(MODEL, 10, INK),
        dot(START, 12, BLUE),
        dot(YOURS, 10, ORANGE),
        text((MODEL[0] - 8, MODEL[1] + 34), "pretrained model", anchor="start", bold=True),
        text((24, 214), "meta-training,", color=BLUE, anchor="start", bold=True),
        text((24, 236), "done once", color=BLUE, anchor="start", bold=True),
        text((START[0] + 26, START[1] + 38), "start", color=BLUE, anchor="start", bold=True),
        text((YOURS[0], YOURS[1] + 36), "your domain:", color=ORANGE, bold=True),
        text((YOURS[0], YOURS[1] + 58), "50 to 100 labels", color=ORANGE, bold=True),
        text((WIDTH / 2, HEIGHT - 20), CAPTION, bold=False),
    ]
    return "\n".join([*parts, "</svg>", ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    if parser.parse_args().check:
        raise SystemExit(int(PICTURE.read_text(encoding="utf-8") != draw()))
    write_file(PICTURE, draw(), replace=True)


if __name__ == "__main__":
    main()
