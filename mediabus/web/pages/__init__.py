"""The pages, one handler each."""

from typing import Final

from mediabus.web.page import Page
from mediabus.web.pages.actions import act
from mediabus.web.pages.activity import activity
from mediabus.web.pages.add import add, add_download, add_media
from mediabus.web.pages.dead_letters import change, dead_letter
from mediabus.web.pages.event import event
from mediabus.web.pages.export import as_csv, as_json_lines
from mediabus.web.pages.live import live
from mediabus.web.pages.needs_you import needs_you
from mediabus.web.pages.now import now
from mediabus.web.pages.story import story

PAGES: Final[tuple[Page, ...]] = (
    Page("", now),
    Page("activity", activity),
    Page("activity.csv", as_csv, is_data=True),
    Page("activity.jsonl", as_json_lines, is_data=True),
    Page("live", live, is_data=True),
    Page("downloads/*", act, ("POST",)),
    Page("needs-you", needs_you),
    Page("dead-letters", change, ("POST",)),
    Page("dead-letters/*", dead_letter),
    Page("add", add),
    Page("add/media", add_media, ("POST",)),
    Page("add/download", add_download, ("POST",)),
    Page("story/*", story),
    Page("event/*", event),
)
"""The pages that need only the context. ``Login``, ``Health``, ``LiveRegion`` make their own."""
