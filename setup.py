"""What pyproject.toml cannot say: `configs/` is installed as `lit_longpo/configs`."""

from pathlib import Path

from setuptools import find_namespace_packages, setup

FOLDERS = [Path("configs"), *(path for path in Path("configs").rglob("*") if path.is_dir())]
RECIPES = [".".join(("lit_longpo", *folder.parts)) for folder in sorted(FOLDERS)]

setup(
    packages=[*find_namespace_packages(include=["lit_longpo*", "data_modules*", "evaluation*"]), *RECIPES],
    package_dir={"lit_longpo.configs": "configs"},
)
