"""NZBs are taken in every form in which usenet clients take them, and bombs are not."""

import bz2
import gzip
from collections.abc import Callable

import pytest

from mediabus.service.clients.nzb import MAX_NZB_BYTES, file_name, is_nzb, nzb_for
from mediabus.service.clients.port import ClientRefused, NzbFile
from mediabus.service.clients.sources import recognise

PLAIN = '<nzb><file><segments><segment bytes="1" number="1">a@b</segment></segments></file></nzb>'
DOCTYPE = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE nzb PUBLIC "-//newzBin//DTD NZB 1.1//EN" '
    '"http://www.newzbin.com/DTD/nzb/nzb-1.1.dtd">\n'
)
PREFIXED = PLAIN.replace("</", "</ns0:").replace("<n", "<ns0:n").replace("<f", "<ns0:f")
PREFIXED = PREFIXED.replace("<s", "<ns0:s")
UTF16 = f'<?xml version="1.0" encoding="UTF-16"?>{PLAIN}'
FORMS = {
    "plain": PLAIN.encode(),
    "byte order mark": PLAIN.encode("utf-8-sig"),
    "doctype": (DOCTYPE + PLAIN).encode(),
    "comment first": f"<!-- {'x' * 3000} -->{PLAIN}".encode(),
    "prefixed": PREFIXED.encode(),
    "another namespace": PLAIN.replace("<nzb", '<nzb xmlns="http://a.example/"').encode(),
    "upper case": PLAIN.upper().encode(),
    "line breaks in tags": PLAIN.replace("<segment ", "<segment\r\n").encode(),
    "latin-1": f"<nzb><!-- {'é' * 10} -->{PLAIN[5:]}".encode("latin-1"),
    "utf-16": UTF16.encode("utf-16"),
    "utf-16 little endian without mark": UTF16.encode("utf-16-le"),
    "utf-16 big endian with mark": ("\ufeff" + UTF16).encode("utf-16-be"),
    "utf-16 big endian without mark": UTF16.encode("utf-16-be"),
}
PACKED: dict[str, Callable[[bytes], bytes]] = {
    "as it is": bytes,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
}


@pytest.mark.parametrize("packing", PACKED)
@pytest.mark.parametrize("form", FORMS)
def test_an_nzb_of_any_form_is_accepted_and_decompressed(form: str, packing: str) -> None:
    content = PACKED[packing](FORMS[form])

    assert is_nzb(content)
    assert recognise(content, name="Dune.nzb.gz") == NzbFile(content, "Dune")
    assert nzb_for("SABnzbd", NzbFile(content, "Dune.nzb")) == NzbFile(FORMS[form], "Dune")


def test_an_nzb_in_several_gzip_members_is_decompressed() -> None:
    content = gzip.compress(PLAIN[:20].encode(), mtime=0) + gzip.compress(PLAIN[20:].encode())

    assert nzb_for("SABnzbd", NzbFile(content, "a")).content == PLAIN.encode()


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress])
def test_an_nzb_that_decompresses_to_too_much_is_refused(pack: Callable[[bytes], bytes]) -> None:
    content = pack(PLAIN.encode() + b" " * MAX_NZB_BYTES)

    assert len(content) < 100_000
    with pytest.raises(ClientRefused, match="more than 67108864 bytes"):
        nzb_for("SABnzbd", NzbFile(content, "a"))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_an_nzb_that_declares_entities_is_refused(encoding: str) -> None:
    entities = '<!DOCTYPE nzb [<!ENTITY a "aa"><!ENTITY b "&a;&a;">]>'

    with pytest.raises(ClientRefused, match="declares entities"):
        nzb_for("SABnzbd", NzbFile((entities + PLAIN).encode(encoding), "a"))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>no</html>",
        b"<nzb/>",
        gzip.compress(b"<html/>", mtime=0),
        gzip.compress(PLAIN.encode(), mtime=0)[:-12],
        b"\x1f\x8bnot gzip",
        b"BZh9not bzip2",
        bz2.compress(PLAIN.encode())[:-12],
        gzip.compress(gzip.compress(PLAIN.encode(), mtime=0), mtime=0),
    ],
)
def test_a_file_that_is_not_an_nzb_is_refused(content: bytes) -> None:
    with pytest.raises(ClientRefused, match="not a usable nzb file"):
        nzb_for("SABnzbd", NzbFile(content, "a"))


@pytest.mark.parametrize(
    ("content", "name"),
    [(b"\x1f\x8bno", "a"), (b"BZ", "a"), (b"I like <nzb> files", "a"), (b"<html/>", "a.nzb")],
)
def test_a_file_that_does_not_start_as_an_nzb_is_not_one(content: bytes, name: str) -> None:
    assert recognise(content, name=name) is None


@pytest.mark.parametrize("name", ["..", "../..", "~/x/..", "/", "\\", "\r\n", ".", "", " . "])
def test_a_name_never_leads_out_of_its_folder(name: str) -> None:
    plain = file_name(name)

    assert plain
    assert not set("/\\\r\n") & set(plain)
    assert plain.strip(". ")
