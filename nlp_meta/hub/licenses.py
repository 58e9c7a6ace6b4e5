"""What licences of data forbid, and which of several is the strictest."""

from collections.abc import Iterable

UNKNOWN = ("unknown", "other", "")
"""Nothing is granted by these: whoever uses such data answers for it."""

# From the most permissive to the strictest: what the others allow, and more, is forbidden.
_RANKS: tuple[tuple[str, ...], ...] = (
    ("cc0-1.0", "pddl", "unlicense", "wtfpl", "public-domain"),
    ("mit", "apache-2.0", "bsd", "bsd-2-clause", "bsd-3-clause", "isc", "odc-by"),
    ("cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cc"),
    ("cc-by-sa-3.0", "cc-by-sa-4.0", "odbl", "gfdl", "lgpl-3.0", "cdla-sharing-1.0"),
    ("gpl", "gpl-2.0", "gpl-3.0", "agpl-3.0"),
    ("cc-by-nd-4.0",),
    ("cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0"),
    ("cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0"),
    ("cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0"),
)  # fmt: skip
_PLACES = {name: place for place, names in enumerate(_RANKS) for name in names}
_PERMISSIVE = 2
"""Places up to here forbid nothing that sharing a model's weights could break."""


def strictest(licenses: Iterable[str]) -> str | None:
    """The strictest licence that is stated; None where none is.

    An id that the table lacks counts as stricter than what asks for attribution only.
    """
    stated = [name.lower() for name in licenses if name.lower() not in UNKNOWN]
    return max(stated, key=_place, default=None)


def is_non_commercial(license_id: str) -> bool:
    """Whether a licence forbids use for money."""
    return "-nc" in license_id.lower()


def is_unknown(license_id: str) -> bool:
    """Whether a licence grants nothing because none is stated."""
    return license_id.lower() in UNKNOWN


def _place(license_id: str) -> tuple[float, str]:
    return _PLACES.get(license_id, _PERMISSIVE + 0.5), license_id
