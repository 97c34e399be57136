"""What can go wrong while writing; the template writer takes over, and the report says so.

WriterError
├── ModelUnavailable  the language model does not answer
└── Ungrounded        its text could not be parsed, or rests on nothing, twice
"""


class WriterError(Exception):
    """The root of this package's errors."""


class ModelUnavailable(WriterError):  # noqa: N818 - named for what is so
    """The language model does not answer."""


class Ungrounded(WriterError):  # noqa: N818
    """The model's text could not be parsed, or rests on nothing, twice."""
