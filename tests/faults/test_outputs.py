"""The one writer: what stands at a place is whole, and is lost to nobody who did not say so."""

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from nlp_meta.errors import OutputError, SettingsError
from nlp_meta.files import outputs
from nlp_meta.files.locks import lock
from nlp_meta.files.outputs import (
    Layout,
    check_file,
    check_folder,
    read_folder,
    remove_folder,
    write_file,
    write_folder,
)

MODEL = Layout("a model", "record.json", names=("weights", "README.md"), same={"role": "adapted"})


def save(
    folder: Path,
    *,
    content: str = "new",
    replace: bool = False,
    role: str = "adapted",
    among: bool = False,
) -> None:
    layout = Layout(MODEL.what, MODEL.record, MODEL.names, same={"role": role}, among=among)
    with write_folder(folder, layout, replace=replace) as draft:
        (draft.path / "weights").write_text(content, encoding="utf-8")
        (draft.path / "README.md").write_text(f"card of {content}", encoding="utf-8")
        (draft.path / "deep").mkdir()
        (draft.path / "deep" / "figure.svg").write_text(content, encoding="utf-8")
        draft.record = {"role": role}


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_folder_is_written_with_a_record_of_its_files(tmp_path: Path) -> None:
    save(tmp_path / "m")

    record = read_folder(tmp_path / "m", MODEL)
    assert sorted(record["files"]) == ["deep/figure.svg", "weights"]
    assert record["files"]["weights"]["bytes"] == 3
    assert contents(tmp_path / "m").keys() == {
        "weights",
        "README.md",
        "deep/figure.svg",
        "record.json",
    }


def test_our_own_files_that_nobody_changed_are_replaced_and_all_others_stay(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    save(folder, content="old")
    (folder / "labels.csv").write_text("mine", encoding="utf-8")
    (folder / "notes" / "deep").mkdir(parents=True)
    (folder / "notes" / "deep" / "a.txt").write_text("mine too", encoding="utf-8")
    (folder / "deep" / "mine.svg").write_text("beside theirs", encoding="utf-8")
    (folder / "link").symlink_to("labels.csv")

    save(folder)

    assert (folder / "weights").read_text(encoding="utf-8") == "new"
    assert (folder / "labels.csv").read_text(encoding="utf-8") == "mine"
    assert (folder / "notes" / "deep" / "a.txt").read_text(encoding="utf-8") == "mine too"
    assert (folder / "deep" / "mine.svg").read_text(encoding="utf-8") == "beside theirs"
    assert (folder / "link").is_symlink()
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_a_file_of_an_old_model_that_the_new_one_lacks_goes(tmp_path: Path) -> None:
    save(tmp_path / "m")

    with write_folder(tmp_path / "m", MODEL) as draft:
        draft.record = {"role": "adapted"}

    assert contents(tmp_path / "m").keys() == {"record.json"}


def edit(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text("a person's", encoding="utf-8")


def edit_record(folder: Path) -> None:
    record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    (folder / "record.json").write_text(json.dumps(record | {"note": "mine"}), encoding="utf-8")


def forget_files(folder: Path) -> None:
    """What an earlier version wrote."""
    (folder / "record.json").write_text(json.dumps({"role": "adapted"}), encoding="utf-8")


def make_link(folder: Path) -> None:
    (folder.parent / "elsewhere").write_text("new", encoding="utf-8")
    (folder / "weights").unlink()
    (folder / "weights").symlink_to(folder.parent / "elsewhere")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (edit("weights"), "weights"),
        (edit("README.md"), r"README\.md"),
        (edit("deep/figure.svg"), r"deep/figure\.svg"),
        (edit_record, r"record\.json"),
        (edit("record.json"), r"record\.json is no JSON"),
        (forget_files, "does not list"),
        (make_link, "weights"),
    ],
)
def test_what_a_person_worked_on_stops_until_it_may_be_replaced(
    change: Callable[[Path], None], says: str, tmp_path: Path
) -> None:
    folder = tmp_path / "m"
    save(folder, content="old")
    change(folder)
    before = contents(tmp_path)

    for write in (save, lambda place: check_folder(place, MODEL)):
        with pytest.raises(OutputError, match=rf"{says}.*`replace`"):
            write(folder)
        assert contents(tmp_path) == before
    with pytest.raises(SettingsError, match="as `replace`: True or False is needed"):
        save(folder, replace="no")
    assert contents(tmp_path) == before

    save(folder, replace=True)
    assert (folder / "weights").read_text(encoding="utf-8") == "new"
    assert (tmp_path / "elsewhere").exists() == (change is make_link)


def test_a_persons_file_of_one_of_our_names_stops(tmp_path: Path) -> None:
    with write_folder(tmp_path / "m", MODEL) as draft:
        draft.record = {"role": "adapted"}
    (tmp_path / "m" / "README.md").write_text("mine", encoding="utf-8")

    with pytest.raises(OutputError, match=r"did not write: README\.md"):
        save(tmp_path / "m")

    assert (tmp_path / "m" / "README.md").read_text(encoding="utf-8") == "mine"


def test_a_folder_of_a_persons_is_no_place_for_a_file(tmp_path: Path) -> None:
    """Not even where it may be replaced: nobody meant a whole folder."""
    (tmp_path / "m" / "weights").mkdir(parents=True)
    (tmp_path / "m" / "weights" / "mine").write_text("mine", encoding="utf-8")

    with pytest.raises(OutputError, match="'weights' is a folder there"):
        save(tmp_path / "m", replace=True)

    assert (tmp_path / "m" / "weights" / "mine").is_file()


def test_another_kind_of_model_and_other_peoples_folders_stop(tmp_path: Path) -> None:
    save(tmp_path / "start", role="start")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work", encoding="utf-8")
    before = contents(tmp_path)

    with pytest.raises(OutputError, match="role 'start'"):
        save(tmp_path / "start")
    with pytest.raises(OutputError, match=r"chapter\.tex"):
        save(tmp_path / "thesis")
    assert contents(tmp_path) == before

    save(tmp_path / "thesis", replace=True)
    assert (tmp_path / "thesis" / "chapter.tex").read_text(encoding="utf-8") == "years of work"


@pytest.mark.parametrize("path", ["m", "link", "m/../m", "m/."])
def test_an_input_is_never_replaced_whatever_it_is_called(path: str, tmp_path: Path) -> None:
    save(tmp_path / "m")
    (tmp_path / "link").symlink_to("m", target_is_directory=True)

    with pytest.raises(OutputError, match="read by this command"):
        check_folder(tmp_path / path, MODEL, inputs=[tmp_path / "m"], replace=True)


@pytest.mark.parametrize("name", ["weights", "record.json"])
def test_an_input_of_one_of_our_names_is_never_replaced(name: str, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "data.csv").write_text("a,b", encoding="utf-8")
    os.link(tmp_path / "data.csv", tmp_path / "m" / name)

    with pytest.raises(OutputError, match="read by this command"):
        check_folder(tmp_path / "m", MODEL, inputs=[tmp_path / "data.csv"], replace=True)


def test_a_persons_file_in_a_folder_below_is_not_replaced(tmp_path: Path) -> None:
    """Where ours lie among other files too."""
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "figure.svg").write_text("mine", encoding="utf-8")

    with pytest.raises(OutputError, match=r"it holds deep/figure\.svg, and it is not replaced"):
        save(tmp_path, among=True)

    assert contents(tmp_path) == {"deep/figure.svg": b"mine"}


@pytest.mark.parametrize(("others", "left"), [((), set()), (("notes.txt",), {"notes.txt"})])
def test_only_our_files_are_removed_with_a_folder(
    others: tuple[str, ...], left: set[str], tmp_path: Path
) -> None:
    (tmp_path / "cells").mkdir()
    for name in ("a.0.jsonl", "b.1.jsonl", *others):
        (tmp_path / "cells" / name).write_text("x", encoding="utf-8")

    remove_folder(tmp_path / "cells", ours=r".+\.\d\.jsonl")

    assert {path.name for path in tmp_path.rglob("*")} == {*left, *(["cells"] if left else [])}


def test_a_folder_that_is_a_link_keeps_being_one(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "m").symlink_to("disk", target_is_directory=True)

    for _ in range(2):
        save(tmp_path / "m")

    assert (tmp_path / "m").is_symlink()
    assert (tmp_path / "disk" / "weights").is_file()


def test_a_link_to_nowhere_is_followed(tmp_path: Path) -> None:
    (tmp_path / "m").symlink_to("disk/later", target_is_directory=True)

    save(tmp_path / "m")

    assert (tmp_path / "disk" / "later" / "weights").is_file()


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_files_get_the_mode_that_the_umask_asks_for(umask: int, mode: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        with write_folder(tmp_path / "m", MODEL) as draft:
            handle = os.open(draft.path / "weights", os.O_CREAT | os.O_WRONLY, 0o600)
            os.close(handle)
            draft.record = {"role": "adapted"}
        write_file(tmp_path / "t.csv", "a")
    finally:
        os.umask(before)

    files = [tmp_path / "m" / "weights", tmp_path / "m" / "record.json", tmp_path / "t.csv"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {mode}
    assert stat.S_IMODE((tmp_path / "m").stat().st_mode) == 0o777 & ~umask


def test_what_is_replaced_keeps_its_mode(tmp_path: Path) -> None:
    save(tmp_path / "m")
    write_file(tmp_path / "t.csv", "a")
    (tmp_path / "m").chmod(0o700)
    for path in (tmp_path / "m" / "weights", tmp_path / "t.csv"):
        path.chmod(0o600)

    save(tmp_path / "m", content="newer")
    write_file(tmp_path / "t.csv", "b")

    assert stat.S_IMODE((tmp_path / "m").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "m" / "weights").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "t.csv").stat().st_mode) == 0o600


def test_a_folder_that_cannot_be_renamed_is_filled_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that a disk is mounted on."""
    monkeypatch.setattr(outputs, "_exchange", lambda *_: False)
    save(tmp_path / "m", content="old")
    (tmp_path / "m" / "labels.csv").write_text("mine", encoding="utf-8")

    save(tmp_path / "m")

    assert (tmp_path / "m" / "weights").read_text(encoding="utf-8") == "new"
    assert (tmp_path / "m" / "labels.csv").read_text(encoding="utf-8") == "mine"
    read_folder(tmp_path / "m", MODEL)


def test_an_error_while_filling_in_place_brings_the_old_files_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outputs, "_exchange", lambda *_: False)
    save(tmp_path / "m", content="old")
    before = contents(tmp_path)
    rename, moves = Path.rename, [0]

    def fail(path: Path, target: Path) -> Path:
        moves[0] += 1
        if moves[0] == 4:
            raise OSError(5, "Input/output error")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OutputError, match="Input/output error"):
        save(tmp_path / "m")

    assert contents(tmp_path) == before


def test_without_an_exchange_in_one_step_the_old_folder_steps_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outputs.ctypes, "CDLL", lambda *_: object())
    save(tmp_path / "m", content="old")
    (tmp_path / "m" / "labels.csv").write_text("mine", encoding="utf-8")

    save(tmp_path / "m")

    assert (tmp_path / "m" / "weights").read_text(encoding="utf-8") == "new"
    assert (tmp_path / "m" / "labels.csv").read_text(encoding="utf-8") == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_what_killed_processes_left_is_removed_and_what_living_ones_hold_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outputs, "_STALE_AFTER", -1.0)
    for name in ("dead", "alive"):
        (tmp_path / f".nlp_meta-{name}").mkdir()
        (tmp_path / f".nlp_meta-{name}" / "weights").write_text("half", encoding="utf-8")

    with lock(tmp_path / ".nlp_meta-alive"):
        save(tmp_path / "m")

    assert sorted(path.name for path in tmp_path.iterdir()) == [".nlp_meta-alive", "m"]


def test_a_file_that_is_ours_is_replaced_and_a_persons_is_not(tmp_path: Path) -> None:
    """Ours is one that was written at this place and not changed since."""
    path = tmp_path / "p.csv"
    write_file(path, "one")
    write_file(path, "two")
    (tmp_path / "copy.csv").write_bytes(path.read_bytes())
    path.with_name("renamed.csv").write_text("", encoding="utf-8")
    path.replace(tmp_path / "renamed.csv")
    path.write_text("mine", encoding="utf-8")
    write_file(tmp_path / "edited.csv", "one")
    with (tmp_path / "edited.csv").open("a", encoding="utf-8") as file:
        file.write(",mine")
    before = contents(tmp_path)

    for name in ("p.csv", "copy.csv", "renamed.csv", "edited.csv"):
        with pytest.raises(OutputError, match=r"not written by nlp-meta.*`replace`"):
            write_file(tmp_path / name, "three")
    assert contents(tmp_path) == before

    write_file(path, "three", replace=True)
    assert path.read_text(encoding="utf-8") == "three"


@pytest.mark.parametrize("path", ["t.csv", "link.csv", "hard.csv", "./d/../t.csv"])
def test_an_input_file_is_never_overwritten(path: str, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    data = tmp_path / "t.csv"
    data.write_text("text,label", encoding="utf-8")
    (tmp_path / "link.csv").symlink_to("t.csv")
    os.link(data, tmp_path / "hard.csv")

    with pytest.raises(OutputError, match="which this command reads"):
        check_file(tmp_path / path, inputs=[data], replace=True)


def test_a_file_of_an_input_folder_is_never_overwritten_and_a_new_one_may_lie_in_it(
    tmp_path: Path,
) -> None:
    save(tmp_path / "m")

    check_file(tmp_path / "m" / "predictions.csv", inputs=[tmp_path / "m"])
    with pytest.raises(OutputError, match="nothing of an input"):
        check_file(tmp_path / "m" / "README.md", inputs=[tmp_path / "m"], replace=True)


def test_a_file_that_is_a_link_keeps_being_one(tmp_path: Path) -> None:
    (tmp_path / "link.csv").symlink_to("there.csv")

    for content in ("one", "two"):
        write_file(tmp_path / "link.csv", content)

    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "there.csv").read_text(encoding="utf-8") == "two"


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("file/below/m", "'.*file' is not a folder"),
        ("x" * 300, "name is too long"),
        (f"new/{'x' * 300}", "name is too long"),
        ("loop", "a link that leads to itself|is not a folder|is not a file"),
        ("null\0byte", "null"),
    ],
)
def test_places_that_cannot_be_are_named(path: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    (tmp_path / "loop").symlink_to("loop")

    for write in (save, lambda place: write_file(place, "a"), lambda place: check_file(place)):
        with pytest.raises(OutputError, match=says):
            write(tmp_path / path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "loop"]


def test_a_folder_whose_path_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"m\xff")

    with pytest.raises(OutputError, match=r"its path is not UTF-8.*name another folder"):
        check_folder(folder, MODEL)


def test_a_failed_write_takes_the_folders_away_that_it_made(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match="disk is full"),
        write_folder(tmp_path / "a" / "b" / "m", MODEL),
    ):
        raise OSError(28, "No space left on device")

    assert list(tmp_path.iterdir()) == []
