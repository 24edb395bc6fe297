"""Read definitions from source code, so that a page shows them as they are written."""

import ast
import functools
import inspect
from collections.abc import Iterator
from types import ModuleType
from typing import Final

Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
Function = ast.FunctionDef | ast.AsyncFunctionDef

WIDTH: Final = 88
"""A longer signature gets one line for each argument."""


class _Constants(ast.NodeTransformer):
    """Puts the values of a module's constants in place of their names."""

    def __init__(self, module: ModuleType) -> None:
        self._values = vars(module)

    def visit_Name(self, node: ast.Name) -> ast.expr:
        value = self._values.get(node.id)
        is_constant = node.id.isupper() and isinstance(value, str | int | float)
        return ast.Constant(value) if is_constant else node


@functools.cache
def _definitions(module: ModuleType) -> dict[str, Definition]:
    """Return the classes and functions of a module; of overloads, the implementation."""
    tree = _Constants(module).visit(ast.parse(inspect.getsource(module)))
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name: node for node in tree.body if isinstance(node, kinds)}


def definition(module: ModuleType, name: str) -> Definition:
    """Return the definition of a public name. Raises KeyError."""
    return _definitions(module)[name]


def written(node: ast.AST) -> str:
    """Return the source of a node, with the quotes of this repository."""
    text = ast.unparse(node)
    return text if '"' in text else text.replace("'", '"')


def methods(node: ast.ClassDef) -> Iterator[Function]:
    """Yield the public methods of a class."""
    for inner in node.body:
        if isinstance(inner, Function) and not inner.name.startswith("_"):
            yield inner


def fields(node: ast.ClassDef) -> Iterator[str]:
    """Yield the public annotated attributes of a class, as written."""
    for inner in node.body:
        if isinstance(inner, ast.AnnAssign) and not written(inner.target).startswith("_"):
            yield written(inner)


def bases(node: ast.ClassDef) -> list[str]:
    """Return the classes that a class inherits from, as written."""
    return [written(base) for base in node.bases]


def constructor(node: ast.ClassDef) -> Function | None:
    """Return ``__init__``, if the class defines it."""
    found = (it for it in node.body if isinstance(it, ast.FunctionDef) and it.name == "__init__")
    return next(found, None)


def call(node: Function, name: str) -> str:
    """Return how a function is called: with ``await`` or ``async with``, if it needs that."""
    if any(written(decorator).endswith("asynccontextmanager") for decorator in node.decorator_list):
        return signature(node, f"async with {name}").replace(" -> AsyncIterator[Bus]", " as bus")
    yields = any(isinstance(inner, ast.Yield) for inner in ast.walk(node))
    is_coroutine = isinstance(node, ast.AsyncFunctionDef) and not yields
    return signature(node, f"await {name}" if is_coroutine else name)


def signature(node: Function, name: str) -> str:
    """Return a signature under another name, without ``self``."""
    arguments = [*_arguments(node.args)]
    returns = f" -> {written(node.returns)}" if node.returns else ""
    short = f"{name}({', '.join(arguments)}){returns}"
    if len(short) <= WIDTH:
        return short
    return f"{name}(\n" + "".join(f"    {it},\n" for it in arguments) + f"){returns}"


def _arguments(args: ast.arguments) -> Iterator[str]:
    positional = [*args.posonlyargs, *args.args]
    defaults = [None] * (len(positional) - len(args.defaults)) + [*args.defaults]
    for argument, value in zip(positional, defaults, strict=True):
        if argument.arg not in {"self", "cls"}:
            yield _argument(argument, value)
    if args.vararg:
        yield f"*{_argument(args.vararg, None)}"
    elif args.kwonlyargs:
        yield "*"
    for argument, value in zip(args.kwonlyargs, args.kw_defaults, strict=True):
        yield _argument(argument, value)
    if args.kwarg:
        yield f"**{_argument(args.kwarg, None)}"


def _argument(argument: ast.arg, value: ast.expr | None) -> str:
    annotation = f": {written(argument.annotation)}" if argument.annotation else ""
    if value is None:
        return f"{argument.arg}{annotation}"
    return f"{argument.arg}{annotation} = {written(value)}"
