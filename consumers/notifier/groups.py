"""What events of one message have in common. Pure."""

from typing import Literal, assert_never

from mediabus.schemas.envelope import Envelope

Group = Literal["media_item", "client", "type"]


def group_of(envelope: Envelope, by: Group | None) -> str:
    """Return the group of an event; events without such a property are in one group."""
    match by:
        case None:
            return ""
        case "type":
            return envelope.type
        case "client":
            fields = envelope.fields()
            return str(fields.get("client") or fields.get("app") or "")
        case "media_item":
            return _media_item(envelope)
        case _:
            assert_never(by)


def _media_item(envelope: Envelope) -> str:
    """Return the id of the media item, or else its title, or else the folder of the file."""
    resource, fields = envelope.resource, envelope.fields()
    if resource is not None and resource.type == "media_item":
        return resource.id
    for name in ("media_item_id", "media_title", "title"):
        if fields.get(name):
            return str(fields[name])
    return str(fields.get("path") or "").rpartition("/")[0]
