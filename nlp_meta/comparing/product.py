"""Methods that are what `nlp-meta adapt` does, held-out folds, temperature and all."""

from collections.abc import Mapping

from nlp_meta.comparing.bench import Bench, Method

Choice = Mapping[str, object]


def build_adapt(bench: Bench, folder: str, choice: Choice) -> Method:
    """A meta-model as users adapt it, without companion."""
    raise NotImplementedError


def build_hybrid(bench: Bench, folder: str, choice: Choice) -> Method:
    """A meta-model as users adapt it, with its n-gram companion."""
    raise NotImplementedError
