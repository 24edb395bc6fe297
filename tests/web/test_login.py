"""Who gets in: passwords, sessions, proxies; and what is refused."""

import contextlib
import stat
import urllib.parse
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from yarl import URL

from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.settings import HttpSettings, Settings, SettingsError, WebUser
from mediabus.web.config import config_of
from mediabus.wiring.parts import parts_of, working
from mediabus.wiring.registry import WEB
from tests.support.eventually import eventually
from tests.support.ports import free_port

PASSWORD = "correct horse"
SAME = {"Sec-Fetch-Site": "same-origin"}
USERS = [WebUser(name="kids", password="only looking", role="viewer")]


@contextlib.asynccontextmanager
async def served(settings: Settings, **web: Any) -> AsyncIterator[str]:
    """The pages alone, without any other process: what a login needs."""
    web = {"password": PASSWORD, **web}
    pages = msgspec.structs.replace(
        settings,
        http=HttpSettings(port=free_port()),
        web=msgspec.structs.replace(settings.web, **web),
    )
    url = f"http://127.0.0.1:{pages.http.port}{pages.web.base_path}"
    async with working(pages, 0, parts_of(pages, (WEB,))), aiohttp.ClientSession() as session:

        async def answers() -> bool:
            async with session.get(f"{url}/login") as reply:
                return reply.status == 200

        await eventually(answers, within=20)
        yield url


@pytest.fixture(autouse=True)
def _streams(bus: Bus) -> Bus:
    """The streams exist, as after the start of `mediabus service`."""
    return bus


def browser() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        cookie_jar=aiohttp.CookieJar(unsafe=True), headers={"Accept": "text/html"}
    )


async def sign_in(
    session: aiohttp.ClientSession, url: str, name: str = "admin", password: str = PASSWORD
) -> int:
    form = {"name": name, "password": password}
    async with session.post(
        f"{url}/login", data=form, headers=SAME, allow_redirects=False
    ) as reply:
        return reply.status


async def status(session: aiohttp.ClientSession, url: str, **options: Any) -> int:
    async with session.get(url, allow_redirects=False, **options) as reply:
        return reply.status


async def test_a_login_leads_to_the_wanted_page_and_its_cookie_is_safe(settings: Settings) -> None:
    async with served(settings) as url, browser() as session:
        async with session.get(f"{url}/activity?severity=error") as reply:
            assert reply.url.path == "/login"
            wanted = urllib.parse.quote("/activity?severity=error", safe="")
            assert reply.url.query["next"] == "/activity?severity=error"
            assert "next=/activity%3Fseverity%3Derror" in await reply.text()
        assert await sign_in(session, url, password="wrong password") == 403
        form = {"name": "admin", "password": PASSWORD}
        login = f"{url}/login?next={wanted}"
        async with session.post(login, data=form, headers=SAME, allow_redirects=False) as reply:
            assert reply.status == 303
            assert reply.headers["Location"] == "/activity?severity=error"
            cookie = reply.headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert "Secure" not in cookie
        assert await status(session, f"{url}/login") == 200


async def test_a_login_never_leads_to_another_site(settings: Settings) -> None:
    form = {"name": "admin", "password": PASSWORD}
    async with served(settings) as url, browser() as session:
        for target in ("//evil.example/", "https://evil.example/", "/\\evil.example"):
            login = f"{url}/login?next={urllib.parse.quote(target, safe='')}"
            async with session.post(login, data=form, headers=SAME, allow_redirects=False) as it:
                assert it.headers["Location"] == "/", target


async def test_guessing_passwords_is_slowed_down(settings: Settings) -> None:
    async with served(settings) as url, browser() as session:
        statuses = [await sign_in(session, url, password=f"guess {n}") for n in range(8)]
        assert 429 in statuses
        async with session.post(
            f"{url}/login", data={"name": "admin", "password": PASSWORD}, headers=SAME
        ) as reply:
            assert reply.status == 429  # even the right one
            assert int(reply.headers["Retry-After"]) >= 1


async def test_a_form_of_another_site_is_refused(settings: Settings) -> None:
    async with served(settings) as url, browser() as session:
        assert await sign_in(session, url) == 303
        host = urllib.parse.urlsplit(url).netloc
        for headers, expected in (
            ({"Sec-Fetch-Site": "cross-site"}, 403),
            ({"Sec-Fetch-Site": "same-site"}, 403),
            ({"Origin": "http://evil.example"}, 403),
            ({}, 403),
            ({"Origin": f"http://{host}"}, 303),
        ):
            async with session.post(f"{url}/logout", headers=headers, allow_redirects=False) as it:
                assert it.status == expected, headers


async def test_without_a_session_nothing_is_shown(settings: Settings) -> None:
    async with served(settings) as url, browser() as session:
        for path in ("", "activity", "story/download/x", "event/x", "no-such-page"):
            assert await status(session, f"{url}/{path}") == 303, path
        for path in ("live?position=1", "activity.csv", "activity.jsonl"):
            assert await status(session, f"{url}/{path}") == 401, path
        forged = {"Cookie": "mediabus_session=" + "QUFB" * 20}
        assert await status(session, f"{url}/activity", headers=forged) == 303


OUTSIDE = ("../run.py", "%2e%2e/run.py", "..%2frun.py", "%00", "/etc/passwd")


async def test_no_path_leads_out_of_the_static_files(settings: Settings) -> None:
    async with served(settings) as url, browser() as session:
        for path in OUTSIDE:
            asked = URL(f"{url}/static/{path}", encoded=True)
            async with session.get(asked, allow_redirects=False) as reply:
                assert reply.status in {303, 404}, path
                assert b"import" not in await reply.read()


async def test_sign_out_everywhere_ends_every_session_of_the_user_only(settings: Settings) -> None:
    async with (
        served(settings, users=USERS) as url,
        browser() as laptop,
        browser() as phone,
        browser() as kids,
    ):
        assert await sign_in(laptop, url) == await sign_in(phone, url) == 303
        assert await sign_in(kids, url, "kids", "only looking") == 303
        async with laptop.post(f"{url}/logout", data={"everywhere": "1"}, headers=SAME):
            pass
        assert await status(phone, f"{url}/event/x") == 303
        assert await status(kids, f"{url}/event/x") == 404


async def test_a_session_survives_a_restart_but_not_another_password(settings: Settings) -> None:
    async with browser() as session:
        async with served(settings) as url:
            assert await sign_in(session, url) == 303
        async with served(settings) as url:
            assert await status(session, f"{url}/event/x") == 404
        async with served(settings, password="another password") as url:
            assert await status(session, f"{url}/event/x") == 303


async def test_a_password_is_generated_once_and_only_its_hash_is_kept(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    file = Path(settings.data_dir) / "web.json"
    async with served(settings, password=None) as url, browser() as session:
        shown = capsys.readouterr().err.partition("Password: ")[2].split()[0]
        assert await sign_in(session, url, password=shown) == 303
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert shown not in file.read_text()
    async with served(settings, password=None) as url, browser() as session:
        assert "Password: " not in capsys.readouterr().err
        assert await sign_in(session, url, password=shown) == 303


async def test_a_trusted_proxy_names_the_user_and_their_address(settings: Settings) -> None:
    users = [WebUser(name="kids", role="viewer")]
    async with (
        served(settings, trusted_proxies=["127.0.0.0/8"], users=users) as url,
        browser() as session,
    ):
        anna = {"Remote-User": "anna"}
        async with session.get(f"{url}/event/x", headers=anna) as reply:
            page = await reply.text()
        assert "anna" in page
        assert "(viewer)" not in page
        async with session.get(f"{url}/event/x", headers={"Remote-User": "kids"}) as reply:
            assert "(viewer)" in await reply.text()
        secure = {**SAME, "X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.9"}
        form = {"name": "admin", "password": PASSWORD}
        async with session.post(
            f"{url}/login", data=form, headers=secure, allow_redirects=False
        ) as reply:
            assert "Secure" in reply.headers["Set-Cookie"]


async def test_nobody_else_can_name_the_user(settings: Settings) -> None:
    async with (
        served(settings, trusted_proxies=["203.0.113.7"]) as url,
        browser() as session,
    ):
        assert await status(session, f"{url}/activity", headers={"Remote-User": "admin"}) == 303


async def test_without_a_login_only_this_machine_is_answered(settings: Settings) -> None:
    async with served(settings, auth="none") as url, browser() as session:
        assert await status(session, f"{url}/event/x") == 404
        rebound = {"Host": "evil.example"}
        assert await status(session, f"{url}/event/x", headers=rebound) == 403
    open_to_all = msgspec.structs.replace(
        settings,
        http=HttpSettings(host="0.0.0.0"),
        web=msgspec.structs.replace(settings.web, auth="none"),
    )
    with pytest.raises(SettingsError, match="lets everybody in"):
        config_of(open_to_all)


async def test_a_path_prefix_is_in_every_address(settings: Settings) -> None:
    async with served(settings, base_path="/media/bus") as url, browser() as session:
        async with session.get(f"{url}/activity", allow_redirects=False) as reply:
            assert reply.headers["Location"].startswith("/media/bus/login?")
        async with session.get(f"{url}/login") as reply:
            page = await reply.text()
        assert 'href="/media/bus/static/' in page
        form = {"name": "admin", "password": PASSWORD}
        async with session.post(
            f"{url}/login", data=form, headers=SAME, allow_redirects=False
        ) as reply:
            assert reply.headers["Location"] == "/media/bus/"
            assert "Path=/media/bus/" in reply.headers["Set-Cookie"]
        assert await status(session, url.removesuffix("/media/bus") + "/activity") == 404


async def test_every_answer_limits_what_a_browser_may_do(settings: Settings) -> None:
    async with served(settings) as url, browser() as session:
        for path in ("/login", "/static/app.css", "/static/nothing", "/activity", "/live"):
            async with session.get(url + path, allow_redirects=False) as reply:
                assert "default-src 'self'" in reply.headers["Content-Security-Policy"], path
                assert reply.headers["X-Content-Type-Options"] == "nosniff"
                assert "frame-ancestors 'none'" in reply.headers["Content-Security-Policy"]


async def test_a_link_on_another_site_opens_the_page_without_a_new_login(
    settings: Settings,
) -> None:
    """Browsers keep a strict cookie back from such a link: the page asks once more by itself."""
    linked = {"Sec-Fetch-Site": "cross-site"}
    async with (
        served(settings) as url,
        browser() as session,
        session.get(f"{url}/activity", headers=linked, allow_redirects=False) as reply,
    ):
        assert reply.status == 200
        assert 'http-equiv="refresh"' in await reply.text()


async def test_a_viewer_sees_no_buttons_and_may_not_change_anything(settings: Settings) -> None:
    async with served(settings, users=USERS) as url, browser() as session:
        assert await sign_in(session, url, "kids", "only looking") == 303
        for path in ("downloads/x/pause", "dead-letters", "add/media", "add/download"):
            async with session.post(f"{url}/{path}", data={"do": "retry"}, headers=SAME) as reply:
                assert reply.status == 403, path
                assert "may look" in await reply.text()
        async with session.get(f"{url}/event/x") as reply:
            assert "(viewer)" in await reply.text()
        assert await status(session, f"{url}/add") in {200, 403}
