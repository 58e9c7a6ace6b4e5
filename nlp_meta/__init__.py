"""Starting points for LoRA adapters, from which 50 to 100 labels are enough."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nlp_meta.models.meta_model import AdaptedModel, MetaModel
    from nlp_meta.models.retrieval import AlignmentMetaModel, AlignmentModel, adapt_alignment

__version__ = "0.1.0"

__all__ = [
    "AdaptedModel",
    "AlignmentMetaModel",
    "AlignmentModel",
    "MetaModel",
    "__version__",
    "adapt_alignment",
]

_FILES = {
    "AdaptedModel": "models.meta_model",
    "AlignmentMetaModel": "models.retrieval",
    "AlignmentModel": "models.retrieval",
    "MetaModel": "models.meta_model",
    "adapt_alignment": "models.retrieval",
}


def __getattr__(name: str) -> Any:
    # Torch takes seconds to import, so the models are loaded when first named.
    if name in _FILES:
        from importlib import import_module

        return getattr(import_module(f"nlp_meta.{_FILES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
