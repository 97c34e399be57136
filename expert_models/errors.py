"""What can go wrong with an expert; none of it stops the others, but for a store of masks that takes none.

ExpertError
├── CardInvalid       a card does not say what it must
├── WeightsMismatch   the weights are missing, or are not those the card names
├── ExpertStopped     an expert ran too long, out of memory, or its process ended
├── BundleRefused     a MONAI bundle cannot be an expert here, or not without being trusted
└── MasksUnavailable  masks cannot be kept (full disk, read-only folder): the examination ends
"""

from __future__ import annotations


class ExpertError(Exception):
    """The root of this package's errors."""


class CardInvalid(ExpertError):  # noqa: N818 - named for what is so
    """A card does not say what it must."""


class WeightsMismatch(ExpertError):  # noqa: N818
    """The weights are missing, or are not those the card names."""


class ExpertStopped(ExpertError):  # noqa: N818
    """An expert ran too long, out of memory, or its process ended: it is not asked again about this study."""


class BundleRefused(ExpertError):  # noqa: N818
    """A MONAI bundle cannot be an expert here, or not without being trusted; the reason is one sentence."""


class MasksUnavailable(ExpertError):  # noqa: N818
    """Masks cannot be kept; no expert can work."""
