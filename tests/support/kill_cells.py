"""Cells of the campaign of docs/kills, in processes that are forked from one that has imported the libraries."""

import json
from pathlib import Path

from kills.campaign import Campaign
from kills.cells import cells


def run_cells(keys: list[str], folder: Path, num_kills: int) -> None:
    """Kill each so many times; results are FOLDER/stored/KEY.json."""
    (folder / "stored").mkdir()
    for cell in cells():
        if cell.key in keys:
            result = Campaign(cell, folder / "work", folder / "stored", {}).run(num_kills)
            problems = [kill for kill in result.kills if kill["problems"]]
            assert not problems, json.dumps(problems, indent=1)
            assert any(not kill["phase"].startswith("none") for kill in result.kills)
