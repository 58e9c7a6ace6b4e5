"""Starting points for LoRA adapters, from which 50 to 100 labels are enough."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nlp_meta.models import AdaptedModel, MetaModel

__version__ = "0.1.0"

__all__ = ["AdaptedModel", "MetaModel", "__version__"]


def __getattr__(name: str) -> Any:
    # Torch takes seconds to import, so the models are loaded when first named.
    if name in ("AdaptedModel", "MetaModel"):
        from nlp_meta import models

        return getattr(models, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
