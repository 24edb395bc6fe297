"""The text of an exception, for logs and messages."""


def error_text(error: BaseException) -> str:
    """Return the message of an exception, or its type's name if it has none."""
    return str(error) or type(error).__name__
