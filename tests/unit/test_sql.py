"""SQL is written down whole and takes its values as parameters: nothing is pieced together."""

import ast
import re
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
RUN = {"execute", "executemany", "fetch", "fetchrow", "fetchval", "cursor", "prepare", "perform"}
MADE_OF_OUR_OWN_WORDS = {
    # Conditions that are written down in that file, each with parameters for its values.
    "consumers/history/query.py": 2,
    # ALTER ROLE takes no parameters; the password was made a line before, of hexadecimal digits.
    "runtime/embedded/postgres_cluster.py": 1,
    # Subjects of JetStream's API, such as CONSUMER.DURABLE.CREATE.
    "mediabus/secure/nats_roles.py": 2,
    "service/ingest/consumers.py": 1,
}


def pieced_together(path: Path) -> list[str]:
    """The calls that run a statement which is neither a text nor the name of one."""
    calls = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
    return [
        f"{path.relative_to(ROOT)}: {ast.unparse(call)}"
        for call in calls
        if isinstance(call.func, ast.Attribute)
        and call.func.attr in RUN
        and call.args
        and ast.unparse(call.func.value) != "subscription"  # NATS fetches too
        and not isinstance(call.args[0], ast.Name | ast.Constant | ast.Attribute)
    ]


SQL = re.compile(r"\b(SELECT|INSERT INTO|UPDATE|DELETE FROM|ALTER|CREATE|DROP|GRANT)\b")


def formatted(path: Path) -> list[str]:
    """Return the file once for each SQL statement that contains something other than a constant."""
    return [
        str(path.relative_to(ROOT))
        for node in ast.walk(ast.parse(path.read_text()))
        if (parts := put_in(node))
        and SQL.search(ast.unparse(node))
        and not all(ast.unparse(part).isupper() for part in parts)
    ]


def put_in(node: ast.AST) -> list[ast.expr]:
    """The parts of a text other than its literals."""
    match node:
        case ast.JoinedStr():
            return [part.value for part in node.values if isinstance(part, ast.FormattedValue)]
        case ast.BinOp(left, ast.Mod() | ast.Add(), right):
            return [part for part in (left, right) if not isinstance(part, ast.Constant)]
        case ast.Call(ast.Attribute(_, "format" | "replace" | "join"), arguments, named):
            return [*arguments, *(each.value for each in named)]
        case _:
            return []


def test_no_statement_is_pieced_together() -> None:
    files = [
        file
        for room in ("mediabus", "service", "consumers", "runtime")
        for file in (ROOT / room).rglob("*.py")
    ]
    assert len(files) > 50
    assert [line for file in files for line in pieced_together(file)] == []
    assert Counter(line for file in files for line in formatted(file)) == MADE_OF_OUR_OWN_WORDS


def test_migrations_are_numbered_without_gaps() -> None:
    folder = ROOT / "runtime" / "postgres" / "migrations"
    files = sorted(file.name for file in folder.glob("*.sql"))
    assert len(files) >= 9
    assert [int(name.partition("_")[0]) for name in files] == list(range(1, len(files) + 1))
