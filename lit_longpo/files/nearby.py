"""Did you mean ...? for a path that is not there."""

import difflib
import os
from itertools import islice
from pathlib import Path

_MOST = 10_000  # names that are compared, in half a second


def nearby(path: str | Path) -> str:
    """A "did you mean" question with names like that of a missing path, after a "; "; empty if there are none."""
    wanted = Path(os.path.expanduser(path))  # of somebody whom nobody knows it stays as it is
    try:
        names = [item.name for item in islice(wanted.parent.iterdir(), _MOST)]
    except OSError:  # no folder, or one that may not be read: another message says so
        return ""
    near = difflib.get_close_matches(wanted.name, names, n=2, cutoff=0.75)
    return f"; did you mean {' or '.join(str(Path(path).with_name(name)) for name in near)}?" if near else ""
