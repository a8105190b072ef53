"""4-bit weights against what plain transformers, peft and bitsandbytes compute on the same rows."""

import importlib.util
import json
from dataclasses import asdict, replace
from functools import partial
from types import SimpleNamespace

import pytest
import torch
import yaml
from lightning.pytorch.plugins import HalfPrecision
from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.trainer.states import TrainerFn
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from support.groups import random_groups
from support.mxfp4_files import write_mxfp4
from support.padded_rows import plain_sums
from support.ranks import run_ranks
from support.small_fit import fit, model_of
from support.tiny_models import tiny_model, tiny_vision_model
from support.word_tokenizer import word_tokenizer
from support.zero3 import needs_deepspeed
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from lit_longpo.checkpoints import load_initial_weights
from lit_longpo.checkpoints.record import contradictions
from lit_longpo.checkpoints.resumption import check_settings
from lit_longpo.engine import base_model, check_model, pack, score
from lit_longpo.errors import InputError, MissingPackageError
from lit_longpo.export.command import export_checkpoint
from lit_longpo.files.stored import plain_json
from lit_longpo.objectives import DPO
from lit_longpo.policy import LoRA, PolicyConfig, Quantization
from lit_longpo.policy.adapters.merging import merge_adapters
from lit_longpo.policy.fingerprint import model_fingerprint
from lit_longpo.policy.reference.reference import reference_mode
from lit_longpo.policy.trainable import check_training
from lit_longpo.strategies import AnyDeviceDeepSpeedStrategy

needs_bitsandbytes = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason='needs pip install "lit_longpo[quantized]"'
)
[GROUP] = random_groups([(9, [2, 3])])
ROW = pack([GROUP])
TARGETS = ["q_proj", "down_proj"]
LORA = LoRA(r=4, alpha=8, target_modules=TARGETS)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A tied model: its head must stay whole."""
    folder = tmp_path_factory.mktemp("quantized") / "base"
    tiny_model("Qwen2", tie_word_embeddings=True).save_pretrained(folder)
    word_tokenizer().save_pretrained(folder)
    return folder


def plain(folder, kind="nf4", double=True, storage="uint8"):
    settings = BitsAndBytesConfig(
        bnb_4bit_quant_storage=storage,
        load_in_4bit=True,
        bnb_4bit_quant_type=kind,
        bnb_4bit_use_double_quant=double,
        bnb_4bit_compute_dtype=torch.float32,
    )
    model = AutoModelForCausalLM.from_pretrained(
        folder, quantization_config=settings, dtype=torch.float32, attn_implementation="eager"
    )
    for module in model.modules():  # in fp32, on CPUs with bf16 instructions, too
        module.support_avx512bf16_for_cpu = False
    return model


def policy(folder, **options):
    return PolicyConfig(**{"source": str(folder), "quantization": "4bit", "lora": LORA, **options})


def shaken(model):
    """Adapters that are no longer zero."""
    torch.manual_seed(1)
    for name, parameter in sorted(model.named_parameters()):
        if "lora_" in name:
            parameter.data += 0.1 * torch.randn_like(parameter) - parameter.data * ("lora_A" in name)
    return model


def gradients(model):
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.requires_grad}


@needs_bitsandbytes
@pytest.mark.parametrize(
    ("kind", "double", "checkpointing", "dora"), [("nf4", True, False, False), ("fp4", False, True, True)]
)
def test_values_and_gradients_are_those_of_plain_libraries(kind, double, checkpointing, dora, base):
    config = LoraConfig(r=4, lora_alpha=8, target_modules=TARGETS, use_dora=dora)
    expected = shaken(get_peft_model(plain(base, kind, double), config))
    sums = plain_sums(expected, GROUP)
    (sums * torch.tensor([1.0, -0.5])).sum().backward()
    lora = LoRA(r=4, alpha=8, target_modules=TARGETS, use_dora=dora)
    options = {"quantization": Quantization(kind, double), "lora": lora, "gradient_checkpointing": checkpointing}
    ours = policy(base, **options).load()
    check_model(ours)
    scores = score(shaken(ours), ROW).sums
    torch.testing.assert_close(scores, sums, rtol=1e-5, atol=1e-5)
    (scores * torch.tensor([1.0, -0.5])).sum().backward()
    wanted = gradients(expected)
    assert len(wanted) == 8 + 4 * dora
    for (name, gradient), other in zip(sorted(gradients(ours).items()), sorted(wanted.items()), strict=True):
        torch.testing.assert_close(gradient, other[1], rtol=1e-4, atol=1e-5, msg=name)


@needs_bitsandbytes
def test_weights_stay_as_they_are_on_cpus_with_bf16(base, monkeypatch):
    """bitsandbytes packs them there in the first forward without gradients, and computes in bf16 from then on."""
    monkeypatch.setattr("bitsandbytes.nn.modules.has_avx512bf16", lambda: True)
    model = shaken(policy(base).load())
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    with torch.no_grad():
        found = score(model.eval(), ROW).sums
    assert all(torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())
    torch.testing.assert_close(found, score(model.train(), ROW).sums.detach(), rtol=1e-6, atol=1e-6)


@needs_bitsandbytes
def test_linear_maps_are_in_4_bits_and_nothing_else(base):
    model = policy(base).load()
    in_4_bits = {name for name, parameter in model.named_parameters() if not parameter.is_floating_point()}
    assert len(in_4_bits) == 14
    assert all("_proj" in name for name in in_4_bits)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert all("lora_" in name for name in trained)
    plain_head = base_model(model).get_output_embeddings().weight
    assert plain_head.dtype == torch.float32


@needs_bitsandbytes
def test_the_reference_is_the_4_bit_base_and_its_scales_are_in_the_key(base):
    model = shaken(policy(base).load())
    with reference_mode(model) as reference:
        torch.testing.assert_close(score(reference, ROW).sums, plain_sums(plain(base), GROUP), rtol=1e-5, atol=1e-5)
    key = model_fingerprint(model)
    assert key == model_fingerprint(policy(base).load()) == model_fingerprint(policy(base, lora=None).load_base())
    assert key != model_fingerprint(policy(base, quantization=Quantization(double=False)).load())
    weight = next(parameter for parameter in model.parameters() if hasattr(parameter, "quant_state"))
    weight.quant_state.absmax[-1] += 1  # the same four bits, and other weights
    assert key != model_fingerprint(model)


@needs_bitsandbytes
def test_merged_adapters_are_added_to_what_the_4_bit_weights_stand_for(base, tmp_path):
    model = shaken(policy(base).load())
    expected = score(model, ROW).sums.detach()
    merge_adapters(model).save_pretrained(tmp_path / "merged")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", attn_implementation="eager").eval()
    assert getattr(loaded.config, "quantization_config", None) is None
    torch.testing.assert_close(plain_sums(loaded, GROUP), expected, rtol=1e-4, atol=1e-4)


@needs_bitsandbytes
def test_merging_takes_a_start_from_the_weights_no_second_time(base, tmp_path):
    """OLoRA's layers have lost their start to the adapters when these are read, in 4 bits, too."""
    config = LoraConfig(r=4, lora_alpha=8, target_modules=TARGETS, init_lora_weights="olora")
    shaken(get_peft_model(plain(base), config)).save_pretrained(tmp_path / "a")
    expected = plain_sums(PeftModel.from_pretrained(plain(base), tmp_path / "a").eval(), GROUP).detach()
    model = PolicyConfig(source=str(tmp_path / "a"), quantization="4bit").load().eval()
    torch.testing.assert_close(score(model, ROW).sums.detach(), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(score(merge_adapters(model), ROW).sums.detach(), expected, rtol=1e-4, atol=1e-4)


@needs_bitsandbytes
def test_a_run_is_resumed_exported_and_continued(base, tmp_path):
    model = model_of(fit(policy(base), tmp_path, 4))
    sums = score(model, ROW).sums.detach()
    checkpoint = tmp_path / "step=2.ckpt"
    stored = torch.load(checkpoint, weights_only=True)["state_dict"]
    assert len(stored) == 8
    assert all("lora_" in name for name in stored)
    resumed = model_of(fit(policy(base), tmp_path / "resumed", 4, resume=checkpoint))
    torch.testing.assert_close(score(resumed, ROW).sums.detach(), sums, rtol=0, atol=0)

    again = PolicyConfig(source=str(tmp_path / "model"), quantization="4bit")
    for read in (again.load, again.load_base):
        torch.testing.assert_close(score(read().eval(), ROW).sums.detach(), sums, rtol=0, atol=0)
    beside = PeftModel.from_pretrained(plain(base), tmp_path / "model").eval()
    torch.testing.assert_close(plain_sums(beside, GROUP).detach(), sums, rtol=1e-5, atol=1e-5)

    section = {"source": str(base), "quantization": "4bit", "lora": asdict(LORA)}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"policy": section}))
    export_checkpoint(str(tmp_path / "step=4.ckpt"), str(tmp_path / "merged"), merge_adapters=True)
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", attn_implementation="eager").eval()
    torch.testing.assert_close(plain_sums(merged, GROUP).detach(), sums, rtol=1e-4, atol=1e-4)
    export_checkpoint(str(tmp_path / "step=4.ckpt"), str(tmp_path / "apart"))
    assert "| 4-bit base weights | 4bit |" in (tmp_path / "apart/README.md").read_text()


@needs_bitsandbytes
def test_files_that_are_quantised_already_are_read_as_they_are(base, tmp_path):
    plain(base).save_pretrained(tmp_path / "quantised")
    model = policy(tmp_path / "quantised").load()
    assert model_fingerprint(model) == model_fingerprint(policy(base).load())
    with pytest.raises(ValueError, match=r"got nf4 with double true; type --policy\.quantization\.type nf4 --policy"):
        policy(tmp_path / "quantised", quantization=Quantization(double=False)).load()
    with pytest.raises(ValueError, match=r"got quantised ones .*type --policy\.quantization 4bit with `policy\.lora`"):
        policy(tmp_path / "quantised", quantization=None).load()


@needs_bitsandbytes
@pytest.mark.parametrize("storage", ["bfloat16", "float16", "float32"])
def test_bytes_that_files_call_numbers_are_neither_cast_nor_trained(storage, base, tmp_path):
    """`bnb_4bit_quant_storage`, as QLoRA under FSDP writes it: a cast to the strategy's precision took the bytes for
    numbers of half precision, and made other weights of them."""
    quantised = plain(base, storage=storage)
    quantised.save_pretrained(tmp_path / "quantised")
    model = policy(tmp_path / "quantised").load()
    HalfPrecision("bf16-true").convert_module(model)
    HalfPrecision("16-true").convert_module(model).float()
    import bitsandbytes

    whole = dict(quantised.dequantize(dtype=torch.float32).named_parameters())
    for name, parameter in base_model(model).named_parameters():
        if hasattr(parameter, "quant_state"):
            torch.testing.assert_close(
                bitsandbytes.functional.dequantize_4bit(parameter, parameter.quant_state),
                whole[name.replace("base_layer.", "")],
            )
    with pytest.raises(ValueError, match=r"also_train` to name weights of full precision, got 'q_proj'"):
        policy(tmp_path / "quantised", lora=replace(LORA, also_train=["q_proj"])).load()


@needs_bitsandbytes
def test_what_the_part_for_text_says_of_its_files_is_read(tmp_path):
    """As Kimi K2.5 says it; transformers reads such files quantised, in whichever way they are."""
    tiny_vision_model().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    fp4 = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "fp4"}
    for settings, told in (({"quant_method": "compressed-tensors"}, "compressed-tensors"), (fp4, "4bit|type fp4")):
        config["text_config"]["quantization_config"] = settings
        (tmp_path / "config.json").write_text(json.dumps(config))
        for quantization in (None, "4bit"):
            with pytest.raises(InputError, match=rf"expected weights of full precision.* got .*({told})"):
                PolicyConfig(source=str(tmp_path), lora=LoRA(r=2), quantization=quantization).load()


@needs_bitsandbytes
def test_biases_have_the_precision_of_the_products_from_the_start(base):
    """bitsandbytes casts them in its first forward, after which the policy would not be known as its own start."""
    model = policy(base, quantization=Quantization(compute_dtype="bfloat16")).load()
    key = model_fingerprint(model)
    check_model(model)
    assert model_fingerprint(model) == key


REFUSED = {
    "whole weights": ({"lora": None}, r"without `policy\.lora`; type --policy\.lora"),
    "random weights": ({"weights": "random"}, r"with `policy\.weights random`; type --policy\.quantization null"),
    "merged adapters": ({"adapters": "merge"}, r"with `policy\.adapters merge`"),
    "gguf": ({"gguf_file": "x.gguf"}, r"with `policy\.gguf_file`"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_quantised_is_refused_before_anything_is_read(kind, tmp_path):
    options, message = REFUSED[kind]
    with pytest.raises(ValueError, match=message):
        check_training(policy(tmp_path, **options))


@needs_bitsandbytes
def test_4_bit_weights_are_not_trained_beside_adapters(base):
    with pytest.raises(ValueError, match=r"full precision, got 'gate_proj', whose weights .* in 4 bits"):
        policy(base, lora=LoRA(target_modules=TARGETS, also_train=["gate_proj"])).load()
    model = policy(base, lora=LoRA(target_modules=TARGETS, also_train=["norm"])).load()
    assert any("layernorm" in name and "lora_" not in name for name in gradients(model))


def test_a_missing_package_is_named_with_what_to_install(base, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match=r'type: pip install "lit_longpo\[quantized\]"'):
        policy(base).load()


def test_a_checkpoint_of_another_base_is_refused_with_what_to_type(base, tmp_path):
    then = {"settings": DPO(policy=policy(base)).settings}
    now = DPO(policy=policy(base, quantization=None)).settings
    assert contradictions(then, now) == {"policy.quantization": ("Quantization", None)}
    torch.save({"run": plain_json(then), "state_dict": {}}, tmp_path / "x.ckpt")
    with pytest.raises(ValueError, match=r"--policy\.quantization '\{\"type\": \"nf4\", \"double\": true, "):
        check_settings(tmp_path / "x.ckpt", now)
    with pytest.raises(ValueError, match=r"expected `policy\.quantization: Quantization` with the weights of"):
        load_initial_weights(torch.nn.Linear(1, 1), tmp_path / "x.ckpt", now)


@pytest.mark.parametrize("strategy", ["model_parallel", pytest.param("deepspeed_stage_3", marks=needs_deepspeed)])
def test_strategies_that_split_parameters_are_refused(strategy, base, monkeypatch):
    split = {"model_parallel": ModelParallelStrategy, "deepspeed_stage_3": partial(AnyDeviceDeepSpeedStrategy, stage=3)}
    module = DPO(policy=policy(base))
    state = SimpleNamespace(fn=TrainerFn.FITTING)
    module._trainer = SimpleNamespace(precision="32-true", strategy=split[strategy](), state=state)
    monkeypatch.setattr(PolicyConfig, "load", lambda _: pytest.fail("loaded"))
    with pytest.raises(ValueError, match=r"4-bit weights and their scales belong together; type --trainer\.strategy"):
        module.configure_model()


@needs_bitsandbytes
@needs_deepspeed
@pytest.mark.parametrize("strategy", ["ddp", pytest.param("zero2", marks=pytest.mark.slow)])
def test_ranks_train_them_like_one_process(strategy, base, tmp_path):
    run_ranks(fit, policy(base), tmp_path / "two", 2, strategy)
    fit(policy(base), tmp_path / "one")
    one, two = (load_file(tmp_path / name / "model/adapter_model.safetensors") for name in ("one", "two"))
    assert any(value.any() for name, value in one.items() if "lora_B" in name)
    torch.testing.assert_close(two, one, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_experts_in_mxfp4_are_read_whole(dtype, tmp_path):
    """gpt-oss as it is published; what is written again is no longer quantised."""
    expected = write_mxfp4(tmp_path / "published")
    model = PolicyConfig(source=str(tmp_path / "published"), dtype=dtype).load()
    weights = dict(model.named_parameters())
    for name, values in expected.items():
        torch.testing.assert_close(weights[name].float(), values, rtol=0, atol=0)
    check_model(model)
    model.save_pretrained(tmp_path / "ours")
    again = PolicyConfig(source=str(tmp_path / "ours"), dtype=dtype).load()
    assert torch.equal(score(again, ROW).sums, score(model, ROW).sums)
    random = PolicyConfig(source=str(tmp_path / "published"), weights="random").load()
    assert not hasattr(random.config, "quantization_config")
