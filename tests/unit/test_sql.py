"""SQL is written down whole and takes its values as parameters: nothing is pieced together."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
RUN = {"execute", "executemany", "fetch", "fetchrow", "fetchval", "cursor", "prepare", "perform"}
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


def formatted_names(path: Path) -> list[str]:
    """The names of statements that are texts with something put in that is no constant."""
    return [
        f"{path.relative_to(ROOT)}: {ast.unparse(node.target)}"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.AnnAssign)
        and isinstance(node.value, ast.JoinedStr)
        and any(
            word in ast.unparse(node.value) for word in ("SELECT", "INSERT", "UPDATE", "DELETE")
        )
        and not all(ast.unparse(part).isupper() for part in put_in(node.value))
    ]


def put_in(text: ast.JoinedStr) -> list[ast.expr]:
    return [part.value for part in text.values if isinstance(part, ast.FormattedValue)]


def test_no_statement_is_pieced_together() -> None:
    files = [file for room in ("service", "consumers") for file in (ROOT / room).rglob("*.py")]
    assert len(files) > 50
    assert {line for file in files for line in pieced_together(file)} == FROM_OUR_OWN_FILES
    assert [line for file in files for line in formatted_names(file)] == []
