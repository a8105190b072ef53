"""`python -m lit_longpo` in a process that imports everything itself; its imports are events, too.

python -m kills.fresh TRACE FOLDER MOMENT TELL WORDS: see `kills.watching.Watch`, MOMENT in JSON.
"""

import json
import sys
from pathlib import Path

from kills.watching import Moment, Watch


def main() -> None:
    trace, folder, moment, tell, *words = sys.argv[1:]
    chosen = json.loads(moment)
    Watch(Path(trace), Path(folder), Moment(**chosen) if chosen else None, int(tell)).begin(libraries=True)
    sys.argv = ["python -m lit_longpo", *words]
    from lit_longpo.__main__ import main as command

    command(words)


if __name__ == "__main__":
    main()
