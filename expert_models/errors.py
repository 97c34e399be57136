"""What can go wrong with an expert; none of it stops the others, but for a store of masks that takes none.

ExpertError
├── CardInvalid       a card does not say what it must
├── WeightsMismatch   the weights are missing, or are not those the card names
└── MasksUnavailable  masks cannot be kept (full disk, read-only folder): the examination ends
"""


class ExpertError(Exception):
    """The root of this package's errors."""


class CardInvalid(ExpertError):  # noqa: N818 - named for what is so
    """A card does not say what it must."""


class WeightsMismatch(ExpertError):  # noqa: N818
    """The weights are missing, or are not those the card names."""


class MasksUnavailable(ExpertError):  # noqa: N818
    """Masks cannot be kept; no expert can work."""
