"""Rows are planned by the data's own lengths, where these are known; what is typed wins."""

import os
import re
from dataclasses import replace

import pytest
from support.command_line import CONFIGS

from data_modules import PreferenceDataModule, SyntheticDataModule
from data_modules.records import write_pairs
from lit_longpo.planning.command import PlanCLI, configuration_of
from lit_longpo.planning.conflicts import conflicts
from lit_longpo.planning.memory import Memory, States

COUNTS = (70, 300, 150, 80)  # words of the contexts


@pytest.fixture
def path(tmp_path):
    made = (SyntheticDataModule(num_train=1, seed=n, long_words=(n, n)).pairs("train")[0] for n in COUNTS)
    pairs = [replace(pair, id=f"p{number}") for number, pair in enumerate(made)]
    write_pairs(tmp_path / "pairs.jsonl", pairs)
    return tmp_path / "pairs.jsonl"


def planned(path, *more):
    words = ("--config", CONFIGS / "dpo.yaml", "--data", "PreferenceDataModule", "--data.path", path, *more)
    return configuration_of(PlanCLI(args=[str(word) for word in words]).config)


def trained(run, path, **options):
    """What `fit` would make of the file."""
    given = {"views": run.objective.views, "prompt_format": run.policy.prompt_format(), **options}
    data = PreferenceDataModule(str(path), val_fraction=0.0, max_tokens=8192, **given)
    data.setup("fit")
    return data._encoded["train"].lengths


def test_a_row_holds_no_more_than_the_largest_pairs_of_the_file(path):
    run = planned(path)
    lengths = trained(run, path)
    assert run.lengths_from == f"the largest of 4 pairs in {path}"
    assert run.row().num_examples == len(COUNTS)
    assert planned(path, "--data.max_examples", 1).row().num_tokens == max(lengths)
    assert sum(lengths) <= run.row().num_tokens <= 4 * max(lengths)
    assert run.row().response_tokens == run.longest.response < 10


def test_what_is_typed_wins(path):
    typed = planned(path, "--row_tokens", 512, "--response_tokens", 17)
    assert (typed.lengths_from, typed.row().num_tokens, typed.row().response_tokens) == ("--row_tokens", 512, 17)


def test_tokens_on_disk_are_asked_before_the_file(path, tmp_path):
    folder = tmp_path / "tokens"
    before = planned(path, "--data.token_cache", folder)
    assert not folder.exists()  # nothing is written for a plan
    trained(before, path, token_cache=str(folder))
    after = planned(path, "--data.token_cache", folder, "--data.val_fraction", 0)
    assert after.lengths_from.startswith("the longest of 4 examples in")
    assert after.longest.prompt == before.longest.prompt


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"question": 3}\n', r"the data cannot be read \(.*pairs.jsonl:1: "),
        (None, "those of PreferenceDataModule are not known before they are tokenised"),
    ],
)
def test_without_lengths_a_whole_row_is_planned_and_said(text, said, path):
    path.write_text(text) if text else path.unlink()
    run = planned(path)
    assert run.row().num_tokens == run.data.max_tokens
    assert re.search(said, run.lengths_from)


def test_a_pair_that_no_row_holds_is_said(path):
    run = planned(path, "--data.max_tokens", 50)
    [warning] = [text for text in conflicts(run, run.policy.config()) if "`fit` stops at it" in text]
    assert f"the largest of 4 pairs in {path}" in warning


def test_memory_without_a_gpu_is_this_machines(path):
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    for more, expected in ((), whole), (("--trainer.devices", 2), whole / 2), (("--device_memory_gib", 3), 3):
        run = planned(path, "--trainer.accelerator", "cpu", *more)
        assert run.device_memory_gib == pytest.approx(expected)
    gpu = planned(path, "--trainer.accelerator", "gpu")
    assert (gpu.device_memory_gib, "assumed" in gpu.device_memory_from) == (80, True)


def test_a_plan_leaves_a_device_some_room(path):
    """A row that was planned to take all of 78 GiB ran out of it on an H200 (RESULTS.md)."""
    run = planned(path, "--device_memory_gib", 100)
    taken = [States(peak, 0, 0, 0, 0) for peak in (95 * 2**30, 96 * 2**30)]
    assert [run.has_room(Memory(states, 0, {"step": states.parameters}, 0, 0)) for states in taken] == [True, False]
