"""The shape of the helpers: data goes one way, rooms are entered by their door, and each is small enough to be read."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

HELPERS = Path(__file__).resolve().parent.parent / "helpers"
FILES = sorted(HELPERS.rglob("*.py"))
ORDER = ["plain", "protocols", "captures", "sockets", "flow", "quic", "connections", "exchanges", "states", "diagnosis",
         "pieces", "experiments", "model", "claims", "figures", "controls", "quiz", "exercises", "report", "testbed"]
ALONE = {"plain", "protocols", "captures", "sockets"}
LINES, COLUMNS, FUNCTION, CLASS = 450, 120, 30, 120
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def name(path):
    return str(path.relative_to(HELPERS.parent))


def room(path):
    """The room that a file belongs to: its module or package directly below `helpers`."""
    return path.relative_to(HELPERS).with_suffix("").parts[0]


def tree(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(path):
    """(module, name or None) of each import of ours in a file; modules without `helpers.`, "" for `helpers` itself."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from ((alias.name.partition(".")[2], None) for alias in node.names
                        if alias.name.split(".")[0] == "helpers")
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name(path)}, line {node.lineno}: a relative import"
            if (node.module or "").split(".")[0] == "helpers":
                module = node.module.partition(".")[2]
                yield from ((module, alias.name) for alias in node.names)


def modules(path):
    """The modules of ours that a file imports: `from helpers import states` is one of `states`."""
    for module, what in imported(path):
        is_module = not module or (what and (HELPERS / module.replace(".", "/") / what).with_suffix(".py").exists())
        yield ".".join(filter(None, (module, what))) if is_module else module


every_file = pytest.mark.parametrize("path", FILES, ids=name)


@every_file
def test_no_import_goes_up(path):
    """Each room stands in the list, and imports only rooms before it; the first ones import none."""
    own = room(path)
    if own == "__init__":
        return
    assert own in ORDER
    others = {module.split(".")[0] for module in modules(path)} - {own}
    assert others <= set(() if own in ALONE else ORDER[:ORDER.index(own)])


@every_file
def test_rooms_are_entered_by_their_door(path):
    """What a package has to offer stands in its `__init__`; in `protocols` each protocol is a door of its own."""
    doors = {"protocols": 2}
    inside = [module for module in modules(path) if module.split(".")[0] != room(path)
              and module.count(".") >= doors.get(module.split(".")[0], 1)]
    assert not inside


@every_file
def test_no_private_name_of_another_module(path):
    """Neither imported, nor reached through an imported module."""
    private = [what for _, what in imported(path) if what and what.startswith("_")]
    names = {(module or what).split(".")[-1] for module, what in imported(path) if module or what}
    private += [f"{node.value.id}.{node.attr}" for node in ast.walk(tree(path)) if isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name) and node.value.id in names and node.attr.startswith("_")
                and not node.attr.startswith("__")]
    assert not private


@every_file
def test_small_enough_to_be_read(path):
    text = path.read_text(encoding="utf-8")
    long = [f"{node.name}: {size} lines" for node in ast.walk(ast.parse(text))
            if isinstance(node, (*FUNCTIONS, ast.ClassDef))
            and (size := node.end_lineno - node.lineno + 1) > (CLASS if isinstance(node, ast.ClassDef) else FUNCTION)]
    lines = text.splitlines()
    wide = [f"line {number}: {len(line)} columns" for number, line in enumerate(lines, 1) if len(line) > COLUMNS]
    assert not long and not wide and len(lines) <= LINES


@every_file
def test_public_functions_explain_themselves(path):
    """A docstring, and a type for each argument and the result."""
    bare = []
    for node in tree(path).body:
        if isinstance(node, FUNCTIONS) and not node.name.startswith("_"):
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            arguments += filter(None, (node.args.vararg, node.args.kwarg))
            typed = node.returns is not None and all(argument.annotation is not None for argument in arguments)
            if not typed or not ast.get_docstring(node):
                bare.append(node.name)
    assert not bare


@pytest.mark.parametrize("module", ["captures", "flow", "connections", "exchanges", "states", "pieces", "experiments",
                                    "claims", "report", "testbed"])
def test_importing_is_light(module):
    heavy = ["scapy", "matplotlib", "IPython", "dask", "cryptography", "hpack", "hyperframe", "pylsqpack"]
    code = f"import sys, helpers.{module}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
