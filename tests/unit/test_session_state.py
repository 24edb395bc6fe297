"""Nothing in PostgreSQL outlives a transaction, so that a pooler may lend connections to others."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("runtime", "service", "consumers", "mediabus/backup", "mediabus/commands")
KEPT_BY_THE_SESSION = re.compile(
    r"\b(UN)?LISTEN\b|\bNOTIFY\b|\bPREPARE\b|\bDEALLOCATE\b|\bWITH HOLD\b"
    r"|\bCREATE (GLOBAL |LOCAL )?TEMP|\bpg_(try_)?advisory_lock|\bSET SESSION\b"
    r"|(\A|;)\s*SET (?!LOCAL\b)|\bset_config\([^)]*, false\)"
)
ALLOWED = {
    # Refused in front of a pooler where the defaults are unsafe: see preconditions.py.
    "runtime/postgres/database.py": 1,
}


def statements(path: Path) -> Iterator[str]:
    if path.suffix == ".sql":
        yield path.read_text()
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def kept_by_the_session(path: Path) -> int:
    return sum(bool(KEPT_BY_THE_SESSION.search(text)) for text in statements(path))


def test_no_statement_leaves_state_in_its_session() -> None:
    files = [
        path
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".py", ".sql"}
    ]
    assert len(files) > 100
    found = {str(path.relative_to(ROOT)): kept_by_the_session(path) for path in files}
    assert {name: count for name, count in found.items() if count} == ALLOWED


@pytest.mark.parametrize(
    "statement",
    [
        "LISTEN events",
        "SELECT pg_advisory_lock(1)",
        "SELECT pg_try_advisory_lock(1)",
        "CREATE TEMP TABLE t ()",
        "SET lock_timeout = 1",
        "SELECT 1; SET SESSION lock_timeout = 1",
        "SELECT set_config('lock_timeout', '1', false)",
        "PREPARE p AS SELECT 1",
        "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
    ],
)
def test_state_of_a_session_is_recognized(statement: str) -> None:
    assert KEPT_BY_THE_SESSION.search(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "SET LOCAL lock_timeout = '1s'",
        "SELECT pg_advisory_xact_lock(1)",
        "UPDATE t\nSET a = 1",
        "SELECT set_config(name, '0', true)",
        "CREATE FUNCTION f() RETURNS boolean LANGUAGE plpgsql SET lock_timeout = '1s' AS $$",
    ],
)
def test_state_of_a_transaction_is_allowed(statement: str) -> None:
    assert not KEPT_BY_THE_SESSION.search(statement)
