"""Who may import whom, that every module imports alone, and that every test lies where its source does."""

import ast
import importlib
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("lit_longpo", "data_modules", "evaluation")
MAY_IMPORT = {
    "lit_longpo": set(),
    "data_modules": {"lit_longpo"},
    "evaluation": {"lit_longpo"},
}

# Tests of what several files do together, which therefore have no file of their name.
TOGETHER = {
    "data_modules/test_format_samples.py": "samples of every format train every kind of model",
    "evaluation/benchmarks/ruler/test_official_examples.py": "all generators beside examples of the official ones",
    "lit_longpo/checkpoints/test_resume.py": "a killed run goes on: checkpoints and the place in the data",
    "lit_longpo/objectives/test_costs.py": "counts the table in objectives/README.md",
    "lit_longpo/objectives/test_host_waits.py": "no objective's step waits for a GPU",
    "lit_longpo/objectives/test_logged_losses.py": "what a run logs for a file of pairs is the equation",
    "lit_longpo/optimization/test_mixed_precision.py": "precision, clipping and optimizers beside torch's own loop",
    "lit_longpo/planning/test_hybrids.py": "the plan knows models that do not pack, or only with states",
    "lit_longpo/planning/test_measured.py": "the plan beside real runs",
    "lit_longpo/policy/test_gguf.py": "files of the optional package gguf, read by loading.py",
    "lit_longpo/strategies/test_hybrids.py": "ranks score hybrids, and one sequence at a time, like one process",
    "lit_longpo/strategies/test_parity.py": "ranks under every strategy train like one process",
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


def room(module):
    """The folder that holds a module, as it is imported."""
    path = ROOT.joinpath(*module.split("."))
    return module if path.is_dir() else module.rpartition(".")[0]


def rooms_imported():
    """Each (room, room that one of its files imports)."""
    for path in (path for package in PACKAGES for path in modules(package)):
        here = ".".join(path.parent.relative_to(ROOT).parts)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in PACKAGES:
                yield here, room(node.module)


def test_no_two_rooms_import_each_other():
    """But for a room and the rooms inside it."""
    pairs = {(a, b) for a, b in rooms_imported() if not f"{a}.".startswith(f"{b}.") and not f"{b}.".startswith(f"{a}.")}
    pairs = {(a, b) for a, b in pairs if "lit_longpo" not in (a, b)}  # lit_longpo.__main__ names all commands
    assert len(pairs) > 100
    assert not {(a, b) for a, b in pairs if (b, a) in pairs}


@pytest.mark.parametrize("path", [path for package in PACKAGES for path in modules(package)], ids=str)
def test_every_module_imports(path):
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    if name.endswith("__main__"):
        return
    if name == "evaluation.running.harness_model":  # a class of the extra's own, which nobody else imports at once
        pytest.importorskip("lm_eval")
    importlib.import_module(name)


def test_there_is_no_utils_module():
    assert not [path for package in PACKAGES for path in modules(package) if path.stem in {"utils", "helpers"}]


def mirrored(package):
    return sorted(path.relative_to(ROOT / "tests") for path in (ROOT / "tests" / package).rglob("test_*.py"))


def has_source(test):
    """Named after a file or a folder in the mirrored place, or after that folder itself."""
    name, folder = test.stem.removeprefix("test_"), ROOT / test.parent
    return (folder / f"{name}.py").is_file() or (folder / name).is_dir() or (folder.is_dir() and folder.name == name)


@pytest.mark.parametrize("test", [test for package in PACKAGES for test in mirrored(package)], ids=str)
def test_tests_mirror_the_packages(test):
    assert has_source(test) != (str(test) in TOGETHER), f"expected a source file or folder for tests/{test}"


def test_every_exception_is_a_test():
    assert set(TOGETHER) <= {str(test) for package in PACKAGES for test in mirrored(package)}


@pytest.mark.parametrize("package", PACKAGES)
def test_its_types_are_shipped(package):
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    assert (ROOT / package / "py.typed").exists()
    assert "py.typed" in settings[package]
