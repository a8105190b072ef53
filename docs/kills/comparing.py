"""What a killed and repeated run has left, against an undisturbed one."""

import fcntl
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

_VERSION = re.compile(r"version_(\d+)")
_ORPHANS = re.compile(r"\.partial$|^\.trial-|\.tmp$|^tmp")
_LOCKS = (".running", "*.lock")
_STATE = ("state_dict", "optimizer_states", "lr_schedulers", "global_step", "epoch")  # the rest are paths and clocks
_TENSORS = (".safetensors", ".pt", ".ckpt")


def differences(clean: Path, found: Path, tolerance: float) -> list[str]:
    """What is not as in the undisturbed run, in words; empty if all is equal.

    Args:
        clean: folder of that run.
        found: folder of the other one; both have had the same path.
        tolerance: of numbers.
    """
    problems = [*_orphans(found), *_held(found)]
    problems += _unlike_rows(clean, found, tolerance)
    problems += _unlike_references(clean, found, tolerance)
    expected, got = _results(clean), _results(found)
    before = _results(found, newest=False)  # a run that was over before the kill has written some of them
    got |= {name: before[name] for name in expected.keys() - got.keys() if name in before}
    problems += [f"missing: {name}" for name in sorted(expected.keys() - got.keys())]
    problems += [f"left over: {name}" for name in sorted(got.keys() - expected.keys())]
    for name in sorted(expected.keys() & got.keys()):
        problems += _unlike_files(name, expected[name], got[name], tolerance)
    return problems


def _orphans(folder: Path) -> list[str]:
    return [f"orphan: {path.relative_to(folder)}" for path in sorted(folder.rglob("*")) if _is_orphan(path)]


def _is_orphan(path: Path) -> bool:
    return bool(_ORPHANS.search(path.name))


def _held(folder: Path) -> Iterator[str]:
    """Locks that a dead process still holds."""
    for path in (path for pattern in _LOCKS for path in folder.rglob(pattern)):
        with path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield f"held: {path.relative_to(folder)}"


def _results(folder: Path, *, newest: bool = True) -> dict[str, Path]:
    """Files that must be alike, by name; of several versions of a run those of the last, or of those before it."""
    last = max((int(match) for match in _VERSION.findall("\n".join(_names(folder)))), default=0)
    found = dict[str, Path]()
    for path in (path for path in folder.rglob("*") if path.is_file()):
        name = str(path.relative_to(folder))
        version = _VERSION.search(name)
        wanted = (version is None or int(version.group(1)) == last) == newest
        if not (not wanted or _compared_otherwise(name) or _is_orphan(path)):
            found[_VERSION.sub("version_N", name)] = path
    return found


def _names(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in folder.rglob("*")]


def _compared_otherwise(name: str) -> bool:
    return bool(re.search(r"^rows-|^reference_cache/|tfevents|\.lock$|\.running$|\.partial/|\.ckpt/", name))


def _unlike_rows(clean: Path, found: Path, tolerance: float) -> list[str]:
    """Rows that were trained on: none lost, none other, and each with its loss, however often it was trained on."""
    problems = list[str]()
    for path in sorted(clean.glob("rows-*.jsonl")):
        expected, got = _rows(path), _rows(found / path.name)
        whole = {key: lines[-1] for key, lines in expected.items()}
        problems += [f"{path.name}: {key} is missing" for key in whole if key not in got]
        problems += [f"{path.name}: {key} is one too many" for key in got if key not in whole]
        for key in whole.keys() & got.keys():
            odd = sum(not _alike(whole[key], line, tolerance) for line in got[key])
            problems += [f"{path.name}: {key} is another {odd} of {len(got[key])} times"] * bool(odd)
    return problems


def _rows(path: Path) -> dict[str, list[Any]]:
    found = dict[str, list[Any]]()
    for text in path.read_text().splitlines() if path.exists() else []:
        line = json.loads(text)
        key = f"row {line['row']}" if "row" in line else f"validation after step {line['validation']}"
        found.setdefault(key, []).append({name: _number(value) for name, value in line.items()})
    return found


def _number(value: Any) -> Any:
    return float.fromhex(value) if isinstance(value, str) else value


def _unlike_references(clean: Path, found: Path, tolerance: float) -> list[str]:
    """Reference values: each scored once."""
    expected, got = _references(clean), _references(found)
    problems = [f"reference value {key} stored {len(values)} times" for key, values in got.items() if len(values) > 1]
    if expected.keys() != got.keys():
        return [*problems, f"{len(expected.keys() ^ got.keys())} reference values are missing or left over"]
    odd = sum(abs(got[key][0] - values[0]) > tolerance for key, values in expected.items())
    return [*problems, *[f"{odd} reference values are others"] * bool(odd)]


def _references(folder: Path) -> dict[str, list[float]]:
    found = dict[str, list[float]]()
    for path in folder.glob("reference_cache/*/*.safetensors"):
        tensors = load_file(path)
        keys = (bytes(row).hex() for row in tensors["keys"].numpy())
        for key, value in zip(keys, tensors["log_probs"].tolist(), strict=True):
            found.setdefault(key, []).append(value)
    return found


def _unlike_files(name: str, expected: Path, got: Path, tolerance: float) -> list[str]:
    if name.endswith("runs.jsonl"):  # a line for every run that has answered: alike, but for the time
        alike = _runs(expected) == _runs(got)
    elif name.endswith(_TENSORS):
        alike = _alike(_tensors(expected), _tensors(got), tolerance)
    else:
        alike = expected.read_bytes() == got.read_bytes() or _text(expected) == _text(got)
    return [] if alike else [f"differs: {name}"]


def _runs(path: Path) -> set[str]:
    """Its lines without clock times, and without the checksums of these."""
    return {re.sub(r', "crc": "[0-9a-f]+"', "", line) for line in _text(path).splitlines()}


def _text(path: Path) -> str:
    """Without numbers of versions, clock times, seconds, and what a repeated run goes on from."""
    text = re.sub(r"(?m)^ckpt_path: .*\n", "", path.read_text(errors="replace"))
    # A resumed run that had ended does not begin the epoch that the undisturbed one has counted at its end.
    text = re.sub(r"(?m)^\| epoch \| \d+ \|$", "", _VERSION.sub("version_N", text))
    text = re.sub(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?(\.\d+)?(\+\d\d:\d\d| UTC|Z)?", "TIME", text)
    return re.sub(r'("[a-z_ ]*seconds[a-z_ ]*": )[\d.e+-]+', r"\1SECONDS", text)


def _tensors(path: Path) -> Any:
    if path.suffix == ".safetensors":
        return load_file(path)
    loaded = torch.load(path, map_location="cpu", weights_only=True)
    if isinstance(loaded, Mapping) and "state_dict" in loaded:
        return {name: loaded[name] for name in _STATE if name in loaded}
    return None if path.suffix == ".pt" else loaded


def _alike(one: Any, other: Any, tolerance: float) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return one.shape == other.shape and one.dtype == other.dtype and _close(one, other, tolerance)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_alike(one[key], other[key], tolerance) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(_alike(*pair, tolerance) for pair in zip(one, other, strict=True))
    if isinstance(one, float) and isinstance(other, float):
        return one == other or abs(one - other) <= tolerance
    return bool(one == other)


def _close(one: torch.Tensor, other: torch.Tensor, tolerance: float) -> bool:
    if not tolerance or not one.is_floating_point():
        return torch.equal(one, other)
    return torch.allclose(one, other, rtol=0.0, atol=tolerance)
