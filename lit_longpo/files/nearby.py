"""Did you mean ...? for a path that is not there."""

import difflib
from pathlib import Path


def nearby(path: str | Path) -> str:
    """A question about what lies beside a missing path and is called almost so, with "; " in front; else nothing.

    Args:
        path: as the user wrote it.
    """
    wanted = Path(path).expanduser()
    try:
        names = [item.name for item in wanted.parent.iterdir()]
    except OSError:  # no folder, or one that may not be read: another message says so
        return ""
    near = difflib.get_close_matches(wanted.name, names, n=2, cutoff=0.75)
    return f"; did you mean {' or '.join(str(Path(path).with_name(name)) for name in near)}?" if near else ""
