"""Every rule speaks up for the configuration that it is about, and is silent without it."""

import json

import pytest
import yaml
from peft import LoraConfig, get_peft_model
from support.command_line import CONFIGS
from support.ranks import run_command
from support.tiny_models import tiny_config
from transformers import AutoModelForCausalLM

from lit_longpo.planning.command import PlanCLI
from lit_longpo.planning.conflicts import conflicts, start_warnings
from lit_longpo.planning.inputs.architecture import find_config
from lit_longpo.planning.inputs.configuration import read_configuration

EMBEDDED = CONFIGS.parent / "lit_longpo" / "policy" / "tiny"  # as a folder: of a model that is anyone's
SOLOPO = CONFIGS / "solopo.yaml"
ROPE = ("--policy.rope.max_length", "16384")
GPU = ("--trainer.accelerator", "gpu", "--trainer.devices", "2", *ROPE)
ONLINE_DPO = ("--model.base", "DPO", "--reference.mode", "online")
BF16 = ("--policy.dtype", "bfloat16")
ALSO = ("--policy.lora.also_train", "[norm]")
LOGO = ("--model", "LOGO")
SMOLLM2 = ("--policy.source", "HuggingFaceTB/SmolLM2-135M-Instruct")
TINY = json.dumps(yaml.safe_load((CONFIGS / "model" / "tiny.yaml").read_text()))


def overlay(name):
    return ("--config", str(CONFIGS / "overlays" / f"{name}.yaml"))


@pytest.fixture
def messages():
    def found(*arguments):
        configuration = read_configuration(PlanCLI(args=["--config", str(SOLOPO), *arguments]).config)
        return conflicts(configuration, find_config(configuration.policy, configuration.options.shape)[0])

    return found


def test_a_model_that_draws_experts_in_training_is_refused_as_fit_refuses_it(messages, tmp_path):
    tiny_config("Phimoe").save_pretrained(tmp_path)
    found = messages("--policy.source", str(tmp_path))
    assert any("`fit` refuses this: expected a model that gives a text the same" in message for message in found)


def test_a_reference_whose_attention_is_scaled_for_the_policy_is_refused_as_fit_refuses_it(messages, tmp_path):
    """`fit` says it where LongPO's reference is scored, after the model is loaded."""
    yarn = {"rope_type": "yarn", "factor": 4.0, "mscale": 1.0, "mscale_all_dim": 1.0, "rope_theta": 1e4}
    yarn["original_max_position_embeddings"] = 128
    tiny_config("DeepseekV3", rope_parameters=yarn).save_pretrained(tmp_path)
    for changed, refused in ((("factor", "40"), True), (("theta", "500"), False)):
        found = messages(
            "--model", "LongPO", "--policy.source", str(tmp_path), f"--policy.rope.{changed[0]}", changed[1]
        )
        assert any("deepseek_v3, whose temperature follows" in message for message in found) is refused


def test_a_sound_setting_has_no_conflicts(messages):
    assert messages(*ROPE) == []


CASES = {
    "cannot be trained themselves": ("--policy.quantization", "4bit"),
    "positions reach": (),
    "one of [1, 2, 4], got 8": (
        *GPU,
        "--shape",
        "qwen2.5_7b",
        "--trainer.devices",
        "8",
        "--sequence_parallel",
        "8",
    ),
    "auto and no accelerator": ("--trainer.accelerator", "gpu", "--trainer.devices", "auto"),
    "zero splits nothing": (*overlay("deepspeed_zero3"), "--trainer.devices", "1"),
    "fsdp2 splits nothing": (*overlay("fsdp2"), "--trainer.devices", "1"),
    "needs ZeRO stage 3": (*overlay("deepspeed_zero2"), "--trainer.strategy.init_args.offload_parameters", "true"),
    "on a CPU only recomputes": ("--policy.gradient_checkpointing", "offload"),
    "moves nothing": overlay("deepspeed_zero3_offload"),
    "cpu_checkpointing has no effect": (
        *overlay("deepspeed_zero3"),
        *("--trainer.strategy.init_args.cpu_checkpointing", "true"),
    ),
    "are switched off anyway": (*ONLINE_DPO, "--policy.lora.r", "4", "--reference.policy", TINY),
    "also holds a frozen copy": (*ONLINE_DPO, "--policy.lora.also_train", "[norm]"),
    "holds a frozen copy of the whole model": ONLINE_DPO,
    "`reference.policy` is never loaded": ("--reference.policy.dtype", "float32"),
    "many times slower": BF16,
    "every weight is trained in torch.bfloat16 without": (*GPU, *BF16),
    "what `policy.lora.also_train` names is trained in torch.bfloat16": (*GPU, *BF16, *ALSO),
    "lr 0.001 trains all weights of a pretrained model": (*SMOLLM2, "--shape", "qwen2.5_0.5b"),
    "LOGO is made for synthesised positions": LOGO,
    "DeepSpeed is told `trainer.precision: 32-true`, got bfloat16": (*GPU, *overlay("deepspeed_zero3"), *BF16),
    "has halved them already": (*GPU, *BF16, "--trainer.precision", "bf16-mixed"),
    "expected `policy.dtype: bfloat16` beside": (
        *GPU,
        "--trainer.precision",
        "bf16-true",
    ),
    "clipping by value is refused": (*overlay("fsdp2"), "--trainer.gradient_clip_algorithm", "value"),
    "clips nothing": ("--trainer.gradient_clip_val", "null", "--trainer.gradient_clip_algorithm", "norm"),
    "attention: flash` needs a GPU": ("--policy.attention", "flash"),
    "times the tokens": ("--data.prefix_sharing", "false"),
    "with more examples than": ("--data.share_prompts", "together"),
    "`fit` stops at it": ("--data.max_length", "8000"),
    "a mesh of 2 data-parallel x 1": (
        *overlay("fsdp2"),
        "--trainer.devices",
        "4",
    ),
    "would be a copy of the split policy": (*overlay("fsdp2"), *ONLINE_DPO),
    "`SavePretrained` writes no model": (
        *overlay("deepspeed_zero3"),
        *("--policy.lora.also_train", "[norm]", "--trainer.callbacks+=SavePretrained"),
    ),
    "reduces gradients after each of the 4": (*overlay("deepspeed_zero2"), "--trainer.accumulate_grad_batches", "4"),
}


@pytest.mark.parametrize("words", CASES)
def test_the_rule_speaks_up(words, messages):
    found = messages(*CASES[words])
    assert [message for message in found if words in message], found


def test_every_rule_has_a_case():
    from lit_longpo.planning.conflicts import RULES

    assert len(CASES) >= len(RULES) + 2


def test_adapters_that_a_precision_casts_lose_updates_too(messages):
    """`bf16-true` casts the finished model, adapters included."""
    found = messages(*GPU, *BF16, "--policy.lora.r", "4", "--trainer.precision", "bf16-true")
    assert any("every adapter is trained in torch.bfloat16" in message for message in found), found


SOUND = {
    "round to nothing": [(*GPU, *BF16, "--policy.lora.r", "4"), (*GPU, "--policy.lora.also_train", "[norm]")],
    "lr 0.001": [(*SMOLLM2, "--policy.weights", "random"), (*SMOLLM2, "--policy.lora.r", "4"), ()],
    "lr 1e-05": [(*SMOLLM2, "--optimization.optimizer.init_args.lr", "1e-5")],
    "synthesised positions": [(*LOGO, "--data.positions.target_length", "4096"), ()],
}


@pytest.mark.parametrize(("words", "arguments"), [(words, given) for words, all_ in SOUND.items() for given in all_])
def test_the_rules_of_numbers_are_silent_where_they_are_right(words, arguments, messages):
    shape = ("--shape", "qwen2.5_0.5b") if SMOLLM2[0] in arguments else ()
    assert not [message for message in messages(*arguments, *shape) if words in message]


def test_adapters_that_are_continued_are_no_full_training(policy_folder, tmp_path, messages):
    get_peft_model(
        AutoModelForCausalLM.from_pretrained(policy_folder), LoraConfig(r=2, target_modules="all-linear")
    ).save_pretrained(tmp_path)
    said = [messages("--policy.source", str(folder), *GPU, *BF16) for folder in (policy_folder, tmp_path)]
    words = ("every weight is trained", "lr 0.001 trains all weights")
    assert [[any(part in message for message in found) for part in words] for found in said] == [
        [True] * 2,
        [False] * 2,
    ]


@pytest.mark.slow
def test_fit_says_at_its_start_what_plan_does_and_once(tmp_path):
    """But for guesses about the data and what it refuses; on the first of its processes."""
    arguments = ("--config", SOLOPO, "--policy.source", EMBEDDED, "--data.num_train", 4, "--data.num_val", 2)
    smaller = ("--data.short_words", 16, "--data.long_words", "[24, 48]", "--trainer.callbacks", "null")
    once = ("--trainer.max_steps", 1, "--trainer.devices", 2, "--trainer.strategy", "ddp", "--trainer.logger", "false")
    half = ("--policy.dtype", "bfloat16", "--trainer.default_root_dir", tmp_path)
    printed = run_command("fit", *arguments, *smaller, *once, *half, num_ranks=2)
    planned = PlanCLI(args=[str(part) for part in (*arguments, *smaller, *once, *half)]).config
    expected = [message for message in start_warnings(planned) if "lr 0.001" in message or "round to" in message]
    assert len(expected) == 2
    assert [printed.count(message) for message in expected] == [1, 1]


def test_fit_guesses_no_lengths_where_rows_are_short():
    """Rows shared `together` of fewer tokens than `plan` takes for an example were refused, with options of `plan`."""
    short = ["--data.share_prompts", "together", "--data.max_tokens", "400"]
    config = PlanCLI(args=["--config", str(SOLOPO), *short]).config
    assert not any("example" in message for message in start_warnings(config))


def test_a_strategy_that_cannot_be_planned_may_train_all_the_same():
    config = PlanCLI(args=["--config", str(SOLOPO), "--trainer.strategy", "fsdp"]).config
    assert start_warnings(config)[0].startswith("settings are not compared: expected one of our strategies")
