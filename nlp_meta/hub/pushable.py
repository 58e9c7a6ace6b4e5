"""What every model has in common: it is saved to a folder, and pushed as it is saved."""

import tempfile
from abc import abstractmethod
from pathlib import Path
from typing import Unpack

from nlp_meta.hub.destinations import Destination, Pushed, PushOptions
from nlp_meta.hub.push import push_folder


class Pushable:
    """A model that can be pushed to the Hub."""

    __slots__ = ()

    @abstractmethod
    def save_pretrained(self, folder: str | Path) -> None:
        """Write an ordinary PEFT adapter, the tokenizer and a record."""

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
        to = Destination(repo_id, **options)
        with tempfile.TemporaryDirectory(prefix="nlp_meta_save_") as place:
            folder = Path(place) / "model"
            self.save_pretrained(folder)
            path = None if results is None else Path(results)
            return push_folder(folder, to, hub_base_model=hub_base_model, results=path)
