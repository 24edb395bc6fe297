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


@functools.cache
def _definitions(module: ModuleType) -> dict[str, Definition]:
    """Return the classes and functions of a module; of overloads, the implementation."""
    tree = ast.parse(inspect.getsource(module))
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


def constructor(node: ast.ClassDef) -> Function | None:
    """Return ``__init__``, if the class defines it."""
    found = (it for it in node.body if isinstance(it, ast.FunctionDef) and it.name == "__init__")
    return next(found, None)


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
