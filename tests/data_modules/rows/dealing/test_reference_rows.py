"""The reference's pass: every example once, in rows of its own length, with the values of short rows."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from support.command_line import CONFIGS
from support.ranks import run_command
from support.tiny_models import tiny_model
from support.word_pairs import FORMAT, VIEWS, pair

from data_modules.base import PairDataModule
from data_modules.rows.dealing.bundles import Bundle
from data_modules.rows.dealing.reference_rows import fullest_row, reference_rows
from data_modules.rows.encoding import PairEncoder
from data_modules.rows.stores.kept_examples import KeptExamples
from data_modules.rows.stores.token_store import TokenStore
from data_modules.rows.truncation import LengthPolicy, SplitLengths
from lit_longpo.objectives import DPO
from lit_longpo.policy import ReferenceConfig
from lit_longpo.policy.reference.cache import ReferenceCache, fill_cache
from lit_longpo.policy.reference.reference import reference_mode

ALONE = {"num_replicas": 1, "rank": 0}


def store(name: str, count: int = 12) -> TokenStore:
    encoder = PairEncoder(FORMAT, VIEWS[name], LengthPolicy())
    return TokenStore.of(encoder.encode(pair(number, long=10 + number % 5), SplitLengths()) for number in range(count))


@pytest.mark.parametrize("name", [name for name, views in VIEWS.items() if views.reference])
def test_rows_are_cut_by_what_the_reference_reads(name: str) -> None:
    examples = store(name)
    read = [sum(group.num_tokens for group in example.reference) for example in examples]
    assert examples.reference_lengths.tolist() == read
    kept = KeptExamples(examples, np.array([1, 4]))
    assert kept.reference_lengths.tolist() == [read[1], read[4]]
    rows = list(reference_rows([examples, kept], ALONE, 100))
    names = [name for row in rows for name in row.examples]
    assert names == [f"r{number}" for number in (*range(12), 1, 4)]
    assert max(row.num_tokens for row in rows) <= 100
    assert all(row.num_tokens + min(read) > 100 - (max(read) - min(read)) for row in rows[:-2])


def test_a_stated_budget_that_is_too_small_is_refused_and_a_derived_one_gives_way() -> None:
    examples = store("dpo", 3)
    longest = int(examples.reference_lengths.max())
    with pytest.raises(ValueError, match=rf"got 5 tokens for one of {longest}; type --reference.max_tokens {longest}"):
        next(reference_rows([examples], ALONE, 5, stated=True))
    assert [row.num_tokens for row in reference_rows([examples], ALONE, 5)] == examples.reference_lengths.tolist()


def test_the_fullest_row_is_what_examples_can_fill() -> None:
    examples = store("dpo")
    two = sum(sorted(examples.lengths.tolist())[-2:])
    assert fullest_row([examples], 10**6, 2) == two
    assert fullest_row([examples], 10**6, None) == examples.lengths.sum()
    assert fullest_row([examples], two - 1, 2) == two - 1


class Pairs(PairDataModule):
    def pairs(self, split: str):
        return [pair(number, long=10 + number % 5) for number in range(12 if split == "train" else 0)]


def test_examples_that_share_a_document_stay_together() -> None:
    examples, bundles = store("longpo", 4), [Bundle((0, 3), 50), Bundle((1,), 30), Bundle((2,), 30)]
    rows = list(reference_rows([examples], ALONE, 85, bundles=[bundles]))
    assert [row.examples for row in rows] == [("r0", "r3", "r1"), ("r2",)]
    with pytest.raises(ValueError, match=r"type --reference\.max_tokens 50"):
        next(reference_rows([examples], ALONE, 40, stated=True, bundles=[bundles]))


@pytest.mark.parametrize(("stated", "most"), [("auto", 2), (1000, None)])
def test_the_pass_of_a_run_has_its_own_budget(stated, most) -> None:
    """One example to a row of training; the untouched policy has 2 layers, so two rows' length are in one."""
    data = Pairs(views=DPO().views, prompt_format=FORMAT, max_tokens=10**6, max_examples=1)
    data.setup("fit")
    module = DPO(reference=ReferenceConfig(max_tokens=stated))
    module.reference.remember(tiny_model("Llama"), module.views)
    data.trainer = SimpleNamespace(lightning_module=module, distributed_sampler_kwargs=None)
    rows = list(data.reference_dataloader())
    longest = int(data._encoded["train"].lengths.max())
    assert sum(len(row.examples) for row in rows) == 12
    if most is None:
        assert len(rows) == 1
    else:
        assert max(row.num_tokens for row in rows) <= most * longest
        assert len(rows) == 6


def test_values_are_those_of_short_rows(tmp_path: Path) -> None:
    model, caches = tiny_model("Qwen2"), [ReferenceCache(tmp_path / name) for name in ("short", "long")]
    examples = store("longpo")
    short, long = (list(reference_rows([examples], ALONE, tokens)) for tokens in (1, 10**6))
    assert (len(short), len(long)) == (12, 1)
    for cache, rows in zip(caches, (short, long), strict=True):
        fill_cache(cache, lambda: reference_mode(model), rows, torch.device("cpu"))
    for row in (*short, *long):
        torch.testing.assert_close(caches[1].scores(row).sums, caches[0].scores(row).sums, rtol=1e-6, atol=1e-6)


def values(folder: Path) -> dict[str, float]:
    [path] = folder.rglob("*.safetensors")
    tensors = load_file(path)
    return dict(zip(map(bytes, tensors["keys"].numpy()), tensors["log_probs"].tolist(), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "ulysses", "zero3"])
def test_ranks_store_what_one_process_does(strategy: str, tmp_path: Path) -> None:
    few = {"num_train": 12, "num_val": 4, "num_test": 4, "long_words": "[64,96]", "short_words": 16, "max_examples": 1}
    common = ["--config", CONFIGS / "dpo.yaml", "--trainer.max_steps", 1, "--trainer.callbacks", "[]"]
    common += [word for name, value in few.items() for word in (f"--data.{name}", value)]
    common += ["--trainer.limit_val_batches", 0, "--trainer.accelerator", "cpu", "--policy.dtype", "float32"]
    deepspeed = ["--trainer.strategy", "AnyDeviceDeepSpeedStrategy", "--trainer.strategy.stage"]
    ulysses, zero3 = [*deepspeed, 2, "--trainer.strategy.sequence_parallel", 2], [*deepspeed, 3]
    own = {"ddp": ["--trainer.strategy", "ddp"], "ulysses": ulysses, "zero3": zero3}[strategy]
    short = ["--reference.max_tokens", 400, "--trainer.default_root_dir", tmp_path / "one"]
    run_command("fit", *common, *short, "--trainer.devices", 1)
    more = ["--trainer.default_root_dir", tmp_path / "two", "--trainer.devices", 2]
    run_command("fit", *common, *own, *more, num_ranks=2)
    expected, got = values(tmp_path / "one"), values(tmp_path / "two")
    assert expected.keys() == got.keys()
    assert len(got) == 32
    assert [got[key] for key in expected] == pytest.approx(list(expected.values()), rel=2e-6)
