"""Policy and reference are one model at step 0, whatever the precision, or the combination is refused."""

import math

import pytest
import torch
from support.parallel_worker import DEVICES, train
from support.preference_data import RandomPairs
from support.ranks import run_ranks
from support.zero3 import needs_deepspeed

from lit_longpo.checkpoints import ResumableTrainer
from lit_longpo.objectives import DPO
from lit_longpo.optimization import FusedAdamW
from lit_longpo.policy import LoRA, PolicyConfig
from lit_longpo.training.precision import precision_problem, trained_dtype

ZERO = ("zero2", "zero3")
SLOW = [
    pytest.param("ddp", marks=pytest.mark.slow),
    pytest.param("zero2", marks=[needs_deepspeed, pytest.mark.slow]),
]


@pytest.mark.parametrize(
    ("dtype", "precision", "deepspeed"),
    [
        ("float32", "32-true", False),
        ("float32", "32-true", True),
        ("bfloat16", "32-true", False),
        ("bfloat16", "bf16-true", True),
        ("float16", "16-true", True),
        ("float32", "bf16-mixed", False),
    ],
)
def test_agreement_is_no_problem(dtype, precision, deepspeed):
    assert precision_problem(dtype, precision, deepspeed=deepspeed) is None


@pytest.mark.parametrize(
    ("dtype", "precision", "deepspeed", "typed"),
    [
        ("bfloat16", "32-true", True, "type --trainer.precision bf16-true"),
        ("float32", "bf16-true", False, "type --policy.dtype bfloat16"),
        ("float32", "bf16-true", True, "type --policy.dtype bfloat16"),
        ("bfloat16", "16-true", True, "type --policy.dtype float16"),
        ("float32", "bf16-mixed", True, "type --trainer.precision bf16-true --policy.dtype bfloat16"),
        ("float32", "64-true", False, "one of 32-true"),
        ("float16", "16-mixed", False, "type --policy.dtype float32, or train adapters"),
        ("bfloat16", "16-mixed", False, "type --policy.dtype float32, or train adapters"),  # a GPU's scaler has no bf16
    ],
)
def test_disagreement_says_what_to_type(dtype, precision, deepspeed, typed):
    assert typed in str(precision_problem(dtype, precision, deepspeed=deepspeed))


@pytest.mark.parametrize(
    ("precision", "weights", "typed"),
    [
        ("16-true", True, "type --policy.dtype float32 --trainer.precision 16-mixed"),
        ("32-true", True, "type --policy.dtype float32 --trainer.precision 16-mixed"),
        ("16-true", False, "type --trainer.precision 32-true"),
    ],
)
def test_nothing_is_trained_in_fp16_without_master_copies(precision, weights, typed):
    """Adam's squares of gradients are zero there."""
    assert typed in str(precision_problem("float16", precision, deepspeed=False, trains_weights=weights))
    assert precision_problem("float16", precision, deepspeed=False, trains_weights=weights, trains=False) is None


def test_adam_in_fp16_is_what_the_refusal_says():
    """The same gradients in three precisions: in fp16 the weights move a hundred times as far."""
    moved = {}
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        torch.manual_seed(0)
        weights = torch.nn.Parameter(torch.zeros(500, dtype=dtype))
        optimizer = FusedAdamW([weights], lr=1e-4)
        for _ in range(100):
            weights.grad = (1e-4 * torch.randn(500)).to(dtype)
            optimizer.step()
        moved[dtype] = weights.detach().double().square().mean().sqrt().item()
    assert moved[torch.bfloat16] == pytest.approx(moved[torch.float32], rel=0.01)
    assert moved[torch.float16] > 50 * moved[torch.float32]


@pytest.mark.parametrize(
    ("precision", "lora", "expected"),
    [
        ("32-true", None, "bfloat16"),
        ("bf16-true", LoRA(r=2), "bfloat16"),
        ("32-true", LoRA(r=2, also_train=["norm"]), "bfloat16"),
        ("32-true", LoRA(r=2), "float32"),
    ],
)
def test_what_is_trained_in_half_precision_is_known(precision, lora, expected, policy_folder, tmp_path):
    """Measured: the lowest precision of what the optimizer holds."""
    assert trained_dtype("bfloat16", precision, lora) == expected
    module = DPO(policy=PolicyConfig(source=str(policy_folder), dtype="bfloat16", lora=lora))
    options = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "limit_val_batches": 0}
    trainer = ResumableTrainer(
        max_steps=1, accelerator="cpu", devices=1, precision=precision, default_root_dir=tmp_path, **options,
        use_distributed_sampler=False, enable_checkpointing=False,
    )  # fmt: skip
    trainer.fit(module, datamodule=RandomPairs(module.views))
    held = {parameter.dtype for group in trainer.optimizers[0].param_groups for parameter in group["params"]}
    assert min(held, key=lambda dtype: dtype.itemsize) == getattr(torch, expected)


def test_adapters_of_half_weights_have_gradients_that_a_scale_can_be_taken_from():
    assert precision_problem("float16", "16-mixed", deepspeed=False, trains_weights=False) is None


@pytest.mark.parametrize(
    "strategy",
    ["single", pytest.param("fsdp2", marks=pytest.mark.slow), pytest.param("zero3", marks=needs_deepspeed), *SLOW],
)
def test_half_precision_starts_at_the_reference(strategy, policy_folder, tmp_path):
    """SoLoPO on DPO: its first term is log 2 where policy and reference are one, its second nothing."""
    precisions = [("bfloat16", "bf16-true"), *([("float32", "bf16-mixed")] if strategy not in ZERO else [])]
    for dtype, precision in precisions:
        out = tmp_path / precision
        task = (strategy, "solopo", str(policy_folder), out, dtype, precision)
        run_ranks(train, *task, num_ranks=DEVICES.get(strategy, 2))
        found = torch.load(f"{out}.solopo", weights_only=True)
        expected = math.log(2)
        assert found["losses"][0] == pytest.approx(expected, rel=1e-3), precision
        assert found["metrics"][0]["train/rewards/margins"] == pytest.approx(0.0, abs=1e-3)


def test_another_precision_than_the_weights_is_refused_before_loading(tmp_path):
    with pytest.raises(AssertionError, match=r"type --policy.dtype bfloat16"):
        run_ranks(train, "single", "solopo", str(tmp_path), tmp_path / "x", "float32", "bf16-true", num_ranks=1)
