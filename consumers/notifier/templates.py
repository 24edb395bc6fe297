"""The text of a message: the sentences of its events, or a template of the settings."""

from collections.abc import Sequence
from typing import Any, Final

import jinja2
import jinja2.sandbox

from mediabus.schemas.envelope import Envelope
from mediabus.schemas.plain_text import plain
from mediabus.schemas.sentences import sentence_of

MAX_LINES: Final = 50
"""Sentences in a digest. Its last line counts the others."""

MAX_TEXT: Final = 16_000
"""Characters of a text."""

_ENVIRONMENT: Final = jinja2.sandbox.ImmutableSandboxedEnvironment(
    autoescape=False,  # the text of a message, not HTML
    undefined=jinja2.ChainableUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.globals.pop("range", None)  # a template needs none, and a long one would block
_ENVIRONMENT.globals.pop("lipsum", None)


class TemplateFailed(Exception):
    """A template of the settings cannot be rendered for this event."""


class Template:
    """A Jinja2 template, or without one the default sentences.

    It runs in Jinja's sandbox. ``event`` is the first event and ``events`` are all; each has the
    attributes of a CloudEvent, ``data``, and ``text``, its sentence. ``text`` is the default text
    of the message, ``count`` the number of its events.
    """

    def __init__(self, source: str | None) -> None:
        try:
            self._template = None if source is None else _ENVIRONMENT.from_string(source)
        except jinja2.TemplateError as error:
            raise ValueError(f"the template is not valid: {error}") from error

    def render(self, envelopes: Sequence[Envelope]) -> str:
        """Return the text of a message. Raises TemplateFailed."""
        text = text_of(envelopes)
        if self._template is None:
            return text
        events = [variables_of(envelope) for envelope in envelopes]
        try:
            rendered = self._template.render(
                event=events[0], events=events, count=len(events), text=text
            )
        except Exception as error:
            raise TemplateFailed(f"the template failed: {type(error).__name__}: {error}") from error
        if not rendered.strip():
            raise TemplateFailed("the template made an empty text")
        return rendered[:MAX_TEXT]


def title_of(envelopes: Sequence[Envelope]) -> str:
    """Return the title of a message, for targets that show one."""
    if len(envelopes) == 1:
        words = envelopes[0].type.replace(".", " ").replace("_", " ")
        return f"mediabus: {plain(words)[:100]}"
    return f"mediabus: {len(envelopes)} events"


def text_of(envelopes: Sequence[Envelope]) -> str:
    """Return the sentence of each event, one a line; equal ones once, with their number."""
    lines: dict[str, int] = {}
    for envelope in envelopes:
        sentence = sentence_of(envelope).text
        lines[sentence] = lines.get(sentence, 0) + 1
    shown = [line if count == 1 else f"{line} ({count} times)" for line, count in lines.items()]
    if len(shown) > MAX_LINES:
        shown = [*shown[:MAX_LINES], f"… and {len(shown) - MAX_LINES} more"]
    return "\n".join(shown)[:MAX_TEXT]


def variables_of(envelope: Envelope) -> dict[str, Any]:
    """Return what a template sees of an event."""
    return {
        "id": envelope.published_id or str(envelope.id),
        "type": envelope.type,
        "source": envelope.source,
        "time": envelope.time,
        "category": envelope.category,
        "severity": envelope.severity,
        "subject": str(envelope.resource) if envelope.resource else "",
        "actor": str(envelope.actor) if envelope.actor else "",
        "data": envelope.fields(),
        "text": sentence_of(envelope).text,
    }
