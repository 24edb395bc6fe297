"""Pages fit into a reply, and skip items that do not."""

import msgspec

from mediabus.runtime.api.pages import MOST_REPLY_BYTES, paged


class Item(msgspec.Struct, frozen=True):
    name: str
    text: str


def pages(items: list[Item], most_bytes: int) -> list[list[Item]]:
    """All pages of a list, each encoded as its reply would be."""
    found, start = [], 0
    while True:
        page = paged(
            items[start:],
            found=len(items) - start,
            cursor=lambda item: item.name,
            stub=lambda item, size: Item(item.name, f"{size} bytes"),
            most_bytes=most_bytes,
        )
        assert len(msgspec.json.encode(page)) <= most_bytes
        found.append(page.items)
        start += len(page.items)
        if page.next is None:
            return found
        assert page.next == page.items[-1].name


def test_a_list_is_cut_into_pages_that_fit() -> None:
    items = [Item(str(number), "x" * 400_000) for number in range(5)]
    found = pages(items, MOST_REPLY_BYTES)
    assert [len(page) for page in found] == [2, 2, 1]
    assert [item for page in found for item in page] == items


def test_an_item_too_large_for_any_page_is_shown_by_its_size() -> None:
    items = [Item("a", "x"), Item("b", "y" * 2_000_000), Item("c", "z")]
    [[first, huge, last]] = pages(items, MOST_REPLY_BYTES)
    assert (first, last) == (items[0], items[2])
    assert huge == Item("b", f"{len(msgspec.json.encode(items[1])) + 1} bytes")


def test_an_empty_list_is_one_empty_page() -> None:
    assert pages([], MOST_REPLY_BYTES) == [[]]
