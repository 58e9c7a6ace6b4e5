"""The pages: what a person sees and does, from a dropped table to a model.

A page is a function of the project. Texts of users are escaped, and each stands in its own
direction. What changes a label answers when it is on the disk.
"""

import math
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, File, Form, Request, Response, UploadFile
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from nlp_meta.app.tables import (
    SURE,
    check_languages,
    check_names,
    describe_columns,
    guess_languages,
    has_memory,
    read_dropped,
    read_pairs,
    read_sentences,
    render_answers,
    render_checked,
    split_names,
    take_rows,
)
from nlp_meta.errors import DataError, NlpMetaError
from nlp_meta.escapes import visible
from nlp_meta.files.projects import ACCEPTED, LABELED, OPEN, REJECTED, SKIPPED, UNSURE, Project, Row

Order = Callable[[str], None]
Word = Annotated[str, Form()]
Number = Annotated[int, Form()]

_KEYS = "1234567890qwertyopadfghjklzxcvbm"
"""Of the labels; s, u and n stand for skip, undo and not sure."""
_SHORT, _PAGE = 280, 40
_CLEAR = 0.2
"""Width of an interval from which on it hardly pays to check more pairs."""
_ENOUGH = 0.01
"""Gain in accuracy below which more labels hardly pay."""
_FACTS = ("figures", "curve", "progress", "problem", "saved", "setup")
_STATIC = {
    "app.css": "text/css; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "htmx.min.js": "text/javascript; charset=utf-8",
}
_TYPES = {
    "csv": "text/csv; charset=utf-8",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "tmx": "application/xml",
}
_PAIR_KEYS = {ACCEPTED: "a", REJECTED: "r"}


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("nlp_meta.app"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "plain": lambda text: visible(text, keep="\n\t"),
        "short": lambda text: visible(_shorten(text), keep=""),
        "percent": lambda share: f"{100 * share:.0f} %",
        "chance": lambda share: f"{min(100 * share, 99):.0f} %",
    }
    return environment


def _shorten(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHORT else line[: _SHORT - 1] + "…"


class Pages:
    """Pages of one project."""

    def __init__(self, project: Project, order: Order) -> None:
        self.project, self.order = project, order

    def show(self, name: str, **values: object) -> HTMLResponse:
        """Fill a template; what htmx asks for is a part of a page."""
        facts = {
            "project": self.project.folder.resolve().name,
            "step": name,
            "is_set_up": bool(self.project.labels),
            "has_pairs": self.project.has_pairs,
            "problem": self.project.read_fact("problem"),
            "note": "",
        }
        template = _environment().get_template(f"{name}.html.j2")
        status = int(str(values.pop("status", 200)))
        return HTMLResponse(template.render(**facts | values), status_code=status)

    def begin(self) -> Response:
        """Show where to drop a table, or go on where the project stands."""
        if self.project.labels:
            return RedirectResponse("/label", status_code=303)
        if dropped := self.project.read_fact("dropped"):
            return RedirectResponse(dropped["next"], status_code=303)
        return self.show("drop")

    def drop(self, files: Sequence[tuple[str, bytes]]) -> Response:
        """Keep what was dropped in the project's folder, and read it once to see what it is.

        Raises:
            DataError: It is no table, no memory, and no two texts.
        """
        self._check_new()
        if len(files) > 2:
            raise DataError(
                f"cannot take {len(files)} files: a table, a translation memory or two texts are "
                "needed; drop one or two"
            )
        paths = []
        for place, (name, content) in enumerate(files, start=1):
            ending = "".join(Path(re.sub(r"[^\w.-]", "_", name)).suffixes[-2:]).lower()
            paths.append(self.project.folder / f"dropped{place}{ending[-16:]}")
            paths[-1].write_bytes(content)
        names = [name[-200:] for name, _ in files]
        self.project.write_fact("names", [[path.name for path in paths], names])
        if len(paths) > 1:
            for path in paths:
                read_sentences(path)
        elif not has_memory(paths[0]):
            read_dropped(paths[0])
        page = "/pairs" if len(paths) > 1 or has_memory(paths[0]) else "/columns"
        dropped = {"paths": [path.name for path in paths], "names": names, "next": page}
        self.project.write_fact("dropped", dropped)
        return RedirectResponse(page, status_code=303)

    def _dropped(self) -> list[Path]:
        """What was dropped into a project that is not set up yet."""
        names = (self.project.read_fact("dropped") or {"paths": []})["paths"]
        return [] if self.project.labels else [self.project.folder / name for name in names]

    def pairs(self) -> Response:
        """Ask for the languages of pairs."""
        if not (paths := self._dropped()):
            return RedirectResponse("/", status_code=303)
        guessed = guess_languages(paths[0]) if len(paths) == 1 else ("", "")
        files = self.project.read_fact("dropped")["names"]
        return self.show("pairs", files=files, languages=guessed)

    def set_up_pairs(self, source_lang: str, target_lang: str) -> Response:
        """Take the pairs of a memory, or have two texts paired."""
        self._check_new()
        paths, languages = self._dropped(), (source_lang.strip(), target_lang.strip())
        check_languages(languages)
        pairs = read_pairs(paths[0], languages) if len(paths) == 1 else []
        self.project.set_up_pairs(pairs, languages=languages)
        self.order("work")
        return RedirectResponse("/label", status_code=303)

    def columns(self) -> Response:
        """Ask which column has the texts, and how the labels are called."""
        paths = self._dropped()
        if len(paths) != 1:
            return RedirectResponse("/", status_code=303)
        rows = read_dropped(paths[0])
        return self.show(
            "columns",
            columns=describe_columns(rows),
            count=rows.count,
            file=self.project.read_fact("dropped")["names"][0],
            may_be_memory={"source", "target"} <= set(rows.columns),
        )

    def set_up(self, text_column: str, label_column: str, names: str) -> Response:
        """Take the rows of the table."""
        self._check_new()
        if not (paths := self._dropped()):
            return RedirectResponse("/", status_code=303)
        table = take_rows(paths[0], text_column=text_column, label_column=label_column, names=names)
        self.project.set_up(
            table.texts,
            table.cells,
            text_column=text_column,
            columns=table.columns,
            labels=table.labels,
            given=table.given,
        )
        self.order("work")
        return RedirectResponse("/label", status_code=303)

    def _check_new(self) -> None:
        if self.project.labels:
            raise DataError(
                "cannot take another table: this project has its texts already and an empty one is "
                "needed; start `nlp-meta app` with another folder"
            )

    def label(self) -> Response:
        """Show the page of labeling."""
        if not self.project.labels:
            return RedirectResponse("/", status_code=303)
        return self.show("label", **self._card() | self.status())

    def card(self, request: Request, row: Row | None = None, note: str = "") -> Response:
        """Show the next text, or one that was taken back."""
        if "hx-request" not in request.headers:
            return RedirectResponse("/label", status_code=303)
        return self.show("card", **{**self._card(row), "note": note})

    def _card(self, row: Row | None = None) -> dict[str, Any]:
        turn = (row, row.is_random) if row is not None else self.project.next_row()
        states = self.project.count_states()
        labels = self.project.labels
        keys = {label: _KEYS[n : n + 1] for n, label in enumerate(labels)}
        answers = self.project.read_fact("answers") if self.project.has_pairs else None
        return {
            "is_ready": bool(answers) or not self.project.has_pairs,
            "likeness": turn and (answers or {"alike": {}})["alike"].get(str(turn[0].id)),
            "progress": self.project.read_fact("progress"),
            "row": turn and turn[0],
            "is_random": bool(turn and turn[1]),
            "states": states,
            "total": sum(states.values()),
            "keys": _PAIR_KEYS if self.project.has_pairs else keys,
        }

    def answer(
        self, request: Request, row: int, version: int, do: str, is_random: bool
    ) -> Response:
        """Write what a person says of a text, and show the next one."""
        if do == "undo":
            back = self.project.undo()
            self.order("work")
            note = "" if back else "There is nothing to take back."
            return self.card(request, back, note=note)
        state, label = self._read_answer(do)
        is_written = self.project.answer(
            row, version, state=state, label=label, is_random=is_random
        )
        self.order("work")
        if is_written:
            return self.card(request)
        now = self.project.find_row(row)
        word = "" if now is None else f": it is {now.label or now.state} there"
        return self.card(
            request, note=f"That text was answered in another window{word}. Yours is not written."
        )

    def _read_answer(self, do: str) -> tuple[str, str | None]:
        word, _, label = do.partition(":")
        if word == "label" and label in self.project.labels:
            return LABELED, label
        if word in (SKIPPED, UNSURE, OPEN) and not label:
            return word, None
        raise DataError(
            f"cannot take the answer {do[:80]!r}: one of the labels is needed; reload the page"
        )

    def correct(self, request: Request, row: int, version: int, do: str) -> Response:
        """Write a label of the list of texts, and show its line anew."""
        state, label = self._read_answer(do)
        is_written = self.project.answer(row, version, state=state, label=label)
        self.order("work")
        now = self.project.find_row(row)
        if now is None:
            raise DataError(f"cannot find text {row}: one of the table is needed; reload the page")
        if "hx-request" not in request.headers:
            return RedirectResponse("/texts", status_code=303)
        answers = self.project.read_fact("answers")
        note = "" if is_written else "Changed in another window meanwhile."
        line = _line(now, answers)
        return self.show("line", line=line, labels=self.project.labels, note=note)

    def add_label(self, name: str) -> Response:
        """Name one label more."""
        new = check_names(split_names(name), least=1)
        check_names([*self.project.labels, *new])
        for label in new:
            self.project.add_label(label)
        self.order("work")
        return RedirectResponse("/label", status_code=303)

    def status(self) -> dict[str, Any]:
        """What there is to tell of the model so far."""
        project = self.project
        seen = [project.changes, *(project.fact_version(name) for name in _FACTS)]
        figures, curve = project.read_fact("figures"), project.read_fact("curve")
        return {
            "figures": figures,
            "curve": curve,
            "progress": project.read_fact("progress"),
            "counts": project.count_labels(),
            "seen": "-".join(map(str, seen)),
            "advice": _advise_pairs(figures)
            if project.has_pairs
            else _advise(project.count_labels(), figures, curve),
        }

    def show_status(self, seen: str) -> Response:
        """Tell it again where it changed since."""
        status = self.status()
        if status["seen"] == seen:
            return Response(status_code=204)
        return self.show("status", **status)

    def results(self) -> Response:
        """Show how good the model is, and why."""
        if not self.project.labels or self.project.has_pairs:
            return RedirectResponse("/", status_code=303)
        status = self.status()
        kept = self.project.read_fact("kept") or {}
        doubts = [
            {**doubt, "row": row}
            for doubt in (status["figures"] or {}).get("doubts", ())
            if (row := self.project.find_row(doubt["row"])) is not None
            and row.state == LABELED
            and row.label != doubt["suggestion"]
            and kept.get(str(row.id)) != row.version
        ]
        return self.show("results", **status, doubts=doubts, draw=_draw(status["curve"]))

    def settle(self, row: int, version: int, do: str) -> Response:
        """Keep a label that was doubted, or change it."""
        if do == "keep":
            kept = self.project.read_fact("kept") or {}
            self.project.write_fact("kept", {**kept, str(row): version})
        else:
            state, label = self._read_answer(do)
            self.project.answer(row, version, state=state, label=label)
            self.order("work")
        return RedirectResponse("/results", status_code=303)

    def texts(self, request: Request, asked: Mapping[str, str]) -> Response:
        """List all texts with their labels, as far as they are asked for."""
        if not self.project.labels:
            return RedirectResponse("/", status_code=303)
        answers, labels = self.project.read_fact("answers"), self.project.labels
        lines = [_line(row, answers) for row in self.project.list_rows()]
        shown = [line for line in lines if _is_asked(line, asked)]
        if asked["order"] != "table":
            sign = 1 if asked["order"] == "unsure" else -1
            shown.sort(key=lambda line: sign * line["confidence"])
        pages = max(1, -(-len(shown) // _PAGE))
        page = min(max(1, int(asked["page"] if asked["page"].isdecimal() else 1)), pages)
        part = shown[(page - 1) * _PAGE : page * _PAGE]
        values = {"lines": part, "found": len(shown), "total": len(lines), "page": page}
        values |= {"progress": self.project.read_fact("progress")}
        name = "list" if "hx-request" in request.headers else "texts"
        return self.show(name, **values, pages=pages, labels=labels, asked=asked)

    def download(self, form: str, least: str) -> Response:
        """Give the table back with a label in each row, or the pairs that are right."""
        if self.project.has_pairs:
            bound = float(least) / 100 if least.isdecimal() else SURE
            content, kind = render_checked(self.project, form, least=bound), "pairs"
        else:
            content, kind = render_answers(self.project, form), "labeled"
        folder = re.sub(r"[^A-Za-z0-9_-]+", "_", self.project.folder.resolve().name)
        name = f"{folder}_{kind}.{form}"
        headers = {"content-disposition": f'attachment; filename="{name}"'}
        return Response(content, media_type=_TYPES[form], headers=headers)

    def use(self) -> Response:
        """Show how the model is saved and used."""
        if not self.project.labels:
            return RedirectResponse("/", status_code=303)
        folder = self.project.folder
        model = shlex.quote(str(folder / "model"))
        report = folder / "report" / "report.html"
        return self.show(
            "use",
            saved=self.project.read_fact("saved"),
            exported=self.project.read_fact("exported"),
            is_saving=self.project.read_fact("saving") or False,
            changes=self.project.changes,
            figures=self.project.read_fact("figures"),
            has_report=report.is_file(),
            model=model,
            exported_to=shlex.quote(str(folder / "exported")),
            folder=shlex.quote(str(folder)),
            start=shlex.quote(self.project.read_fact("start") or "builtin:reviews-en"),
        )

    def save(self, do: str) -> Response:
        """Have the model saved, or exported too."""
        order = "export" if do == "export" and not self.project.has_pairs else "save"
        self.project.write_fact("saving", order)
        self.order(order)
        return RedirectResponse("/use", status_code=303)

    def ask_why(self, row: int) -> Response:
        """Have it told which words decided the label of a text."""
        self.project.write_fact("asked", row)
        self.order("why")
        return self.show_why(row, self.project.fact_version("asked"))

    def show_why(self, row: int, ticket: int) -> Response:
        """Show the words when they are there."""
        why, problem = self.project.read_fact("why"), self.project.read_fact("problem")
        why = why if why and why["ticket"] >= ticket else None
        return self.show("why", why=why, row=row, ticket=ticket, problem=problem)


def _line(row: Row, answers: Mapping[str, Any] | None) -> dict[str, Any]:
    """What the list shows of a text: its label, who says so, and how sure."""
    if row.state == LABELED:
        confidence = float(row.target is None or row.label == ACCEPTED)
        return {"row": row, "label": row.label, "by": "you", "confidence": confidence}
    odds = (answers or {"answers": {}})["answers"].get(str(row.id))
    if answers is None or odds is None:
        return {"row": row, "label": None, "by": "", "confidence": 0.0}
    if row.target is not None:  # only a person accepts
        return {"row": row, "label": None, "by": "model", "confidence": odds[0]}
    best = max(range(len(odds)), key=odds.__getitem__)
    label = answers["labels"][best]
    return {"row": row, "label": label, "by": "model", "confidence": odds[best]}


def _is_asked(line: Mapping[str, Any], asked: Mapping[str, str]) -> bool:
    least = asked["least"]
    bound = float(least) / 100 if least.isdecimal() else 0.0
    return (
        asked["label"] in ("", line["label"])
        and asked["by"] in ("", line["by"])
        and line["confidence"] >= bound
        and asked["q"].casefold() in f"{line['row'].text}\n{line['row'].target or ''}".casefold()
    )


def _advise_pairs(figures: Mapping[str, Any] | None) -> str:
    """What to do next, in a sentence."""
    if figures is None:
        return "The sentences are being compared."
    taken = f"{figures['taken']} pairs look right so far."
    if "accuracy" not in figures:
        return (
            f"{taken} Check on: how many of these are right can be told from about 20 answers on."
        )
    if figures["high"] - figures["low"] > _CLEAR:
        return f"{taken} Check on, and it becomes clearer how many of them are right."
    return f"{taken} Look them through and download them under All pairs."


def _advise(
    counts: Mapping[str, int], figures: Mapping[str, Any] | None, curve: Mapping[str, Any] | None
) -> str:
    """What to do next, in a sentence."""
    if sum(count > 1 for count in counts.values()) < 2:
        return "Label two texts of two labels, and the model begins to learn."
    if figures is None:
        return "The model is learning."
    if "accuracy" not in figures:
        return "Label on: how good the model is can be told from about 8 random texts on."
    rare = [name for name, count in counts.items() if count < 4]
    if curve is None or "gain" not in curve:
        few = f" Of {', '.join(rare)} there are fewer than 4." if rare else ""
        return f"Label on: soon it can be told what more labels would bring.{few}"
    mean, low, high = (round(100 * part) for part in curve["gain"])
    if curve["gain"][0] >= _ENOUGH:
        return f"20 more labels should bring about {mean} points more ({low} to {high})."
    most = f", {high} at most" if high > 1 else ""
    return f"20 more labels are expected to bring less than 1 point{most}: these may be enough."


def _draw(curve: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Places of the learning curve in a picture of 320 by 180."""
    if not curve:
        return None
    points, line = curve["points"], curve["line"]
    most, scores = line[-1][0], [score for _, score in [*points, *line]]
    low, high = math.floor(10 * min(scores) - 0.5) / 10, math.ceil(10 * max(scores)) / 10
    low = max(0.0, low)

    def place(size: float, score: float) -> tuple[float, float]:
        return round(44 + 262 * size / most, 1), round(150 - 136 * (score - low) / (high - low), 1)

    return {
        "points": [place(*point) for point in points],
        "past": [place(*point) for point in line[:-1]],
        "coming": [place(*point) for point in line[-2:]],
        "ticks": [
            (tenth / 10, place(0, tenth / 10)[1])
            for tenth in range(round(10 * low), round(10 * high) + 1)
        ],
        "sizes": [(size, place(size, low)[0]) for size in (points[0][0], curve["labels"], most)],
        "words": "; ".join(
            f"{score:.0%} at {size} labels" for size, score in [*points, *line[-2:]]
        ),
    }


def add_pages(app: FastAPI, project: Project, order: Order) -> None:
    """Add all routes."""
    pages = Pages(project, order)
    _add_reading(app, pages)
    _add_pairs(app, pages)
    _add_files(app, pages)
    _add_writing(app, pages)

    @app.exception_handler(NlpMetaError)
    def tell(request: Request, error: NlpMetaError) -> Response:
        page = "problem" if "hx-request" in request.headers else "error"
        message = str(error)
        for kept, name in zip(*(project.read_fact("names") or ((), ())), strict=True):
            message = message.replace(str(project.folder / kept), name)
        return pages.show(page, message=message, status=422)


def _add_reading(app: FastAPI, pages: Pages) -> None:
    app.get("/")(pages.begin)
    app.get("/columns")(pages.columns)
    app.get("/label")(pages.label)
    app.get("/results")(pages.results)
    app.get("/use")(pages.use)

    @app.get("/drop")
    def drop() -> Response:
        return pages.show("drop")

    @app.get("/status")
    def status(seen: str = "") -> Response:
        return pages.show_status(seen)

    @app.get("/texts")
    def texts(request: Request) -> Response:
        least = f"{100 * SURE:.0f}" if pages.project.has_pairs else ""
        usual = {"label": "", "by": "", "least": least, "q": "", "order": "table", "page": "1"}
        asked = {name: request.query_params.get(name, value) for name, value in usual.items()}
        return pages.texts(request, asked)

    @app.get("/why")
    def why(row: int, ticket: int) -> Response:
        return pages.show_why(row, ticket)


def _add_pairs(app: FastAPI, pages: Pages) -> None:
    app.get("/pairs")(pages.pairs)

    @app.get("/card")
    def card(request: Request) -> Response:
        return pages.card(request)

    @app.post("/pairs")
    def set_up_pairs(source_lang: Word, target_lang: Word) -> Response:
        return pages.set_up_pairs(source_lang, target_lang)


def _add_files(app: FastAPI, pages: Pages) -> None:
    @app.get("/download.{form}")
    def download(form: str, least: str = "") -> Response:
        if form not in _TYPES or (form == "tmx" and not pages.project.has_pairs):
            raise DataError(f"cannot write .{form[:10]}: csv, xlsx or, of pairs, tmx is needed")
        return pages.download(form, least)

    @app.get("/report")
    def report() -> Response:
        page = pages.project.folder / "report" / "report.html"
        if not page.is_file():
            return RedirectResponse("/use", status_code=303)
        return HTMLResponse(page.read_bytes())

    @app.get("/static/{name}")
    def static(name: str) -> Response:
        if name not in _STATIC:
            return Response(status_code=404)
        content = (resources.files("nlp_meta.app") / "static" / name).read_bytes()
        return Response(content, media_type=_STATIC[name])


def _add_writing(app: FastAPI, pages: Pages) -> None:
    @app.post("/drop")
    def drop(table: Annotated[list[UploadFile], File()]) -> Response:
        files = [(file.filename or "table.csv", file.file.read()) for file in table]
        return pages.drop(files)

    @app.post("/columns")
    def set_up(text_column: Word, label_column: Word = "", names: Word = "") -> Response:
        return pages.set_up(text_column, label_column, names)

    @app.post("/label")
    def answer(
        request: Request, do: Word, row: Number = 0, version: Number = 0, is_random: Number = 0
    ) -> Response:
        return pages.answer(request, row, version, do, bool(is_random))

    @app.post("/texts")
    def correct(request: Request, do: Word, row: Number, version: Number) -> Response:
        return pages.correct(request, row, version, do)

    @app.post("/labels")
    def add_label(name: Word) -> Response:
        return pages.add_label(name)

    @app.post("/results")
    def settle(do: Word, row: Number, version: Number) -> Response:
        return pages.settle(row, version, do)

    @app.post("/use")
    def save(do: Word = "save") -> Response:
        return pages.save(do)

    @app.post("/why")
    def ask_why(row: Number) -> Response:
        return pages.ask_why(row)
