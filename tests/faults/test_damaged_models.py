"""A model folder that was damaged, edited or mixed answers as before or is refused in a sentence.

Each way to damage a folder is made here from the files and the keys that a saved model has, so a
new file or key is covered when it comes. Where `reseal` follows, the record vouches for the
damaged files, as for a model that was saved so: then what is in the files has to be checked.
"""

import json
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from nlp_meta.errors import NlpMetaError
from nlp_meta.files.outputs import CARD, describe_files, seal
from nlp_meta.meta.inner_loop import InnerLoop
from nlp_meta.models.adaptation import Adaptation
from nlp_meta.models.builders import build_classifier
from nlp_meta.models.classification import AdaptedModel
from nlp_meta.models.meta_model import MetaModel
from nlp_meta.serving.pack import DomainPack
from nlp_meta.settings import ModelSettings

pytestmark = pytest.mark.slow

Damage = Callable[[Path, Path], None]
"""Of a copy of a model, with another model at hand."""

TEXTS = ("the agent was great", "i loved it", "awful food, slow staff", "never again") * 2
LABELS = ("positive", "positive", "negative", "negative") * 2
ASKED = ("the room was cold", "i loved the house", "bad phone")
RECORD, CONFIG, NGRAMS = "nlp_meta.json", "adapter_config.json", "companion.json"
ADAPTER, HEAD, COLUMNS = "adapter_model.safetensors", "head.safetensors", "companion.safetensors"
DEEP = '{"a": ' * 30_000
LONGEST = 2000


def save(encoder: Path, folder: Path, *, pooling: str, seed: int) -> None:
    settings = ModelSettings(
        model_name_or_path=str(encoder),
        revision=None,
        pooling=pooling,
        head="shared",
        prefix_text="",
        max_tokens=16,
        lora_r=2,
        lora_alpha=4.0,
        lora_layers=2,
        lora_target_modules=["query", "value"],
    )
    names = ("negative", "positive")
    objective = build_classifier(settings, labels=names, device="cpu", precision="no")
    generator = torch.Generator().manual_seed(seed)
    weights = {
        name: value + 0.1 * torch.randn(value.shape, generator=generator)
        for name, value in objective.meta_parameters(generator).items()
    }
    how = Adaptation(InnerLoop(2, 0.01, "adam"), None, early_stop=False)
    start = MetaModel({"classification": objective}, weights, settings, {"classification": how})
    texts = [f"{text} {seed}" for text in TEXTS]
    start.adapt(texts, LABELS, companion="ngrams").save_pretrained(folder)


@pytest.fixture(scope="module")
def models(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two models of either pooling that differ in their weights alone."""
    root = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(("", "other ")):
        for pooling in ("native", "mean"):
            save(tiny_encoder, root / f"{name}{pooling}", pooling=pooling, seed=seed)
    return {path.name: path for path in root.iterdir()}


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def write(path: Path, values: object) -> None:
    path.write_text(json.dumps(values), encoding="utf-8")


def reseal(folder: Path) -> None:
    """Let the record vouch for the files as they are."""
    record = read(folder / RECORD)
    record["files"] = describe_files(folder, [n for n in record["files"] if (folder / n).is_file()])
    model = record.get("model")
    if isinstance(model, dict) and isinstance(record.get("base"), dict):
        keys = {"name": "model_name_or_path", "revision": "revision"}
        record["base"] |= {ours: model.get(theirs) for ours, theirs in keys.items()}
    write(folder / RECORD, seal(record))


def sealed(damage: Damage) -> Damage:
    def damage_and_reseal(folder: Path, other: Path) -> None:
        damage(folder, other)
        reseal(folder)

    return damage_and_reseal


def change_bytes(name: str, change: Callable[[bytes], bytes]) -> Damage:
    def damage(folder: Path, other: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(change(content))

    return damage


def flip(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 8024\n"
BYTES: dict[str, Callable[[bytes], bytes]] = {
    "emptied": lambda _: b"",
    "cut at half": lambda content: content[: len(content) // 2],
    "cut at its end": lambda content: content[:-9],
    "one bit flipped": flip,
    "a byte more": lambda content: content + b"\n",
    "zeros": lambda content: bytes(len(content)),
    "a pointer of git-lfs": lambda _: LFS,
    "a web page": lambda _: b"<!doctype html><html><body>Log in</body></html>",
    "a pickle": lambda _: b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00.",
    "an archive": lambda _: b"PK\x03\x04" + bytes(100),
    "deep JSON": lambda _: DEEP.encode(),
    "doubled": lambda content: content * 2,
}


def of_files(names: list[str]) -> Iterator[tuple[str, Damage]]:
    """What happens to any file: deleted, a folder, of another model, or other bytes."""
    for name in names:
        yield f"{name} deleted", lambda folder, _, name=name: (folder / name).unlink()
        yield f"{name} a folder", lambda folder, _, name=name: make_folder(folder / name)
        yield (
            f"{name} of another model",
            lambda folder, other, name=name: shutil.copy(other / name, folder / name),
        )
        for what, change in BYTES.items():
            yield f"{name} {what}", change_bytes(name, change)


def make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def change_record(change: Callable[[dict], object], name: str = RECORD) -> Damage:
    def damage(folder: Path, _: Path) -> None:
        values = read(folder / name)
        change(values)
        write(folder / name, values)

    return damage


ODD = (None, True, -1, 0, 10**9, 1e308, float("inf"), float("nan"), "", "x" * 9000, [], {}, [[]])


def put(keys: list[str], value: object) -> Callable[[dict], None]:
    def change(values: dict) -> None:
        for key in keys[:-1]:
            values = values[key]
        values[keys[-1]] = value

    return change


def drop(keys: list[str]) -> Callable[[dict], None]:
    def change(values: dict) -> None:
        for key in keys[:-1]:
            values = values[key]
        del values[keys[-1]]

    return change


def paths_in(values: dict, depth: int = 2) -> Iterator[list[str]]:
    for key, value in values.items():
        yield [key]
        if isinstance(value, dict) and depth > 1:
            yield from ([key, *rest] for rest in paths_in(value, depth - 1))


def of_record(folder: Path) -> Iterator[tuple[str, Damage]]:
    """Every key of the record and of the n-grams: gone, or with an odd value, vouched for or not.

    Keys that no answer depends on stay whole in form: they are told, not computed with.
    """
    for name in (RECORD, NGRAMS):
        for path in paths_in(read(folder / name)):
            if path[0] in ("card", "provenance"):
                continue
            yield f"{name}: no {'.'.join(path)}", change_record(drop(path), name)
            if path[0] not in ("files", "seal"):
                gone = sealed(change_record(drop(path), name))
                yield f"{name}: no {'.'.join(path)}, vouched for", gone
            for number, odd in enumerate(ODD):
                if path[0] in ("files", "seal", "base") or number % 6 == 0:
                    what = f"{name}: {'.'.join(path)} is {str(odd)[:9]}"
                    yield what, change_record(put(path, odd), name)
                if path[0] in ("role", "skills", "model", "labels", "features"):
                    what = f"{name}: {'.'.join(path)} is {str(odd)[:9]}, vouched for"
                    yield what, sealed(change_record(put(path, odd), name))


def of_labels() -> Iterator[tuple[str, Damage]]:
    for what, labels in {
        "swapped": ["positive", "negative"],
        "one more": ["negative", "neutral", "positive"],
        "one fewer": ["negative"],
        "doubled": ["negative", "negative"],
        "blank": ["negative", " "],
        "others": ["bad", "good"],
        "half a surrogate pair": ["negative", "\ud800"],
    }.items():
        yield f"labels {what}", change_record(put(["labels"], labels))
        if what not in ("others", "swapped"):
            yield f"labels {what}, vouched for", sealed(change_record(put(["labels"], labels)))


PEFT = {
    "r": 8,
    "lora_alpha": 64.0,
    "target_modules": ["query"],
    "layers_to_transform": [3],
    "use_rslora": True,
    "use_dora": True,
    "bias": "all",
    "rank_pattern": {"query": 1},
    "alpha_pattern": {"query": 1},
    "fan_in_fan_out": True,
    "lora_bias": True,
    "lora_dropout": 0.5,
    "peft_type": "IA3",
    "base_model_name_or_path": "me/other",
    "revision": "v1",
    "new_key": 1,
}


def of_peft() -> Iterator[tuple[str, Damage]]:
    """Settings that are written twice."""
    for key, value in PEFT.items():
        yield f"{CONFIG}: {key}", change_record(put([key], value), CONFIG)


def change_tensors(name: str, change: Callable[[dict], object]) -> Damage:
    def damage(folder: Path, _: Path) -> None:
        tensors = load_file(folder / name)
        change(tensors)
        save_file({key: value.contiguous() for key, value in tensors.items()}, folder / name)
        reseal(folder)

    return damage


def to_all(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[dict], None]:
    return lambda tensors: tensors.update({key: change(value) for key, value in tensors.items()})


def to_first(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[dict], None]:
    def change_one(tensors: dict) -> None:
        key = sorted(tensors)[0]
        tensors[key] = change(tensors[key])

    return change_one


def with_value(value: float) -> Callable[[torch.Tensor], torch.Tensor]:
    def change(tensor: torch.Tensor) -> torch.Tensor:
        changed = tensor.clone()
        changed.view(-1)[0] = value
        return changed

    return change


def of_tensors(name: str, keys: list[str]) -> Iterator[tuple[str, Damage]]:
    """Weights that the record vouches for, as if the model had been saved with them."""
    changes = {
        "not a number": to_first(with_value(float("nan"))),
        "infinite": to_first(with_value(float("inf"))),
        "float16": to_all(lambda value: value.half()),
        "bfloat16": to_all(lambda value: value.bfloat16()),
        "float64": to_all(lambda value: value.double()),
        "int32": to_all(lambda value: value.int()),
        "flat": to_all(lambda value: value.reshape(-1)),
        "one row fewer": to_first(lambda value: value[:-1]),
        "one more dimension": to_first(lambda value: value.unsqueeze(0)),
        "empty": to_first(lambda value: value[:0]),
        "one tensor more": lambda tensors: tensors.update(extra=torch.ones(2)),
        "nothing": lambda tensors: tensors.clear(),
    }
    for what, change in changes.items():
        yield f"{name}: {what}, vouched for", change_tensors(name, change)
    for key in keys:
        yield f"{name}: no {key}", change_tensors(name, lambda tensors, key=key: tensors.pop(key))
        yield (
            f"{name}: {key} renamed",
            change_tensors(
                name, lambda tensors, key=key: tensors.update({key + "x": tensors.pop(key)})
            ),
        )


def header(values: object) -> Callable[[bytes], bytes]:
    text = values if isinstance(values, bytes) else json.dumps(values).encode()
    return lambda content: struct.pack("<Q", len(text)) + text + content[-64:]


def of_headers(name: str) -> Iterator[tuple[str, Damage]]:
    """Headers that lie: tensors that overlap, have gaps, or ask for what no memory holds."""
    whole = {"dtype": "F32", "shape": [4, 4], "data_offsets": [0, 64]}
    lies = {
        "overlap": {"a": whole, "b": whole},
        "a gap": {"a": whole, "b": {**whole, "data_offsets": [128, 192]}},
        "125 GiB": {"a": {**whole, "shape": [2**35], "data_offsets": [0, 2**37]}},
        "a huge shape": {"a": {**whole, "shape": [2**40, 2**40]}},
        "a negative shape": {"a": {**whole, "shape": [-4, -4]}},
        "an unknown type": {"a": {**whole, "dtype": "F7"}},
        "no offsets": {"a": {"dtype": "F32", "shape": [4, 4]}},
        "a list": [],
        "deep": DEEP.encode(),
    }
    for what, values in lies.items():
        yield f"{name}: header with {what}, vouched for", sealed(change_bytes(name, header(values)))
    yield (
        f"{name}: a header of 2**60 bytes, vouched for",
        sealed(change_bytes(name, lambda content: struct.pack("<Q", 2**60) + content[8:])),
    )


def of_ngrams() -> Iterator[tuple[str, Damage]]:
    def ask_for_much(folder: Path, _: Path) -> None:
        values = read(folder / NGRAMS)
        write(folder / NGRAMS, {**values, "features": 2**24})
        reseal(folder)

    def of_the_other(folder: Path, other: Path) -> None:
        for name in (NGRAMS, COLUMNS):
            shutil.copy(other / name, folder / name)

    def deleted(folder: Path, _: Path) -> None:
        for name in (NGRAMS, COLUMNS):
            (folder / name).unlink()

    yield "n-grams that ask for too much memory", ask_for_much
    yield "n-grams of another model", of_the_other
    yield "n-grams deleted", deleted
    yield "n-grams deleted, vouched for", sealed(deleted)


def of_folders() -> Iterator[tuple[str, Damage]]:
    """Files that a person adds are not ours; half a copy is no model."""

    def add_files(folder: Path, other: Path) -> None:
        (folder / "notes.txt").write_text("mine", encoding="utf-8")
        (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
        (folder / "adapter_model.bin").write_bytes(b"\x80\x04.")
        (folder / "more").mkdir()

    def edit_card(folder: Path, _: Path) -> None:
        (folder / CARD).write_text("my own words", encoding="utf-8")

    def mix(folder: Path, other: Path) -> None:
        for name in (RECORD, CONFIG):
            shutil.copy(other / name, folder / name)

    yield "a person's files added", add_files
    yield "the card edited", edit_card
    yield "the card deleted", lambda folder, _: (folder / CARD).unlink()
    yield "record and config of another model", mix
    for what, number in {"1": 1, "3": 3, "99": 99, "none": None, "a text": "2"}.items():
        yield f"format {what}", change_record(put(["format"], number))
        yield f"format {what}, vouched for", sealed(change_record(put(["format"], number)))


def ways(folder: Path) -> dict[str, Damage]:
    """All ways to damage a model's folder, by what they do."""
    names = sorted(path.name for path in folder.iterdir())
    made = [*of_files(names), *of_ngrams(), *of_folders(), *of_headers(COLUMNS)]
    if (folder / HEAD).is_file():
        made += of_tensors(HEAD, sorted(load_file(folder / HEAD)))
        made += of_headers(HEAD)
    else:
        made += [*of_record(folder), *of_labels(), *of_peft(), *of_headers(ADAPTER)]
        keys = sorted(load_file(folder / ADAPTER))
        made += of_tensors(ADAPTER, sorted({*keys[:2], *keys[-2:]}))
    assert len(dict(made)) == len(made)
    return dict(made)


@pytest.mark.parametrize("kind", ["native", "mean"])
def test_a_damaged_model_answers_as_before_or_is_refused_in_one_sentence(models, tmp_path, kind):
    """In Python and in a server that has the encoder; the table is shown with `-s`."""
    whole = AdaptedModel.from_pretrained(models[kind], device="cpu")
    before = whole.predict(ASKED)
    pack = DomainPack(whole, name="whole")
    told: dict[str, str] = {}
    for number, (what, damage) in enumerate(ways(models[kind]).items()):
        folder = tmp_path / str(number)
        shutil.copytree(models[kind], folder)
        damage(folder, models[f"other {kind}"])
        told[what] = try_model(pack, folder, before)
        shutil.rmtree(folder)
    wrong = {what: said for what, said in told.items() if said not in ("refused", "as before")}
    counts = {said: list(told.values()).count(said) for said in ("refused", "as before")}
    print(f"\n{kind}: {len(told)} ways to damage a model, {counts}")
    assert not wrong, "\n".join(f"{what}: {said}" for what, said in wrong.items())
    assert len(told) >= 60


def try_model(pack: DomainPack, folder: Path, before: list) -> str:
    """Load over the encoder that is there, which `AdaptedModel` does by the same function."""
    try:
        pack.load("damaged", folder)
        answers = pack.predict(["damaged"] * len(ASKED), ASKED)
    except NlpMetaError as error:
        sentence = str(error)
        whole = sentence.startswith("cannot ") and "\n" not in sentence
        return "refused" if whole and len(sentence) <= LONGEST else f"said: {sentence[:300]}"
    except BaseException as error:
        return f"raised: {type(error).__name__}: {str(error)[:200]}"
    same = all(
        one.label == two.label
        and all(abs(one.probabilities[n] - two.probabilities[n]) < 1e-6 for n in two.probabilities)
        for one, two in zip(answers, before, strict=True)
    )
    return "as before" if same else f"answered otherwise: {answers}"
