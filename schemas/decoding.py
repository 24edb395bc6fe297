"""What msgspec raises for bytes that are not JSON, or not the expected JSON."""

from typing import Final

import msgspec

NOT_JSON: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""ValidationError is a DecodeError. RecursionError is raised for a nesting that is too deep."""
