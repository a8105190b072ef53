"""Kills every command and runs it again; `make kills`.

    PYTHONPATH=docs python -m kills run --only 'fit-dpo*' --kills 10
    PYTHONPATH=docs python -m kills table

A cell is a command on a tiny model. It runs undisturbed once; then its whole process group is killed at seeded
moments, spread over its phases, it is run again, and what it leaves is compared with the undisturbed run. Results lie
in docs/kills/stored; what is there is not done again. Runs lie in `--work`, those that differ are kept.
"""

import argparse
import fnmatch
import importlib.util
import os
import time
from pathlib import Path

from kills.campaign import STORED, Campaign
from kills.cells import cells
from kills.table import write

_IMPORTED = (
    *("lit_longpo.cli", "data_modules", "evaluation", "evaluation.command", "lit_longpo.export.command"),
    *("data_modules.builders.command", "deepspeed.runtime.zero.muon.muon_optimizer", "tensorboard.summary"),
    *("kills.rows", "peft", "lightning.pytorch.loggers.tensorboard"),
)


def run(options: argparse.Namespace) -> None:
    from benchmarks.machine import describe

    import_libraries()
    options.stored.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    for cell in cells():
        if any(fnmatch.fnmatch(cell.key, pattern) for pattern in options.only):
            if options.minutes is not None and time.monotonic() - began > 60 * options.minutes:
                print("time is up", flush=True)
                break
            try:
                Campaign(cell, options.work, options.stored, describe()).run(options.kills)
            except RuntimeError as error:
                print(f"FAILED: {error}", flush=True)


def import_libraries() -> None:
    """What forked processes would each import."""
    os.environ.update({"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"})
    for name in _IMPORTED:
        if importlib.util.find_spec(name.partition(".")[0]):
            importlib.import_module(name)


def table(options: argparse.Namespace) -> None:
    print(write(options.stored, options.kills * sum(1 for _ in cells())))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("run", "table"))
    parser.add_argument("--only", nargs="+", default=["*"], help="patterns of cells")
    parser.add_argument("--kills", type=int, default=10, help="of each cell")
    parser.add_argument("--minutes", type=float, default=None, help="after which no cell is begun")
    parser.add_argument("--work", type=Path, default=Path("runs/kills"))
    parser.add_argument("--stored", type=Path, default=STORED)
    options = parser.parse_args()
    options.work = options.work.absolute()
    {"run": run, "table": table}[options.command](options)


if __name__ == "__main__":
    main()
