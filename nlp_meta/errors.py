"""The exceptions that this package raises on purpose.

Each message has three parts: what could not be done, with the values; what was
needed; what to change, by the name the user typed. The command line and the
recipes print it as one sentence and leave with exit code 2.
"""

import importlib.util

# Values of a file stand in messages, and they may be of any length.
_LONGEST = 2_000
_CUT = " ... "


class NlpMetaError(Exception):
    """Something that the caller can mend; the message says how, in at most 2,000 characters."""

    def __init__(self, message: str = "") -> None:
        if len(message) > _LONGEST:
            kept = (_LONGEST - len(_CUT)) // 2
            message = f"{message[:kept]}{_CUT}{message[-kept:]}"
        super().__init__(message)


class CardError(NlpMetaError):
    """A data card that does not say what it must, or says what is not so."""


class DataError(NlpMetaError):
    """Rows, a table or a file that cannot be used as it is."""


class LabelError(DataError):
    """Labels that are missing, ambiguous or unknown to the model."""


class EpisodeError(NlpMetaError):
    """An episode that the tasks at hand cannot give."""


class SettingsError(NlpMetaError):
    """A setting that is unknown, missing or of the wrong type."""


class MissingPackageError(SettingsError):
    """An optional package that is not installed, or does not work with the others here."""


def need_packages(purpose: str, *packages: str, extra: str) -> None:
    """Stop where a package of an extra is not installed.

    Args:
        purpose: What it is needed for, as it follows "cannot".

    Raises:
        MissingPackageError: Names the packages, and how to install the extra.
    """
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingPackageError(
            f"cannot {purpose}: what is needed for it is not installed ({', '.join(missing)}); "
            f"install it with `pip install 'nlp-meta[{extra}]'`"
        )


class BackboneError(NlpMetaError):
    """A model that cannot be loaded or cannot be adapted."""


class DivergedError(NlpMetaError):
    """A loss that is infinite or not a number."""


class CheckpointError(NlpMetaError):
    """A checkpoint that is incomplete, damaged or of another run."""


class MetaModelError(NlpMetaError):
    """A folder that does not hold the model it was taken for."""


class PickleError(NlpMetaError, TypeError):
    """A model that was to be sent to another process; each process loads its own."""


class HubError(MetaModelError):
    """A repository on the Hub that does not give or take what it must."""


class OutputError(NlpMetaError):
    """A file or folder that cannot be written, or that would replace what is not ours."""


class EndpointError(NlpMetaError):
    """An endpoint that does not answer as it must."""


class ExportError(NlpMetaError):
    """A model that cannot be exported, or an export that does not answer as its model does."""


class RequestError(NlpMetaError):
    """A request over HTTP that is not answered.

    Attributes:
        status: Of the response.
    """

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status
