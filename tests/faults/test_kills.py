"""Commands that are killed and run again: the campaign of docs/kills, small here, whole with `make kills`."""

import fcntl
import json
import shutil

import pytest
import torch
from kills.campaign import STORED, Result, moments
from kills.cells import cells
from kills.comparing import differences
from kills.table import PAGE, markdown, results
from kills.watching import Event, events
from safetensors.torch import save_file
from support.kill_cells import run_cells
from support.ranks import run_ranks
from support.zero3 import needs_deepspeed


def test_a_killed_build_gives_the_pairs_of_an_undisturbed_one(tmp_path):
    run_cells(["build-solopo"], tmp_path, 1)  # forks this process: generating answers takes no thread
    [result] = results(tmp_path / "stored")
    [kill] = result.kills
    trace = events(tmp_path / "work/build-solopo/logs-killed-0/trace-0.txt")
    assert (trace[-1].phase, trace[-1].what) == (kill["phase"], kill["at"])
    assert (tmp_path / "work/build-solopo/run/pairs.jsonl").stat().st_size


@pytest.mark.slow
@pytest.mark.parametrize(
    "key",
    [
        *("fit-dpo", "fit-dpo-LoRA-online", "fit-dpo-ddp", "fit-dpo-fsdp2", "evaluate-needle", "export-LoRA"),
        pytest.param("fit-dpo-zero3", marks=needs_deepspeed),
    ],
)
def test_a_killed_command_gives_what_an_undisturbed_one_does(key, tmp_path):
    run_ranks(run_cells, [key], tmp_path, 3, num_ranks=1)


# What the campaign sees.


def run_folder(folder, loss=0.5, weight=1.0):
    """Of a training that ended well."""
    version = folder / "lightning_logs/version_0"
    (version / "model").mkdir(parents=True)
    (version / "config.yaml").write_text(f"ckpt_path: null\nroot: {folder.parent}/version_0\n")
    save_file({"w": torch.full((2,), weight)}, version / "model/model.safetensors")
    rows = [{"row": n, "records": [f"r{n}"], "loss": (loss + n).hex()} for n in (1, 2)]
    write_rows(folder, [*rows, {"validation": 2, "val/loss": (0.25).hex()}])
    cache = folder / "reference_cache/model"
    cache.mkdir(parents=True)
    save_reference(cache / "a.safetensors", 1)
    return folder


def write_rows(folder, rows):
    (folder / "rows-0.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def save_reference(path, key, value=-3.0):
    save_file({"keys": torch.tensor([[key, 2]], dtype=torch.uint8), "log_probs": torch.tensor([value])}, path)


def lose_a_row(folder):
    lines = (folder / "rows-0.jsonl").read_text().splitlines()
    write_rows(folder, [json.loads(line) for line in (lines[0], lines[2])])


def repeat_a_row(folder, **changes):
    row = json.loads((folder / "rows-0.jsonl").read_text().splitlines()[1])
    with (folder / "rows-0.jsonl").open("a") as file:
        file.write(json.dumps(row | changes) + "\n")


SEEN = {
    "orphan: lightning_logs/version_0/last.ckpt.partial": lambda folder: (
        folder / "lightning_logs/version_0/last.ckpt.partial"
    ).write_text(""),
    "rows-0.jsonl: row 2 is missing": lose_a_row,
    "rows-0.jsonl: row 3 is one too many": lambda folder: repeat_a_row(folder, row=3),
    "rows-0.jsonl: row 2 is another 1 of 2 times": lambda folder: repeat_a_row(folder, records=["r1"]),
    "reference value 0102 stored 2 times": lambda folder: save_reference(
        folder / "reference_cache/model/b.safetensors", 1
    ),
    "1 reference values are missing or left over": lambda folder: save_reference(
        folder / "reference_cache/model/b.safetensors", 3
    ),
    "1 reference values are others": lambda folder: save_reference(
        folder / "reference_cache/model/a.safetensors", 1, -3.0000002
    ),
    "missing: lightning_logs/version_N/config.yaml": lambda folder: (
        folder / "lightning_logs/version_0/config.yaml"
    ).unlink(),
    "left over: lightning_logs/version_N/more.txt": lambda folder: (
        folder / "lightning_logs/version_0/more.txt"
    ).write_text(""),
    "differs: lightning_logs/version_N/config.yaml": lambda folder: (
        folder / "lightning_logs/version_0/config.yaml"
    ).write_text("seed: 1\n"),
    "differs: lightning_logs/version_N/model/model.safetensors": lambda folder: save_file(
        {"w": torch.tensor([1.0, 1.0 + 2**-23])}, folder / "lightning_logs/version_0/model/model.safetensors"
    ),
}


@pytest.mark.parametrize("seen", SEEN)
def test_every_difference_is_seen(seen, tmp_path):
    clean, found = run_folder(tmp_path / "clean"), run_folder(tmp_path / "found")
    SEEN[seen](found)
    assert seen in differences(clean, found, 0.0)


def test_what_a_resumed_run_may_leave_is_no_difference(tmp_path):
    """A second version that ends as the first would have, a row once more, another folder to go on from."""
    clean, found = run_folder(tmp_path / "clean"), run_folder(tmp_path / "found")
    logs = found / "lightning_logs"
    shutil.copytree(logs / "version_0", logs / "version_1")
    shutil.rmtree(logs / "version_0/model")
    (logs / "version_1/config.yaml").write_text(f"ckpt_path: last\nroot: {found.parent}/version_1\n")
    repeat_a_row(found)
    (logs / "version_0/.running").touch()
    assert differences(clean, found, 0.0) == []
    with (logs / "version_0/.running").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert differences(clean, found, 0.0) == ["held: lightning_logs/version_0/.running"]


def test_two_processes_may_differ_by_the_last_digits(tmp_path):
    clean, found = run_folder(tmp_path / "clean"), run_folder(tmp_path / "found", 0.5 + 1e-8, 1.0 + 2**-23)
    assert len(differences(clean, found, 0.0)) == 3
    assert differences(clean, found, 1e-6) == []


def test_moments_are_seeded_and_come_to_every_phase():
    phases = ["start-up", "training", "checkpoint"]
    trace = [Event(float(n), phases[n // 4], "open") for n in range(12)]
    drawn = moments("cell", [trace], 6)
    assert drawn == moments("cell", [trace], 6) != moments("other", [trace], 6)
    assert drawn[:3] == moments("cell", [trace], 3)
    assert sorted(phase for phase, _ in drawn) == sorted(phases * 2)
    assert all(trace[moment.event].phase == phase for phase, moment in drawn)
    assert all(0.0 <= moment.share < 1.0 and moment.seconds == moment.share for _, moment in drawn[:-1])


def test_the_table_counts_what_came_out_differently():
    machine = {"processor": "P", "cores": 2, "commit": "c"}
    kills = [("training", []), ("training", ["lost"]), ("checkpoint", []), ("none: it had ended", [])]
    result = Result("fit", "dpo", machine, [{"phase": phase, "problems": found} for phase, found in kills])
    text = markdown([result], 30)
    assert "| fit | training | 2 | 1 | 1 |" in text
    assert "| fit | checkpoint | 1 | 1 | 0 |" in text
    assert "3 of 30 planned kills, in 1 cells: fit dpo. P, 2 cores; commit c." in text


def test_the_page_has_the_table_of_what_is_stored():
    planned = 10 * sum(1 for _ in cells())
    assert markdown(results(STORED), planned) in PAGE.read_text()
