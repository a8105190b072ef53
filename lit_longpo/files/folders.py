"""What a folder holds: files of data, a model, names like that of a missing path."""

import difflib
import os
from itertools import islice
from pathlib import Path

_MOST = 10_000  # names that are compared, in half a second
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


def nearby(path: str | Path) -> str:
    """A "did you mean" question with names like that of a missing path, after a "; "; empty if there are none."""
    wanted = Path(os.path.expanduser(path))  # of somebody whom nobody knows it stays as it is
    try:
        names = [item.name for item in islice(wanted.parent.iterdir(), _MOST)]
    except OSError:  # no folder, or one that may not be read: another message says so
        return ""
    near = difflib.get_close_matches(wanted.name, names, n=2, cutoff=0.75)
    return f"; did you mean {' or '.join(str(Path(path).with_name(name)) for name in near)}?" if near else ""
