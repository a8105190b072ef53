"""A manifest of all that a folder's lines depend on, written before them, so that a killed run continues its own."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from lit_longpo.errors import InputError
from lit_longpo.files.stored import plain_json, stored_object, with_checksum, without_checksum, write_json
from lit_longpo.files.strict_json import instead, shortened

MANIFEST = "manifest.json"
_ANEW = "type --output FOLDER to use another folder, or delete {folder} to start over"


def check_manifest(
    folder: Path,
    manifest: Mapping[str, Any],
    kind: str,
    notes: Mapping[str, Any] | None = None,
    lines: Iterable[Path] = (),
) -> None:
    """Write down what the folder's lines depend on, or compare with what the first run wrote.

    Args:
        folder: of the run.
        manifest: what is compared.
        kind: of the run, for example "build".
        notes: what is written with it and not compared.
        lines: files of the folder that depend on it.

    Raises:
        InputError: the folder holds a run with other settings, or lines of which nobody knows on what they depend.
    """
    path = folder / MANIFEST
    wanted = plain_json(manifest)
    if not path.exists():
        _refuse_unnamed(folder, lines)
        write_json(path, with_checksum(plain_json({**wanted, **(notes or {})})), indent=2)
        return
    held = read_manifest(folder)
    stored = {name: value for name, value in held.items() if name not in (notes or {})}
    _refuse_other(path, stored, wanted, kind)


def check_manifest_early(folder: Path, known: Mapping[str, Any], kind: str, lines: Iterable[Path]) -> None:
    """Check as `check_manifest` does what can be known early; nothing is written.

    Raises:
        InputError: the folder holds a run with other settings, or lines of which nobody knows on what they depend.
    """
    path = folder / MANIFEST
    if not path.exists():
        _refuse_unnamed(folder, lines)
    else:
        stored = read_manifest(folder)
        wanted = plain_json(known)
        _refuse_other(path, {name: stored.get(name) for name in wanted}, wanted, kind)


def read_manifest(folder: Path) -> dict[str, Any]:
    """What the first run has written down.

    Raises:
        RecordError: it is damaged, or another than was written.
    """
    with instead(_ANEW.format(folder=folder)):
        return without_checksum(stored_object(folder / MANIFEST), str(folder / MANIFEST))


def _refuse_unnamed(folder: Path, lines: Iterable[Path]) -> None:
    """A run writes its manifest before its first line: another model's answers would be taken for this one's."""
    for file in sorted(lines):
        if file.is_file() and file.stat().st_size:
            raise InputError(
                f"expected {MANIFEST} beside {file}, which says what made its lines, found none; put it back, or "
                f"{_ANEW.format(folder=folder)}"
            )


def _refuse_other(path: Path, stored: Mapping[str, Any], wanted: Mapping[str, Any], kind: str) -> None:
    changed = sorted(name for name in {*stored, *wanted} if stored.get(name) != wanted.get(name))
    if changed:
        named = " and another ".join(shortened(name) for name in changed if name != "hash")
        raise InputError(
            f"expected the {kind} in {path.parent} to be of the same settings, got one with another {named} (see "
            f"{path}); type --output FOLDER to use another folder, or delete this one to start over"
        )


def complete_lines(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Every line and where it starts; a last one without an end was being written at the kill, and is cut off."""
    file.seek(0)
    start = 0
    for line in file:
        if not line.endswith(b"\n"):
            file.truncate(start)
            return
        yield start, line
        start += len(line)
