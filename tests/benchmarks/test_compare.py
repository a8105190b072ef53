"""The harness runs and compares like with like; nothing is timed here."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("compare.py")
SMALL = ["--prompt", "40", "--answers", "5", "3", "--layers", "1", "--hidden", "32", "--vocab", "96", "--steps", "1"]


def test_both_sides_give_the_same_loss_and_a_table(tmp_path):
    command = [sys.executable, str(SCRIPT), "--rounds", "1", "--out", str(tmp_path), "--", *SMALL]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    assert "ours / padded: time" in done.stdout
    assert (tmp_path / "compare.json").is_file()
    assert "| ours |" in (tmp_path / "compare.md").read_text()
