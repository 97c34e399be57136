"""What can go wrong with the literature; a report is still written, without evidence, and says so.

RagError
├── DocumentInvalid      a document lacks its citation or its text
├── StoreUnavailable     the vector store does not answer
├── EmbedderUnavailable  the encoder cannot be loaded
└── EmbedderMismatch     the store was filled with another encoder
"""


class RagError(Exception):
    """The root of this package's errors."""


class DocumentInvalid(RagError):  # noqa: N818 - named for what is so
    """A document lacks its citation or its text."""


class StoreUnavailable(RagError):  # noqa: N818
    """The vector store does not answer."""


class EmbedderUnavailable(RagError):  # noqa: N818
    """The encoder cannot be loaded."""


class EmbedderMismatch(RagError):  # noqa: N818
    """The store was filled with another encoder."""
