"""What a folder holds for whoever names it: data, or a model."""

from pathlib import Path

MODEL_FILES = ("config.json", "adapter_config.json")  # of transformers, of peft


def files_in(path: Path) -> list[Path]:
    """The file, or every file of a folder and its subfolders in the order of their names, none if nothing is there.

    Not what is hidden: `.ipynb_checkpoints` has copies, `.git` and `.trash` what was thrown away.
    """
    if path.is_file():
        return [path]
    inside = (item for item in sorted(path.rglob("*")) if item.is_file())
    return [item for item in inside if not any(part.startswith(".") for part in item.relative_to(path).parts)]


def holds_model(folder: Path) -> bool:
    """Whether a model or adapters lie in the folder."""
    return any((folder / name).is_file() for name in MODEL_FILES)
