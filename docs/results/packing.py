"""What travels from a machine that is lent for minutes: results, small files, and adapters that are not asked yet."""

import json
import os
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from results.cells import Cell

_MIB = 2**20
ADAPTERS = "model/adapter_model.safetensors"
_SMALL = ("*/log.txt", "**/metrics.csv", "**/report.json", "*/done.json", "**/costs.json", "training-*/**/config.yaml")
_DATA = ("questions/*.json*", "pairs*/*.jsonl", "pairs*/fingerprint.txt", "build*/built/pairs.jsonl")  # of each seed


@dataclass
class Pack:
    """A folder of archives: `results.tar.gz`, and one for each training whose adapters nobody has asked yet.

    Args:
        folder: where they lie; nothing else may.
        most_files: archives in it.
        most_bytes: of one archive.
        all_bytes: of all archives.
    """

    folder: Path
    most_files: int = 6  # what else runs there leaves some, too
    most_bytes: int = 16 * _MIB
    all_bytes: int = 64 * _MIB
    left_out: set[str] = field(default_factory=set)

    def write(self, suites: Iterable[tuple[Path, Path]], models: Sequence[Path]) -> None:
        """Bring the folder up to date.

        Args:
            suites: folders of runs and of results of each suite, both of the suite's name.
            models: folders of runs whose adapters are wanted, the most needed first.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        results = self.folder / "results.tar.gz"
        _archive(results, (entry for runs, stored in suites for entry in _results(runs, stored)))
        wanted = {self.folder / f"{run.parent.name}-{run.name}.tar.gz": run for run in models}
        for path in self.folder.glob("*.tar.gz"):
            if path != results and path not in wanted:
                path.unlink()  # asked by now
        room, number = self.all_bytes - self._checked(results), 1
        for path, run in wanted.items():
            size = self._size_of(path, run) if number < self.most_files else 0
            if 0 < size <= min(room, self.most_bytes):
                room, number = room - size, number + 1
            else:
                path.unlink(missing_ok=True)
                self._say(f"no room for the adapters of {run.name} beside {number} archives")

    def _size_of(self, path: Path, run: Path) -> int:
        if not path.exists() or path.stat().st_mtime < (run / ADAPTERS).stat().st_mtime:
            _archive(path, _adapters(run))
        return self._checked(path)

    def _checked(self, path: Path) -> int:
        size = path.stat().st_size
        if size > self.most_bytes:
            self._say(f"{path.name} has {size / _MIB:.1f} MiB, more than {self.most_bytes / _MIB:.0f}")
        return size

    def _say(self, text: str) -> None:
        """Once."""
        if text not in self.left_out:
            self.left_out.add(text)
            print(f"pack: {text}", flush=True)


def unpack(folder: Path, work: Path, stored: Path) -> None:
    """Put the archives of a pack where a run goes on from them; what lies there already stays.

    Raises:
        FileNotFoundError: there are no archives.
    """
    archives = sorted(folder.glob("*.tar.gz"))
    if not archives:
        raise FileNotFoundError(f"expected archives of a run in {folder}, found none; name the folder of --pack")
    places = {"stored": stored, "runs": work}
    for path in archives:
        with tarfile.open(path) as archive:
            for member in archive:
                head, _, rest = member.name.partition("/")
                if member.isfile() and head in places and not (places[head] / rest).exists():
                    archive.extract(member.replace(name=rest), places[head], filter="data")


def rounded(run: Path) -> None:
    """Adapters as they travel and as they are asked, wherever that is: in bfloat16, their base named from here.

    Args:
        run: folder of a training; without adapters nothing happens.
    """
    if not (run / ADAPTERS).exists():
        return
    import torch
    from safetensors.torch import load_file, save_file

    tensors = {name: tensor.to(torch.bfloat16) for name, tensor in load_file(run / ADAPTERS).items()}
    draft = (run / ADAPTERS).with_suffix(".partial")
    save_file(tensors, draft, metadata={"format": "pt"})
    draft.replace(run / ADAPTERS)
    path = run / "model/adapter_config.json"
    settings = json.loads(path.read_text())
    settings["base_model_name_or_path"] = os.path.relpath(settings["base_model_name_or_path"])
    path.write_text(json.dumps(settings, indent=1) + "\n")


def has_adapters(cell: Cell, run: Path) -> bool:
    """Whether a cell has left adapters."""
    return cell.program == "lit_longpo" and (run / ADAPTERS).exists()


def _results(runs: Path, stored: Path, most: int = 300_000) -> Iterator[tuple[Path, str]]:
    """Results whole; of runs logs and metrics as far as they are small, questions and pairs whatever their size."""
    for path in sorted(stored.glob("*.*")):
        yield path, f"stored/{stored.name}/{path.name}"
    small = (path for pattern in _SMALL for path in sorted(runs.glob(pattern)) if path.stat().st_size < most)
    data = (path for pattern in _DATA for path in sorted(runs.glob(pattern)))
    for path in dict.fromkeys((*small, *data)):
        yield path, f"runs/{runs.name}/{path.relative_to(runs)}"


def _adapters(run: Path) -> Iterator[tuple[Path, str]]:
    for path in sorted((run / "model").iterdir()):
        yield path, f"runs/{run.parent.name}/{run.name}/model/{path.name}"


def _archive(path: Path, entries: Iterable[tuple[Path, str]]) -> None:
    """Whole or not at all."""
    draft = path.with_suffix(".partial")
    with tarfile.open(draft, "w:gz", compresslevel=6) as archive:
        for file, name in entries:
            archive.add(file, name)
    draft.replace(path)
