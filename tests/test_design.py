"""The shape of the helpers: data goes one way, and reading a capture stays light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

HELPERS = Path(__file__).resolve().parent.parent / "helpers"
ORDER = ["protocols", "captures", "flow", "quic", "connections", "exchanges", "states", "pieces", "experiments", "claims", "figures", "report", "exercises",
         "student"]


def imported(path):
    """The helpers' modules that a module imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("helpers."):
            yield node.module.split(".")[1]


@pytest.mark.parametrize("module", ORDER)
def test_no_module_imports_one_below_it(module):
    above = ORDER[:ORDER.index(module)]
    for path in [HELPERS / f"{module}.py", *(HELPERS / module).glob("*.py")]:
        assert not path.exists() or set(imported(path)) <= {*above, module}


@pytest.mark.parametrize("module", ["captures", "connections", "states", "pieces", "experiments", "claims", "report", "testbed"])
def test_importing_is_light(module):
    heavy = ["scapy", "matplotlib", "IPython", "cryptography", "hpack", "hyperframe", "pylsqpack"]
    code = f"import sys, helpers.{module}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
