"""Starting points for LoRA adapters, from which 50 to 100 labels are enough."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nlp_meta.models.classification import AdaptedModel
    from nlp_meta.models.generation import GenerationModel
    from nlp_meta.models.meta_model import MetaModel
    from nlp_meta.models.retrieval import RetrievalModel

__version__ = "0.2.0"

__all__ = ["AdaptedModel", "GenerationModel", "MetaModel", "RetrievalModel", "__version__"]

_FILES = {
    "AdaptedModel": "models.classification",
    "GenerationModel": "models.generation",
    "MetaModel": "models.meta_model",
    "RetrievalModel": "models.retrieval",
}


def __getattr__(name: str) -> Any:
    # Torch takes seconds to import, so the models are loaded when first named.
    if name in _FILES:
        from importlib import import_module

        return getattr(import_module(f"nlp_meta.{_FILES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
