"""Sources: where a request may load models from; answers do not tell the machine's folders."""

import re
from dataclasses import dataclass
from pathlib import Path

from nlp_meta.errors import RequestError, SettingsError
from nlp_meta.hub.pull import pull
from nlp_meta.serving.limits import shorten

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_QUOTED = re.compile(r"'/[^']*?([^'/]*)/?'")
_BARE = re.compile(r"(?<![\w.:/'])/(?:[^/\s'`]+/)+([^/\s'`]+)")


@dataclass(frozen=True, slots=True)
class Sources:
    """Where requests may load models from.

    Attributes:
        models_dir: Models below it; None for none.
        allow_hub: Models on the Hub too, by their ids.
    """

    models_dir: Path | None = None
    allow_hub: bool = False

    def __post_init__(self) -> None:
        if self.models_dir is not None and not self.models_dir.is_dir():
            raise SettingsError(
                f"cannot load models from '{self.models_dir}': it is no folder here and one is "
                "needed; correct `models_dir`"
            )

    def find(self, model: str, *, revision: str | None) -> tuple[Path, str]:
        """Find the folder of a model that a request names, pulled where it is on the Hub.

        Returns:
            Its folder, and what may be told of where it came from.

        Raises:
            RequestError: It may not be loaded; the answer is the same whether it exists or not.
            HubError: It cannot be pulled.
        """
        folder = None if self.models_dir is None else _find_below(self.models_dir, model)
        if folder is not None:
            return folder, folder.name
        if self.allow_hub and _HUB_ID.fullmatch(model):
            return pull(model, revision=revision), model
        allowed = [
            *(["a folder below this server's folder for models"] if self.models_dir else []),
            *(["the id of a model on the Hub, owner/name"] if self.allow_hub else []),
        ]
        need = f"{' or '.join(allowed)} is needed; correct `model`"
        if not allowed:
            need = "a server that may load models is needed; ask for one to be started that may"
        raise RequestError(f"cannot load '{shorten(model, 200)}': {need}", status=403)


def hide_folders(message: str) -> str:
    """Leave of each absolute path in a message nothing but its last part."""
    return _BARE.sub(r"\1", _QUOTED.sub(r"'\1'", message))


def _find_below(root: Path, model: str) -> Path | None:
    """The folder that a name means, links followed; None if it does not lie below."""
    try:
        root = root.resolve(strict=True)
        folder = (root / model).resolve(strict=True)
    except (OSError, ValueError, RuntimeError):  # a null character, a circle of links
        return None
    return folder if root in folder.parents and folder.is_dir() else None
