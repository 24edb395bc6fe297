"""SQL is written down whole and takes its values as parameters: nothing is pieced together."""

import ast
import re
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
RUN = {"execute", "executemany", "fetch", "fetchrow", "fetchval", "cursor", "prepare", "perform"}
MADE_OF_OUR_OWN_WORDS = {
    # Conditions that are written down in that file, each with parameters for its values.
    "consumers/history.py": 2,
    # ALTER ROLE takes no parameters; the password was made a line before, of hexadecimal digits.
    "service/runtime/embedded/postgres_server.py": 1,
}
FROM_OUR_OWN_FILES = {"service/runtime/database.py: connection.execute(_file('grants.sql'))"}


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
    """The file, once for each text with a statement in it into which something is put that is no
    constant."""
    return [
        str(path.relative_to(ROOT))
        for node in ast.walk(ast.parse(path.read_text()))
        if (parts := put_in(node))
        and SQL.search(ast.unparse(node))
        and not all(ast.unparse(part).isupper() for part in parts)
    ]


def put_in(node: ast.AST) -> list[ast.expr]:
    """What a text is made of beside what is written there."""
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
    files = [file for room in ("service", "consumers") for file in (ROOT / room).rglob("*.py")]
    assert len(files) > 50
    assert {line for file in files for line in pieced_together(file)} == FROM_OUR_OWN_FILES
    assert Counter(line for file in files for line in formatted(file)) == MADE_OF_OUR_OWN_WORDS
