"""What our DeepSpeed strategy sets and refuses, in one process; `test_parity.py` trains with it."""

import json
import os
import shutil
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.accelerators import CPUAccelerator, CUDAAccelerator
from lightning.pytorch.strategies import DDPStrategy, DeepSpeedStrategy
from safetensors.torch import load_file
from support import parallel_worker, resume_worker, small_fit
from support.families import twin
from support.preference_data import RaggedPairs
from support.ranks import run_ranks
from support.tiny_hybrids import tiny_hybrid
from support.word_tokenizer import word_tokenizer

from lit_longpo.checkpoints import read_weights
from lit_longpo.checkpoints.reading import fill_policy
from lit_longpo.errors import InputError, MissingPackageError
from lit_longpo.objectives import SoLoPO
from lit_longpo.optimization import FusedAdamW, Optimization
from lit_longpo.optimization.state_bytes import optimizer_bytes
from lit_longpo.planning.inputs.sharding import read_sharding
from lit_longpo.policy import LoRA, PolicyConfig
from lit_longpo.strategies import AnyDeviceDeepSpeedStrategy
from lit_longpo.strategies.sharding import optimizer_device

pytest.importorskip("deepspeed", reason='needs pip install "lit_longpo[deepspeed]"')


@pytest.fixture
def accelerators(monkeypatch):
    """DeepSpeed's accelerator module on a machine where it would take a GPU; as it was afterwards."""
    from deepspeed.accelerator import real_accelerator
    from deepspeed.accelerator.cuda_accelerator import CUDA_Accelerator

    monkeypatch.setattr(real_accelerator, "ds_accelerator", CUDA_Accelerator())
    return real_accelerator


@pytest.mark.parametrize(("accelerator", "device"), [(CPUAccelerator, "cpu"), (CUDAAccelerator, "cuda")])
def test_deepspeed_uses_the_trainers_device(accelerator, device, accelerators, monkeypatch):
    monkeypatch.setattr(DDPStrategy, "setup_environment", lambda strategy: None)
    strategy = AnyDeviceDeepSpeedStrategy(accelerator=accelerator())
    monkeypatch.setattr(AnyDeviceDeepSpeedStrategy, "world_size", 1)
    monkeypatch.setattr(AnyDeviceDeepSpeedStrategy, "root_device", None)
    strategy.setup_environment()
    assert accelerators.get_accelerator().device_name() == device


def test_clipping_that_does_not_reach_deepspeed_is_an_error(monkeypatch):
    monkeypatch.setattr(DeepSpeedStrategy, "setup", lambda strategy, trainer: None)
    strategy = AnyDeviceDeepSpeedStrategy()
    strategy.model = SimpleNamespace(gradient_clipping=lambda: 1.0)
    with pytest.raises(ValueError, match=r"clip gradients at 0.5 .* got 1.0; remove `gradient_clipping`"):
        strategy.setup(SimpleNamespace(gradient_clip_val=0.5, optimizers=[object()]))
    strategy.setup(SimpleNamespace(gradient_clip_val=1.0, optimizers=[object()]))
    strategy.setup(SimpleNamespace(gradient_clip_val=0.5, optimizers=[]))  # nothing is trained


class Engine:
    """Halves the loss scale in every step, as after an overflow in fp16."""

    def __init__(self, loss_scale):
        self.optimizer, self.scales = SimpleNamespace(loss_scale=loss_scale), []

    def step(self, *_, **__):
        self.scales.append(self.optimizer.loss_scale)
        self.optimizer.loss_scale /= 2


def test_gradients_are_multiplied_by_the_loss_scale_of_one_step(monkeypatch):
    monkeypatch.setattr(DDPStrategy, "optimizer_step", lambda strategy, *_, **__: strategy.deepspeed_engine.step())
    strategy = AnyDeviceDeepSpeedStrategy()
    strategy.model = engine = Engine(1024.0)
    strategy.multiply_next_gradients(4.0)  # what is divided by a quarter
    strategy.optimizer_step(None, None)
    strategy.optimizer_step(None, None)
    assert (engine.scales, engine.optimizer.loss_scale) == ([256.0, 512.0], 256.0)


def test_an_optimizer_that_divides_by_nothing_is_refused():
    strategy = AnyDeviceDeepSpeedStrategy()
    strategy.model = SimpleNamespace(optimizer=SimpleNamespace())
    with pytest.raises(
        ValueError, match=r"ZeRO optimizers with `trainer.accumulate_grad_batches`.*remove `data_types`"
    ):
        strategy.multiply_next_gradients(4.0)


def test_a_configuration_of_ones_own_gets_what_packed_rows_need(tmp_path):
    path = tmp_path / "ds.json"
    path.write_text(json.dumps({"zero_optimization": {"stage": 3}}))
    strategy = AnyDeviceDeepSpeedStrategy(config=str(path))
    assert strategy.zero_stage_3
    assert strategy.config["train_micro_batch_size_per_gpu"] == 1
    stated = AnyDeviceDeepSpeedStrategy(config={"zero_optimization": {"stage": 1}, "train_micro_batch_size_per_gpu": 4})
    assert stated.config["train_micro_batch_size_per_gpu"] == 4


@pytest.mark.parametrize(
    ("given", "names"),
    [({"stage": 3}, "`stage`"), ({"offload_optimizer": True, "offload_parameters": True}, "`offload_optimizer` and")],
)
def test_what_a_configuration_would_overrule_is_refused(given, names):
    with pytest.raises(ValueError, match=f"config` to say stage and offloading alone .* got {names}.*; remove"):
        AnyDeviceDeepSpeedStrategy(config={"zero_optimization": {"stage": 2}}, **given)


@pytest.mark.parametrize(
    ("own", "names"),
    [
        ({"optimizer": {"type": "Adam", "params": {"lr": 0.1}}}, "`optimizer`"),
        ({"optimizer": {"type": "Adam"}, "scheduler": {"type": "WarmupLR"}}, "`optimizer` and `scheduler`"),
    ],
)
def test_an_optimizer_in_a_configuration_is_refused(own, names, tmp_path):
    """Lightning would train with it, and never ask for ours."""
    path = tmp_path / "ds.json"
    path.write_text(json.dumps({"zero_optimization": {"stage": 2}, **own}))
    with pytest.raises(InputError, match=f"got {names} in it; remove {names}, and type --optimization.optimizer.lr"):
        AnyDeviceDeepSpeedStrategy(config=str(path))


@pytest.mark.parametrize(
    ("own", "names", "typed"),
    [
        ({"bf16": {"enabled": True}}, "`bf16`", "--trainer.precision bf16-true --policy.dtype bfloat16"),
        ({"fp16": {"enabled": "auto"}, "amp": {"enabled": False}}, "`fp16`", "--trainer.precision 16-true"),
        ({"bf16": {"enabled": False}, "train_batch_size": 8}, "`train_batch_size`", "--data.max_tokens"),
        ({"gradient_accumulation_steps": 4}, "`gradient_accumulation_steps`", "--trainer.accumulate_grad_batches"),
        ({"gradient_clipping": "auto"}, "`gradient_clipping`", "--trainer.gradient_clip_val"),
    ],
)
def test_what_the_trainer_says_is_refused_in_a_configuration(own, names, typed):
    """With `bf16` and `trainer.precision: 32-true` the policy was cast, and no longer its own reference."""
    config = {"zero_optimization": {"stage": 2}, **own}
    told = {"strategy": {"class_path": "AnyDeviceDeepSpeedStrategy", "init_args": {"config": config}}}
    for refused in (partial(AnyDeviceDeepSpeedStrategy, config=config), partial(read_sharding, told, 2, None)):
        with pytest.raises(InputError, match=f"got {names} in it; remove {names}, and type {typed}"):
            refused()


def test_fp16_on_cpus_is_refused_before_anything_is_loaded():
    """It ended in DeepSpeed's ValueError, after the model was loaded."""
    trainer = Trainer(strategy=AnyDeviceDeepSpeedStrategy(stage=2), precision="16-true", accelerator="cpu", devices=1)
    with pytest.raises(InputError, match=r"a GPU with `trainer\.precision: 16-true` under DeepSpeed, got CPUs"):
        trainer.strategy.setup_environment()


@pytest.mark.parametrize("section", [None, {}, {"stage": 0}, {"stage": "auto"}])
def test_a_configuration_that_splits_nothing_is_refused(section):
    """Accumulated rows ended in an error after the first step, which told of `data_types`."""
    config = {"gradient_clipping": 1.0} | ({} if section is None else {"zero_optimization": section})
    with pytest.raises(InputError, match=r"zero_optimization.stage` 1, 2 or 3 .*ddp.yaml"):
        AnyDeviceDeepSpeedStrategy(config=config)


def test_a_deepspeed_that_loses_gradients_is_refused(monkeypatch):
    """0.18.0 gave ZeRO-2 other gradients where rows are accumulated; 0.19.2 passes `test_accumulation.py`."""
    monkeypatch.setattr("lit_longpo.strategies.deepspeed_config.version", lambda name: "0.18.9")
    with pytest.raises(MissingPackageError, match=r"DeepSpeed 0.19.2 or newer, got 0.18.9, .* type: pip install"):
        AnyDeviceDeepSpeedStrategy()


@pytest.mark.parametrize(("offload", "device"), [(True, "cpu"), (False, "cuda")])
def test_offloaded_weights_are_updated_on_the_cpu(offload, device, monkeypatch):
    monkeypatch.setattr(AnyDeviceDeepSpeedStrategy, "root_device", torch.device("cuda", 0))
    assert optimizer_device(AnyDeviceDeepSpeedStrategy(offload_optimizer=offload)) == device


@pytest.mark.slow  # compiles for two minutes, once a machine
@pytest.mark.skipif(shutil.which("c++") is None, reason="needs a compiler")
def test_deepspeeds_own_adamw_updates_as_torchs_and_is_counted():
    from deepspeed.ops.adam import DeepSpeedCPUAdam

    results = []
    for kind in (FusedAdamW, DeepSpeedCPUAdam):
        draw = torch.Generator().manual_seed(0)
        weights = [torch.nn.Parameter(torch.randn(shape, generator=draw)) for shape in [(40, 30), (40,)]]
        optimization = Optimization(partial(kind, lr=0.01, betas=(0.9, 0.999), weight_decay=0.1), "constant", 0.0)
        optimizer, _ = optimization.build(weights, 1)
        for _ in range(10):
            for parameter in weights:
                parameter.grad = torch.randn(parameter.shape, generator=draw)
            optimizer.step()
        results.append(weights)
    for expected, actual in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected, rtol=2e-6, atol=2e-6)
    assert optimizer_bytes(DeepSpeedCPUAdam, torch.float32).states == 8


def without_a_compiler(model, folder):
    """As a build that was killed once leaves its lock behind."""
    os.environ |= {"PATH": "", "CC": "", "CXX": "", "TORCH_EXTENSIONS_DIR": str(folder)}
    for name in ("cpu_adam", "deepspeed_shm_comm", "utils"):
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "lock").touch()
    parallel_worker.train("zero3_offload", "solopo", model, folder / "result")
    assert sorted(path.name for path in folder.iterdir() if path.is_dir() and list(path.glob("*.so"))) == []


@pytest.mark.slow
def test_nothing_is_compiled_on_a_cpu(policy_folder, tmp_path):
    run_ranks(without_a_compiler, str(policy_folder), tmp_path)
    assert len(torch.load(tmp_path / "result.solopo", weights_only=True)["losses"]) == parallel_worker.STEPS


class Watched(SoLoPO):
    """Looks at its parameters as soon as it has loaded them."""

    def configure_model(self):
        loads = not self.is_built
        super().configure_model()
        if loads:
            base = [p for name, p in self.model.named_parameters() if "lora_" not in name]
            assert all(p.numel() == 0 and p.ds_tensor.numel() <= -(-p.ds_numel // 2) for p in base)
            print(f"looked at {len(base)} parameters")  # noqa: T201


def load_in_parts(folder, weights, lora):
    policy = PolicyConfig(weights=weights, lora=lora, template=resume_worker.TEMPLATE)
    module, data = resume_worker.parts(policy, "zero3", Watched)
    resume_worker.trainer_for("zero3", folder, steps=1).fit(module, datamodule=data)


@pytest.mark.parametrize(
    ("weights", "lora"),
    [
        pytest.param("pretrained", None, id="pretrained-full", marks=pytest.mark.slow),
        pytest.param("pretrained", LoRA(r=2), id="pretrained-adapters", marks=pytest.mark.slow),
        pytest.param("random", None, id="random-full"),
        pytest.param("random", LoRA(r=2), id="random-adapters", marks=pytest.mark.slow),
    ],
)
def test_zero3_never_holds_the_whole_model_on_a_device(weights, lora, tmp_path):
    assert run_ranks(load_in_parts, tmp_path, weights, lora).count("looked at 28 parameters") == 2


def test_models_beside_the_policy_are_loaded_whole():
    from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled, unset_hf_deepspeed_config

    strategy = AnyDeviceDeepSpeedStrategy(stage=3)
    try:
        strategy.shard_while_loading()
        with strategy.whole_loading():
            assert not is_deepspeed_zero3_enabled()
        assert is_deepspeed_zero3_enabled()
    finally:
        unset_hf_deepspeed_config()


@pytest.mark.slow
def test_weights_are_gathered_once_for_all_tiles(policy_folder, tmp_path):
    """As parts of a layer; before, DeepSpeed gathered and freed each linear map, and that of its own accord."""
    run_ranks(parallel_worker.train_counting_gathers, str(policy_folder), tmp_path / "counts.pt")
    counts = torch.load(tmp_path / "counts.pt", weights_only=True)
    assert 0 < counts["5"] <= counts["None"]


@pytest.mark.slow
def test_tiles_whose_input_needs_no_gradient_train_their_adapters(policy_folder, tmp_path):
    gradients = []
    for strategy, ranks in (("single", 1), ("zero3", 2)):
        out = tmp_path / strategy
        run_ranks(parallel_worker.train_first_mlp, strategy, str(policy_folder), out, num_ranks=ranks)
        found = torch.load(f"{out}.longpo", weights_only=True)["gradients"]
        gradients.append({name: value for name, value in found.items() if "lora_B" in name})
    assert len(gradients[0]) == 3
    for name, expected in gradients[0].items():
        assert expected.abs().max() > 1e-4
        torch.testing.assert_close(gradients[1][name], expected, rtol=1e-4, atol=1e-7)


@pytest.mark.slow
def test_adapters_start_and_train_as_in_one_process_where_a_class_draws_while_it_is_read(tmp_path):
    """Qwen3-Next: of one seed, ZeRO-3 drew other adapters, and so had other gradients from the first step on."""
    tiny_hybrid("Qwen3Next").save_pretrained(tmp_path / "policy")
    word_tokenizer().save_pretrained(tmp_path / "policy")
    runs = []
    for strategy, ranks in (("single", 1), ("zero3", 2)):
        arguments = (strategy, "solopo", str(tmp_path / "policy"), tmp_path / strategy)
        run_ranks(parallel_worker.train, *arguments, "float32", "32-true", None, LoRA(r=2), num_ranks=ranks)
        runs.append(torch.load(f"{tmp_path / strategy}.solopo", weights_only=True))
    one, ranks = runs
    largest = max(gradient.abs().max() for gradient in one["gradients"].values())
    assert largest > 1e-3
    for name, gradient in one["gradients"].items():
        assert (ranks["gradients"][name] - gradient).abs().max() < 1e-5 * largest, name
    assert ranks["losses"] == pytest.approx(one["losses"], rel=1e-4)


@pytest.mark.slow
def test_layers_whose_attention_is_kept_are_recomputed_after_a_resume(policy_folder, tmp_path):
    """DeepSpeed gathers small weights behind a load: forward had them, and torch refused to gather them again."""
    policy = PolicyConfig(source=str(policy_folder), lora=LoRA(r=2), gradient_checkpointing="keep_attention")
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    run_ranks(small_fit.fit, policy, whole, 4, "zero3 as it is")
    run_ranks(small_fit.fit, policy, resumed, 4, "zero3 as it is", whole / "step=2.ckpt")
    expected, found = (load_file(folder / "model/adapter_model.safetensors") for folder in (whole, resumed))
    assert expected.keys() == found.keys()
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight, rtol=0.0, atol=1e-6)


@pytest.mark.slow
def test_layers_whose_attention_is_kept_are_recomputed_where_rows_call_them_otherwise_often(tmp_path):
    """DeepSpeed notices in a forward pass that its trace is void, and frees small weights that pass has found there."""
    twin("StableLm").save_pretrained(tmp_path / "policy")  # goes one sequence at a time
    word_tokenizer().save_pretrained(tmp_path / "policy")
    policy = PolicyConfig(source=str(tmp_path / "policy"), gradient_checkpointing="keep_attention")
    arguments = (None, torch.optim.SGD, RaggedPairs)
    small_fit.fit(policy, tmp_path / "one", 5, "one", *arguments)
    run_ranks(small_fit.fit, policy, tmp_path / "ranks", 5, "zero3 as it is", *arguments)
    start, expected, found = (
        load_file(tmp_path / folder / "model.safetensors") for folder in ("policy", "one/model", "ranks/model")
    )
    assert any(not torch.equal(start[name], weight) for name, weight in expected.items())
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight, rtol=0.0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["zero1", "zero2"])
def test_adapters_over_4_bit_weights_come_back_without_those_weights_scales(strategy, policy_folder, tmp_path):
    policy = PolicyConfig(source=str(policy_folder), quantization="4bit", dtype="float32", lora=LoRA(r=2, alpha=4))
    run_ranks(small_fit.fit, policy, tmp_path, 2, strategy)
    weights, model = read_weights(tmp_path / "step=2.ckpt"), policy.load()
    fill_policy(model, weights, tmp_path, "", everything=False)
    trained = load_file(tmp_path / "model/adapter_model.safetensors")
    held = {name.replace(".default", ""): tensor for name, tensor in model.state_dict().items()}
    assert trained
    for name, tensor in trained.items():
        assert torch.equal(held[name], tensor), name


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["zero1", "zero2", "zero3"])
def test_frozen_weights_that_nobody_finds_again_are_in_the_checkpoint(strategy, policy_folder, tmp_path):
    """Random ones: a checkpoint without them could not be exported, and went on with those of another seed.

    DeepSpeed's reader passes over those of ZeRO-1 (DeepSpeed#5439).
    """
    policy = PolicyConfig(source=str(policy_folder), weights="random", freeze=["embed_tokens"])
    run_ranks(small_fit.fit, policy, tmp_path, 2, strategy)
    held, trained = read_weights(tmp_path / "step=2.ckpt"), load_file(tmp_path / "model/model.safetensors")
    for name, weight in trained.items():
        assert torch.equal(held[name], weight), name
