"""What a folder holds for whoever names it as data."""

from pathlib import Path


def files_in(path: Path) -> list[Path]:
    """The file, or every file of a folder and its subfolders in the order of their names, none if nothing is there.

    Not what is hidden: `.ipynb_checkpoints` has copies, `.git` and `.trash` what was thrown away.
    """
    if path.is_file():
        return [path]
    inside = (item for item in sorted(path.rglob("*")) if item.is_file())
    return [item for item in inside if not any(part.startswith(".") for part in item.relative_to(path).parts)]
