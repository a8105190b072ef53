"""Who may import whom, and that every module imports alone."""

import ast
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("lit_longpo", "data_modules", "evaluation")
MAY_IMPORT = {
    "lit_longpo": set(),
    "data_modules": {"lit_longpo"},
    "evaluation": {"lit_longpo"},
}


def modules(package):
    return sorted((ROOT / package).rglob("*.py"))


def imported(path):
    """First components of everything the file imports, at any depth of its code."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_in_one_direction_only(package):
    for path in modules(package):
        if path.name == "__main__.py":  # the one file that looks the other way
            continue
        others = set(imported(path)) & set(PACKAGES) - {package}
        assert others <= MAY_IMPORT[package], path


@pytest.mark.parametrize("path", [path for package in PACKAGES for path in modules(package)], ids=str)
def test_every_module_imports(path):
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    if name.endswith("__main__"):
        return
    importlib.import_module(name)


def test_there_is_no_utils_module():
    assert not [path for package in PACKAGES for path in modules(package) if path.stem in {"utils", "helpers"}]
