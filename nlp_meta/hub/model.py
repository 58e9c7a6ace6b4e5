"""The base of every model: it is loaded from a folder or the Hub, saved, and pushed."""

import copy
import reprlib
import tempfile
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, NoReturn, Self, Unpack

import torch
from torch import Tensor

from nlp_meta.data.inputs import check_place, check_word
from nlp_meta.encoders.backbone import Backbone, plain_modes
from nlp_meta.encoders.lora import LoraPlan
from nlp_meta.encoders.seq2seq import Seq2Seq
from nlp_meta.errors import PickleError
from nlp_meta.hub.destinations import Destination, Pushed, PushOptions
from nlp_meta.hub.pull import Source, source_of
from nlp_meta.hub.records import Record, find_model
from nlp_meta.hub.storage import StoredCompanion, save_model

PLACE = "a folder, or a name on the Hub,"


@dataclass(frozen=True, slots=True)
class Saved:
    """A saved model that is being read.

    Attributes:
        source: Where on the Hub it was pulled from, and at which commit; None here.
        device, token: As the user gave them.
    """

    folder: Path
    record: Record
    source: Source | None
    device: torch.device | str | None
    token: str | None


@dataclass(frozen=True, slots=True)
class Parts:
    """What is written of a model."""

    record: Record
    weights: Mapping[str, Tensor]
    backbone: Backbone | Seq2Seq
    plan: LoraPlan
    companion: StoredCompanion | None = None


class Model:
    """A model as a folder, here and on the Hub.

    Attributes:
        role: `start` or `adapted`, as its record says.
        skill: That its record must name; None takes any.
    """

    __slots__ = ()
    role: ClassVar[str]
    skill: ClassVar[str | None] = None

    def __copy__(self) -> Self:
        return self

    def __repr__(self) -> str:
        """One line that tells models apart; no tensor is shown."""
        itself: Any = self
        known = ("skills", "labels", "languages")
        facts = {name: getattr(itself, name) for name in known if getattr(itself, name, ())}
        facts["base"] = itself.settings.model_name_or_path
        shown = ", ".join(f"{name}={reprlib.repr(value)}" for name, value in facts.items())
        return f"{type(self).__name__}({shown})"

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Copy the encoder too, so that the copy and the model need not wait for each other."""
        itself: Any = self
        parts = {part.name: getattr(self, part.name) for part in fields(itself)}
        copied: Self = replace(itself, **copy.deepcopy(parts, memo))
        return copied

    def __reduce_ex__(self, _: object) -> NoReturn:
        refuse_pickle(type(self).__name__)

    @classmethod
    @plain_modes()
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        *,
        revision: str | None = None,
        token: str | None = None,
        device: str | None = None,
        base: str | Path | None = None,
    ) -> Self:
        """Load from a folder or the Hub, at a branch, tag or commit of it.

        Args:
            base: Where its base model is now, if that is no longer where the record says: a
                folder, or a name on the Hub; its weights must be the same.

        Raises:
            MetaModelError: There is no such model, it was changed since it was saved, or its
                base is not there.
            BackboneError: The base cannot be loaded.
            SettingsError: An argument is no text, or the device cannot be used here.
        """
        name = check_place(name_or_path, "name_or_path", needed=PLACE)
        base = None if base is None else check_place(base, "base", needed=PLACE)
        for argument, word in (("revision", revision), ("token", token)):
            if word is not None:
                check_word(word, argument, needed="text")
        folder, record = find_model(
            name, role=cls.role, skill=cls.skill, revision=revision, token=token, base=base
        )
        return cls._read(Saved(folder, record, source_of(name, folder), device, token))

    @classmethod
    def of(cls, value: Self | str | Path, argument: str) -> Self:
        """Take a model as it is, or load it by its folder or its name.

        Raises:
            SettingsError: It is neither.
        """
        if isinstance(value, cls):
            return value
        needed = f"a model of the class {cls.__name__}, its folder, or its name on the Hub,"
        return cls.from_pretrained(check_place(value, argument, needed=needed))  # type: ignore[arg-type]

    def save_pretrained(self, folder: str | Path, *, replace: bool = False) -> None:
        """Write an ordinary PEFT adapter with its head, the tokenizer and a record.

        A model of the same kind that nobody changed since it was saved is replaced; files that
        are not its own stay.

        Args:
            replace: Replace a changed model, one of another kind, and files that have the names
                of a model's too.

        Raises:
            OutputError: Something would be lost, or the disk does not take the model.
        """
        parts = self._parts()
        save_model(
            Path(check_place(folder, "folder", needed="a path")),
            parts.record,
            parts.weights,
            backbone=parts.backbone,
            plan=parts.plan,
            companion=parts.companion,
            replace=replace,
        )

    def push_to_hub(
        self,
        repo_id: str,
        *,
        hub_base_model: str | None = None,
        results: str | Path | None = None,
        **options: Unpack[PushOptions],
    ) -> Pushed:
        """Push in one commit, with a card of what was measured; see `push_folder`.

        Args:
            hub_base_model: Name on the Hub of a base that was read from a folder here.
            results: The `results.json` of a comparison, whose scores the card tells.

        Raises:
            HubError: The Hub refuses, or the base is not on it.
        """
        # Most models are never pushed.
        from nlp_meta.hub.push import push_folder

        to = Destination(repo_id, **options)
        with tempfile.TemporaryDirectory(prefix="nlp_meta_save_") as place:
            folder = Path(place) / "model"
            self.save_pretrained(folder)
            path = None if results is None else Path(results)
            return push_folder(folder, to, hub_base_model=hub_base_model, results=path)

    @classmethod
    @abstractmethod
    def _read(cls, saved: Saved) -> Self:
        """Build the model that a folder holds."""

    @abstractmethod
    def _parts(self) -> Parts:
        """Give what is written of the model."""


def refuse_pickle(name: str) -> NoReturn:
    """Say how a model gets to another process.

    Args:
        name: Of its class.

    Raises:
        PickleError: Always.
    """
    raise PickleError(
        f"cannot pickle this {name}: it shares its encoder with other models and each process "
        f"needs one of its own; call `save_pretrained` here and `{name}.from_pretrained` there"
    )
