"""States in 8 bits against bitsandbytes and torch alone, their bytes, and what is refused before a model is loaded."""

import importlib.util
import re
from functools import partial

import pytest
import torch
import yaml
from lightning.pytorch import Trainer
from support import small_fit
from support.command_line import CONFIGS, build
from support.preference_data import RandomPairs
from support.ranks import run_ranks
from support.tiny_models import tiny_config, tiny_model
from support.word_tokenizer import word_tokenizer
from torch import nn
from torch.utils._pytree import tree_leaves

from lit_longpo.checkpoints.unpickling import code_in
from lit_longpo.cli import LongPOCLI
from lit_longpo.errors import MissingPackageError
from lit_longpo.objectives import ORPO
from lit_longpo.optimization import FusedAdamW, Optimization, quantized
from lit_longpo.optimization.quantized import QuantizedAdamW, _page_again, in_words, state_bits
from lit_longpo.planning.inputs.sharding import Sharding
from lit_longpo.planning.memory import states
from lit_longpo.planning.sizes import count
from lit_longpo.planning.tracing.model import ModelPlan
from lit_longpo.policy import PolicyConfig
from lit_longpo.strategies import AnyDeviceDeepSpeedStrategy

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason='needs pip install "lit_longpo[quantized]"'
)
WIDE = {"hidden_size": 64, "intermediate_size": 80}  # 96 x 64 embeddings; MLPs of 5,120 numbers, attention of 4,096


def built(optimizer, parameters, embeddings=()):
    return Optimization(optimizer, "constant", 0.0).build(parameters, 1, embeddings)[0]


def after_steps(optimizer, parameters, steps=3):
    for step in range(steps):
        for parameter in parameters:
            parameter.grad = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(step))
        optimizer.step()
    return [parameter.detach().clone() for parameter in parameters]


def weights():
    draw = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=draw)) for shape in [(96, 64), (80, 64), (64,)]]


@pytest.mark.parametrize("own", [True, False])
def test_matrices_train_as_in_bitsandbytes_and_embeddings_and_vectors_as_in_torch(own):
    import bitsandbytes

    kind = QuantizedAdamW if own else partial(bitsandbytes.optim.AdamW8bit, weight_decay=0.0)
    for _ in range(2):  # a second one of the same process has nothing of the first one's
        ours = weights()
        embedding, matrix, vector = after_steps(built(partial(kind, lr=0.01), ours, ours[:1]), ours)
    theirs = weights()
    alone = after_steps(bitsandbytes.optim.AdamW8bit(theirs[1:2], lr=0.01, weight_decay=0.0), theirs[1:2])
    exact = weights()
    expected = after_steps(torch.optim.AdamW(exact, lr=0.01, weight_decay=0.0), exact)
    torch.testing.assert_close([embedding, vector], [expected[0], expected[2]], rtol=1e-5, atol=1e-6)
    assert torch.equal(matrix, alone[0])
    assert (matrix - expected[1]).abs().max() > 1e-4


def test_an_override_of_one_model_is_none_of_the_next():
    first, second = weights(), weights()
    built(QuantizedAdamW, first, first[:2])
    assert state_bits(built(QuantizedAdamW, second, second[:1])) == {8: 80 * 64, 32: 96 * 64 + 64}


@pytest.fixture(scope="module")
def wide_policy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wide")
    tiny_model("Llama", **WIDE).save_pretrained(folder)
    word_tokenizer().save_pretrained(folder)
    return PolicyConfig(source=str(folder))


def test_a_resumed_run_has_the_weights_and_8_bit_states_of_an_uninterrupted_one(wide_policy, tmp_path, caplog):
    caplog.set_level("INFO")
    fit = partial(small_fit.fit, wide_policy, optimizer=QuantizedAdamW)
    whole = fit(tmp_path / "whole", 4)
    checkpoint = tmp_path / "whole" / "step=2.ckpt"
    assert code_in(checkpoint) is None
    resumed = fit(tmp_path / "resumed", 4, resume=checkpoint)
    for expected, actual in zip(whole.optimizers[0].state.values(), resumed.optimizers[0].state.values(), strict=True):
        assert list(expected) == list(actual)
        torch.testing.assert_close(actual, expected, rtol=0, atol=0)
    for expected, actual in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(actual, expected)
    dtypes = {state["state1"].dtype for state in whole.optimizers[0].state.values()}
    assert dtypes == {torch.uint8, torch.float32}
    bits = state_bits(whole.optimizers[0])
    assert bits[8] == 96 * 64 + 2 * (2 * 64 * 64 + 3 * 80 * 64)  # head and layers; maps of keys and values are small
    assert f"AdamW8bit: states of {bits[8]:,} weights in 8 bits and of {bits[32]:,} weights in 32 bits" in caplog.text


def trained_by_ddp(policy, folder):
    small_fit.fit(policy, folder, 2, "ddp", optimizer=QuantizedAdamW)


@pytest.mark.slow
def test_two_ranks_of_ddp_have_the_weights_and_8_bit_states_of_one(wide_policy, tmp_path):
    """Both have the same rows, so their mean gradient is one's own."""
    run_ranks(trained_by_ddp, wide_policy, tmp_path / "two")
    small_fit.fit(wide_policy, tmp_path / "one", 2, optimizer=QuantizedAdamW)
    one, two = (torch.load(tmp_path / name / "step=2.ckpt", weights_only=False) for name in ("one", "two"))
    assert one["state_dict"].keys() == two["state_dict"].keys()
    for name, weight in one["state_dict"].items():
        torch.testing.assert_close(two["state_dict"][name], weight, rtol=0, atol=1e-5, msg=name)  # a step moves by 1e-2
    states = [kept["optimizer_states"][0]["state"] for kept in (one, two)]
    held = [[tensor for tensor in tree_leaves(state) if isinstance(tensor, torch.Tensor)] for state in states]
    assert [tensor.dtype for tensor in held[0]] == [tensor.dtype for tensor in held[1]]
    assert torch.uint8 in {tensor.dtype for tensor in held[0]}
    for one_state, two_state in zip(*held, strict=True):
        if one_state.dtype == torch.uint8:  # a mean of two ranks may round to the neighbouring code
            codes = (one_state.int() - two_state.int()).abs()
            assert codes.max() <= 1
            assert codes.float().mean() < 1e-3
        else:
            torch.testing.assert_close(two_state, one_state, rtol=1e-4, atol=1e-6)


def test_planned_bytes_are_those_that_a_step_makes():
    model = tiny_model("Llama", **WIDE)
    embeddings = [module.weight for module in model.modules() if isinstance(module, nn.Embedding)]
    optimizer = built(QuantizedAdamW, model.parameters(), embeddings)
    after_steps(optimizer, list(model.parameters()), 1)
    tensors = [
        value for state in optimizer.state.values() for name, value in state.items() if name[:4] in ("stat", "absm")
    ]
    tables = 2 * 4 * 256  # which all weights share, and a plan counts for each
    planned = states(count(ModelPlan(tiny_config("Llama", **WIDE), torch.float32)), Sharding(), QuantizedAdamW)
    held, number = sum(tensor.nbytes for tensor in tensors if isinstance(tensor, torch.Tensor)), len(optimizer.state)
    assert held <= planned.optimizer <= held + number * tables
    assert planned.borrowed_in_step == 0


def test_paged_states_are_planned_in_host_memory_and_a_tensor_of_them_on_the_device():
    sizes = count(ModelPlan(tiny_config("Llama", hidden_size=512, intermediate_size=1024), torch.bfloat16))
    paged = partial(QuantizedAdamW, paged=True)
    there, on_cpu = states(sizes, Sharding(), paged), states(sizes, Sharding(), paged, pages=False)
    whole = states(sizes, Sharding(), QuantizedAdamW)
    assert on_cpu.optimizer == pytest.approx(whole.optimizer) == pytest.approx(there.optimizer + there.host)
    assert there.optimizer == 8 * (96 * 512 + 5 * 512) + 2.03125 * 96 * 512  # embeddings, norms, head: below 100,000
    assert there.borrowed_in_step == pytest.approx(2.03125 * 512 * 1024, rel=0.01)


def test_states_that_a_resume_has_moved_to_the_device_are_paged_again_and_small_ones_stay():
    import bitsandbytes

    large, small = (nn.Parameter(torch.empty(size, device="meta")) for size in (100_000, 99_999))
    optimizer = bitsandbytes.optim.PagedAdamW8bit([large, small])
    for parameter in (large, small):
        optimizer.state[parameter] = {"state1": torch.ones(parameter.shape), "step": 3}
    made = []

    def paged(parameter, dtype):
        made.append(torch.zeros(parameter.shape, dtype=dtype))
        made[-1].is_paged = True
        return made[-1]

    optimizer.get_state_buffer = paged
    _page_again(optimizer, (), {})
    _page_again(optimizer, (), {})
    assert optimizer.state[large]["state1"] is made[0]
    assert [tensor.min() for tensor in made] == [1]
    quantized.prepare(optimizer, [])
    saved = optimizer.state_dict()["state"][0]["__bnb_optimizer_quant_state__"]["state1"]
    assert not hasattr(saved, "is_paged")
    assert saved.data_ptr() == made[0].data_ptr()
    assert optimizer.state[large]["state1"].is_paged


@pytest.mark.parametrize("name", ["QuantizedAdamW", "bitsandbytes.optim.AdamW8bit"])
def test_it_is_named_in_a_configuration_by_its_own_name_or_by_that_of_bitsandbytes(name):
    cli = build("--config", CONFIGS / "dpo.yaml", "--optimization.optimizer", name, "--optimization.optimizer.lr=1e-4")
    settings = cli.model.optimization.settings
    assert (settings["optimization.optimizer"], settings["optimization.optimizer.lr"]) == ("AdamW8bit", 1e-4)


def test_a_class_without_types_replaces_ours_on_the_command_line(capsys):
    words = ["fit", "--config", str(CONFIGS / "dpo.yaml"), "--optimization.optimizer", "bitsandbytes.optim.AdamW8bit"]
    with pytest.raises(SystemExit):
        LongPOCLI(args=[*words, "--optimization.optimizer.lr=1e-4", "--print_config"])
    optimizer = yaml.safe_load(capsys.readouterr().out)["optimization"]["optimizer"]
    assert (optimizer["class_path"], optimizer["init_args"]["lr"]) == ("bitsandbytes.optim.AdamW8bit", 1e-4)


def test_a_missing_package_is_said_before_anything_is_loaded(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match=r'type: pip install "lit_longpo\[quantized\]", or --optimization'):
        Optimization(QuantizedAdamW)


@pytest.mark.parametrize(
    ("device", "split", "message"),
    [
        (
            "cuda",
            "ZeRO-2",
            r"expected one device or DDP with AdamW8bit .* got ZeRO-2: .* FusedAdamW, whose states",
        ),
        ("cpu", "FSDP2", r"expected one device or DDP with AdamW8bit of bitsandbytes, got FSDP2"),
        ("mps", None, r"expected a device whose weights bitsandbytes can update for AdamW8bit, got mps, for which"),
        ("cpu", None, None),
        (None, None, None),
    ],
)
def test_where_it_cannot_train(device, split, message):
    problem = Optimization(QuantizedAdamW).placement_problem(device, split)
    assert problem is None if message is None else re.match(message, problem)
    assert Optimization(FusedAdamW).placement_problem(device, split) is None


def test_zero_is_refused_before_the_policy_is_loaded(monkeypatch):
    pytest.importorskip("deepspeed")
    monkeypatch.setattr(PolicyConfig, "load", lambda policy: pytest.fail("loaded"))
    module = ORPO(optimization=Optimization(QuantizedAdamW))
    trainer = Trainer(
        max_steps=1, accelerator="cpu", devices=1, strategy=AnyDeviceDeepSpeedStrategy(stage=2), logger=False,
        enable_checkpointing=False, enable_progress_bar=False,
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"expected one device or DDP with AdamW8bit .* got ZeRO-2"):
        trainer.fit(module, datamodule=RandomPairs(module.views))


def test_its_states_are_said_in_words():
    assert in_words(FusedAdamW(weights())) is None
    parameters = weights()
    optimizer = built(partial(QuantizedAdamW, bits=32, paged=True), parameters)
    assert in_words(optimizer) == "PagedAdamW32bit: states of 11,328 weights in 32 bits, paged"
