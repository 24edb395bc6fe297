"""Downloads with files that a user deselected in the client."""

from typing import Final

NOTHING_WANTED: Final = "nothing was downloaded: all its files are deselected in the client"
"""The warning of a download that is complete because all its files are deselected."""
