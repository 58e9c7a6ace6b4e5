"""What is saved beside an adapter: the record of a model, and the kinds of models there are."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from nlp_meta.errors import MetaModelError
from nlp_meta.hub.pull import RECORD, check_base, pull

META_MODEL, ADAPTED_MODEL = "meta-model", "adapted-model"
ALIGNMENT_META_MODEL, ALIGNMENT_MODEL = "alignment-meta-model", "alignment-model"
"""Of translation alone: what finds pairs has no head and no labels."""
TRANSLATION_META_MODEL, TRANSLATION_MODEL = "translation-meta-model", "translation-model"
"""Encoder-decoders, which write translations."""
OTHER_STARTS = (ALIGNMENT_META_MODEL, TRANSLATION_META_MODEL)
ADAPTED_MODELS = (ADAPTED_MODEL, ALIGNMENT_MODEL, TRANSLATION_MODEL)
"""Kinds that a new adaptation may replace."""

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Record:
    """What is saved beside an adapter, as JSON.

    Attributes:
        kind: `meta-model`, `adapted-model`, and the same for alignment and translation.
        model: The backbone and its adapter: the keys of the config's section `model`, or of
            `generation`.
        labels: Names in the order of the logits; none of translation alone.
        adaptation: Defaults found on meta-validation (meta-model), or what was done (adapted).
            Of a meta-model that learned translation they are in a block `translation`, with
            the temperature.
        step_sizes: Learned factors on the inner rate, by tensor.
        provenance: Settings and results of the training, free of machine paths.
    """

    kind: str
    model: Mapping[str, Any]
    labels: tuple[str, ...]
    adaptation: Mapping[str, Any]
    step_sizes: Mapping[str, float] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)


def read_settings(record: Record, form: type[S]) -> S:
    """Read the backbone and its adapter as a record names them.

    Args:
        form: `ModelSettings`, or `GenerationSettings` of an encoder-decoder.

    Raises:
        MetaModelError: The record is of another version.
    """
    try:
        return form(**record.model)
    except TypeError as error:
        raise MetaModelError(
            f"cannot load a model of the keys {', '.join(record.model)}: those of this version's "
            f"{form.__name__} are needed; save it again, or install the version that saved it"
        ) from error


def find_model(
    name_or_path: str,
    *,
    kind: str,
    or_kind: str | Sequence[str] = (),
    revision: str | None = None,
    token: str | None = None,
) -> tuple[Path, Record]:
    """Find a saved model in a folder or on the Hub and read its record.

    Args:
        or_kind: Another kind, or several, that serve as well.
        revision, token: For the Hub; its own environment variables are honored.

    Raises:
        MetaModelError: There is none, or it is of another kind.
    """
    folder, record = find_any_model(name_or_path, revision=revision, token=token)
    others = (or_kind,) if isinstance(or_kind, str) else or_kind
    if record.kind not in (kind, *others):
        raise MetaModelError(
            f"cannot use '{name_or_path}': it is of the kind '{record.kind}' and '{kind}' is "
            f"needed; {_advise(kind, found=record.kind)}"
        )
    check_base(folder, str(record.model.get("model_name_or_path")), name=name_or_path)
    return folder, record


def find_any_model(
    name_or_path: str, *, revision: str | None = None, token: str | None = None
) -> tuple[Path, Record]:
    """Find a saved model of whatever kind in a folder or on the Hub and read its record.

    Raises:
        MetaModelError: There is none.
    """
    folder = Path(name_or_path)
    if not folder.is_dir():
        folder = pull(name_or_path, revision=revision, token=token)
    return folder, read_record(folder, name=name_or_path)


def _advise(kind: str, *, found: str) -> str:
    starts = (META_MODEL, *OTHER_STARTS)
    if kind in starts:
        return "name its meta-model" if found in ADAPTED_MODELS else "name another model"
    if found not in starts:
        return "name another model"
    with_pairs = "adapt it to sentence pairs first (`nlp-meta adapt`, with `--source-lang`)"
    return "adapt it first (`nlp-meta adapt`)" if kind == ADAPTED_MODEL else with_pairs


def read_record(folder: Path, *, name: str) -> Record:
    """Read the record of a saved model of whatever kind.

    Args:
        name: What the user typed for the folder.

    Raises:
        MetaModelError: There is none, or it is damaged.
    """
    try:
        values = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        record = Record(**{name: values[name] for name in Record.__dataclass_fields__})
        for block in (record.model, record.adaptation, record.step_sizes, record.provenance):
            block.items()
    except FileNotFoundError as error:
        raise MetaModelError(
            f"cannot load '{name}': it holds no {RECORD} and a model saved by this "
            "package is needed; check the path"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise MetaModelError(
            f"cannot load '{name}': its {RECORD} is damaged and the file as it was saved "
            "is needed; save or download the model again"
        ) from error
    return record
