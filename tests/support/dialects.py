"""Answers of the seven download clients, as their real daemons send them, by request.

They are data, so that a test can change any part before it is sent.
"""

import re
import urllib.parse
from collections.abc import Callable
from typing import Any, Final

import msgspec

from mediabus.service.clients.deluge.states import KEYS
from mediabus.service.clients.rtorrent.states import NUMBERS, TEXTS

HASH: Final = "c9e15763f722f23e98a29decdfae341b98d53056"
OTHER: Final = "a" * 40

Reply = Callable[[bytes], Any]
"""From a request to the answer's data. Bytes are sent as they are."""


def qbittorrent(request: bytes) -> Any:
    path = request.split(b" ", 2)[1].partition(b"?")[0].decode().removeprefix("/api/v2/")
    torrent = {
        "name": "Dune",
        "state": "stalledDL",
        "progress": 0.5,
        "size": 1000,
        "completed": 500,
        "uploaded": 1,
        "dlspeed": 0,
        "upspeed": 0,
        "eta": 8640000,
        "save_path": "/downloads",
        "category": "movies",
        "infohash_v1": HASH,
        "infohash_v2": "",
    }
    torrents = {HASH: torrent, OTHER: {**torrent, "state": "error", "infohash_v1": OTHER}}
    tracker = {"url": "http://tracker", "status": 4, "msg": "refused"}
    return {
        "sync/maindata": {"rid": 1, "full_update": True, "torrents": torrents},
        "app/version": b"v5.0.0",
        "torrents/trackers": [tracker],
        "torrents/info": [{**torrent, "hash": HASH}],
        "torrents/files": [{"name": "a", "size": 1000, "progress": 0.5, "priority": 1}],
        "log/main": [{"message": "Dune: no space left on device"}],
    }.get(path, b"Ok.")


def transmission(request: bytes) -> Any:
    method = _json(request)["method"]
    torrent = {
        "id": 1,
        "hashString": HASH,
        "name": "Dune",
        "status": 4,
        "error": 3,
        "errorString": "No data found!",
        "percentDone": 0.5,
        "metadataPercentComplete": 1,
        "sizeWhenDone": 1000,
        "leftUntilDone": 500,
        "uploadedEver": 1,
        "rateDownload": 1,
        "rateUpload": 0,
        "eta": -1,
        "downloadDir": "/downloads",
        "totalSize": 1000,
        "labels": ["movies"],
    }
    arguments = {
        "session-get": {"version": "4.0.5 (a6fe2a64aa)", "rpc-version": 17},
        "session-stats": {"current-stats": {"secondsActive": 100}},
        "torrent-get": {"torrents": [torrent, {**torrent, "id": 2, "hashString": OTHER}]},
    }
    return {"result": "success", "arguments": arguments.get(method, {})}


def aria2(request: bytes) -> Any:
    call = _json(request)
    if call["method"] != "system.multicall":
        return {"id": "mediabus", "jsonrpc": "2.0", "result": _aria2(call["method"])}
    calls = call["params"][0]
    return {"id": "mediabus", "result": [[_aria2(one["methodName"])] for one in calls]}


def _aria2(method: str) -> Any:
    download = {
        "gid": "2089b05ecca3d829",
        "status": "active",
        "totalLength": "1000",
        "completedLength": "500",
        "uploadLength": "1",
        "downloadSpeed": "10",
        "uploadSpeed": "0",
        "dir": "/downloads",
        "errorCode": "0",
        "errorMessage": "",
        "infoHash": HASH,
        "seeder": "false",
        "bittorrent": {"info": {"name": "Dune"}},
    }
    plain = {**download, "gid": "1" * 16, "infoHash": "", "bittorrent": None, "status": "waiting"}
    del plain["bittorrent"]
    stat = {"numActive": "1", "numWaiting": "1", "numStopped": "0", "numStoppedTotal": "0"}
    return {
        "aria2.getVersion": {"version": "1.37.0", "enabledFeatures": []},
        "aria2.getSessionInfo": {"sessionId": "cd6a3bc6a1de28eb5bfa181e5f6b916d44af31a9"},
        "aria2.getGlobalStat": stat,
        "aria2.tellActive": [download],
        "aria2.tellWaiting": [plain],
        "aria2.tellStopped": [],
        "aria2.tellStatus": download,
        "aria2.getFiles": [{"path": "", "uris": [{"uri": "http://host/a.iso", "status": "used"}]}],
    }.get(method, "OK")


def nzbget(request: bytes) -> Any:
    group = {
        "NZBID": 1,
        "NZBName": "Dune",
        "Status": "DOWNLOADING",
        "Category": "movies",
        "FileSizeLo": 1000,
        "FileSizeHi": 0,
        "DownloadedSizeLo": 500,
        "DownloadedSizeHi": 0,
        "RemainingSizeLo": 500,
        "TotalArticles": 10,
        "FailedArticles": 1,
        "MaxPriority": 0,
    }
    entry = {**group, "NZBID": 2, "Name": "Alien", "Status": "FAILURE/UNPACK", "DestDir": "/done"}
    line = {"ID": 1, "Kind": "ERROR", "Time": 1, "Text": "news.host errno 28: no space"}
    state = {"DownloadPaused": False, "DownloadRate": 1, "ServerTime": 1, "UpTimeSec": 9}
    result = {
        "version": "21.0",
        "status": state,
        "listgroups": [group],
        "history": [entry],
        "config": [{"Name": "Server1.Host", "Value": "news.host"}],
        "log": [line],
        "loadlog": [line],
    }
    return {"version": "1.1", "result": result.get(_json(request)["method"], True)}


def sabnzbd(request: bytes) -> Any:
    form = urllib.parse.parse_qs(request.partition(b"\r\n\r\n")[2].decode(errors="replace"))
    slot = {
        "nzo_id": "SABnzbd_nzo_7rtivt46",
        "filename": "Dune",
        "status": "Downloading",
        "mb": "2.00",
        "mbleft": "1.00",
        "mbmissing": "0.00",
        "cat": "movies",
        "priority": "Normal",
        "timeleft": "0:01:10",
        "labels": ["DUPLICATE"],
    }
    entry = {
        "nzo_id": "SABnzbd_nzo_8rtivt46",
        "name": "Alien",
        "status": "Failed",
        "bytes": 1000,
        "category": "movies",
        "storage": "/done",
        "fail_message": "Unpacking failed",
        "completed": 1,
        "stage_log": [{"name": "Unpack", "actions": ["a"]}],
    }
    queue = {"slots": [slot], "paused": False, "kbpersec": "1.5", "have_warnings": "1"}
    return {
        "queue": {"queue": queue},
        "history": {"history": {"slots": [entry], "last_history_update": 2}},
        "version": {"version": "5.1.0"},
        "warnings": {"warnings": [{"text": "Alien: disk full", "type": "ERROR", "time": 1}]},
        "status": {"status": {"servers": [{"serverwarning": "", "servererror": "refused"}]}},
    }.get(form.get("mode", [""])[0], {"status": True, "nzo_ids": []})


def rtorrent(request: bytes) -> Any:
    names = re.findall(rb"<string>([\w.]+)</string>", request)
    row = [HASH.upper(), "Dune", "", "/downloads/Dune", "movies"][: len(TEXTS)]
    row += [""] * (len(TEXTS) - len(row)) + ["  ".join("1" for _ in NUMBERS)]
    known = {
        b"system.pid": 1,
        b"d.multicall2": [row, [OTHER.upper(), *row[1:]]],
        b"d.chunk_size": 1024,
        b"f.multicall": [[1000, 1, 1]],
        b"system.client_version": "0.9.8",
        b"download_list": [HASH.upper()],
        b"d.name": "Dune",
    }
    method = re.search(rb"<methodName>([\w.]+)</methodName>", request)
    if method and method[1] == b"system.multicall":
        return [[known.get(name, 0)] for name in names if name in known]
    return known.get(method[1] if method else b"", 0)


def deluge(method: str) -> Any:
    torrent = dict.fromkeys(KEYS, 0) | {
        "name": "Dune",
        "state": "Downloading",
        "message": "OK",
        "is_finished": False,
        "total_size": 1000,
        "total_wanted": 1000,
        "total_remaining": 500,
        "download_location": "/downloads",
        "tracker_status": "Error: refused",
        "label": "movies",
    }
    texts = {name: "" for name in KEYS if "hash" in name}
    lists: dict[str, Any] = {name: [] for name in KEYS if name.startswith("file")}
    torrent |= texts | lists
    return {
        "daemon.login": 10,
        "daemon.set_event_interest": True,
        "daemon.info": "2.1.1",
        "core.get_torrents_status": {HASH: torrent, OTHER: {**torrent, "state": "Error"}},
        "core.get_torrent_status": torrent,
        "core.get_free_space": 1000,
        "core.get_enabled_plugins": ["Label"],
    }.get(method)


HTTP: Final[dict[str, Reply]] = {
    "aria2": aria2,
    "nzbget": nzbget,
    "qbittorrent": qbittorrent,
    "sabnzbd": sabnzbd,
    "transmission": transmission,
}


def _json(request: bytes) -> Any:
    return msgspec.json.decode(request.partition(b"\r\n\r\n")[2])
