"""Fake traces are what real tensors do, and their composition is what a deeper model or longer row does."""

import dataclasses
from contextlib import nullcontext

import pytest
import torch
from support.tiny_models import tiny_config, tiny_model

from lit_longpo.engine.log_probs import token_log_probs
from lit_longpo.engine.tiling import tiles
from lit_longpo.engine.tiling.tiled_layers import tile_layers
from lit_longpo.live_bytes import LiveBytes
from lit_longpo.objectives import DPO
from lit_longpo.planning.inputs.row import RowPlan
from lit_longpo.planning.tracing import activations as module
from lit_longpo.planning.tracing import steps
from lit_longpo.planning.tracing.activations import Tracer
from lit_longpo.planning.tracing.model import ModelPlan
from lit_longpo.planning.tracing.steps import trace_step
from lit_longpo.policy.loading import LoRA

ROW = RowPlan(DPO().views, 1, 300, 8, 12)


def plan(name="Llama", dtype=torch.float32, **options):
    overrides = {"Mistral": {"sliding_window": None}}.get(name, {})
    if name in ("Gemma2", "GptOss"):  # which alternate; a plan takes all layers for full ones
        overrides = {"layer_types": ["full_attention"] * 5}
    return ModelPlan(tiny_config(name, num_hidden_layers=5, **overrides), dtype, **options)


VARIANTS = [
    plan(),
    plan("Gemma2"),
    plan("GptOss", dtype=torch.bfloat16, flash=True),
    plan("Mixtral", router_loss=True),
    plan(dtype=torch.bfloat16, lora=LoRA(r=4, also_train=["embed_tokens", "norm"]), converted=True),
    plan(autocast=torch.bfloat16),
]
MORE = [  # each shares its parts with one above
    plan("Qwen2", dtype=torch.float32),
    plan("Qwen3"),
    plan("Gemma3Text"),
    plan(dtype=torch.bfloat16, flash=True),
    plan(lora=LoRA(r=4)),
]


@pytest.mark.parametrize(
    "checkpointing",
    [
        pytest.param(False, id="kept"),
        pytest.param(True, id="recomputed", marks=pytest.mark.slow),
        pytest.param("keep_attention", id="attention", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize(
    "model",
    [*VARIANTS, *(pytest.param(model, marks=pytest.mark.slow) for model in MORE)],
    ids=lambda p: f"{p.config.model_type}-{p.dtype}-{bool(p.lora)}-{p.flash}",
)
def test_two_depths_say_what_five_layers_take(model, checkpointing):
    found = Tracer(model).activations(ROW, checkpointing=checkpointing).whole
    traced = trace_step(model, ROW, 5, checkpointing=checkpointing)
    for part in dataclasses.fields(traced):
        assert getattr(found, part.name) == pytest.approx(getattr(traced, part.name), rel=0.02), part.name


def test_a_model_of_one_layer_is_traced_as_it_is():
    """Its configuration names the kind of no second one."""
    one = ModelPlan(tiny_config("Qwen3", num_hidden_layers=1, head_dim=8), torch.float32)
    assert len(one.config.layer_types) == 1
    found = Tracer(one).activations(ROW, checkpointing=True)
    assert found.whole == trace_step(one, ROW, 1, checkpointing=True)
    assert 0 < found.more.kept < found.one_layer.kept


@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "recomputed"])
def test_two_lengths_say_what_a_long_prompt_takes(checkpointing, monkeypatch):
    long = dataclasses.replace(ROW, long_tokens=3000)
    expected = Tracer(plan()).activations(long, checkpointing=checkpointing).whole
    monkeypatch.setattr(module, "_TRACED_TOKENS", (700, 800, 1600))  # above the prompts whose keys are copied
    tracer = Tracer(plan())
    found = tracer.activations(long, checkpointing=checkpointing).whole
    assert {row.long_tokens for row, *_ in tracer._steps} == {800, 1600}
    assert found.kept == pytest.approx(expected.kept, rel=0.01)
    assert found.layers_backward == pytest.approx(expected.layers_backward, rel=0.01)


def test_a_gpu_without_a_flash_kernel_copies_the_prompts_keys_for_each_answer():
    """And so many values; forward keeps both. Where answers attend in one call, no copy of the prompt is there."""
    long = dataclasses.replace(ROW, long_tokens=3000)
    together, gathered = (trace_step(plan(gathers=how), long, 1, checkpointing=False).kept for how in (False, True))
    config, answers = plan().config, 2
    copies = 2 * answers * 3000 * config.num_key_value_heads * config.head_dim * 4
    assert copies < gathered - together < 1.3 * copies  # and masks


@pytest.mark.slow
def test_tiles_are_those_of_the_long_row_itself(monkeypatch):
    """Not of the shorter ones that are traced for it; other tiles would be off the line."""
    monkeypatch.setattr("lit_longpo.engine.tiling.tile_lengths.SHORTEST", 64)
    monkeypatch.setattr("lit_longpo.engine.tiling.tile_lengths.LONGEST", 256)
    long = dataclasses.replace(ROW, long_tokens=3000)
    expected, whole = (
        Tracer(plan(tile_tokens=tokens)).activations(long, checkpointing=True).whole for tokens in (256, None)
    )
    monkeypatch.setattr(module, "_TRACED_TOKENS", (1200, 1600, 2000))  # long enough for answers that attend in one call
    found = Tracer(plan(tile_tokens="auto")).activations(long, checkpointing=True).whole
    assert found.layers_backward == pytest.approx(expected.layers_backward, rel=0.01)
    assert found.layers_backward < 0.85 * whole.layers_backward
    kept = Tracer(plan(tile_tokens="auto")).model
    assert [kept.tile_of(3000, how) for how in (True, "offload", "keep_attention", False)] == [256, 256, None, None]


def test_on_cpus_rows_whose_attention_is_kept_are_planned_in_quick_tiles():
    """200,000 tokens of 48 channels in fp32 are more than 32 MiB; 8 MiB of them are a tile."""
    on_cpu, elsewhere = (plan(tile_tokens="auto", on_cpu=cpu) for cpu in (True, False))
    assert [p.tile_of(200_000, "keep_attention") for p in (on_cpu, elsewhere)] == [2**23 // (48 * 4), None]
    assert on_cpu.tile_of(200_000, False) is None


@pytest.mark.parametrize(
    ("name", "tile_tokens"), [("Gemma2", None), ("GptOss", None), ("Mixtral", None), ("Mixtral", 100), ("Qwen3", 100)]
)
def test_fake_tensors_take_what_real_ones_do(name, tile_tokens):
    """Capped blocks, sinks and routed experts, whose products have a stand-in in a trace; tiles of layers."""
    same = {"layer_types": ["full_attention"] * 2} if name in ("Gemma2", "GptOss") else {}
    router_loss = name in ("GptOss", "Mixtral")
    model = ModelPlan(tiny_config(name, **same), torch.float32, router_loss=router_loss, tile_tokens=tile_tokens)
    fake = trace_step(model, ROW, 2, checkpointing=False)
    real = tiny_model(name, **same)
    tile_layers(real, tile_tokens, recomputed=False)
    for parameter in real.parameters():
        parameter.register_post_accumulate_grad_hook(steps._drop)
    with LiveBytes() as memory:
        found = steps._trace(real, ROW.policy_row(), memory, model)
    for part in dataclasses.fields(fake):
        expected = pytest.approx(getattr(found, part.name), rel=0.01, abs=0.01 * found.layers_backward)
        assert getattr(fake, part.name) == expected, part.name


def test_three_tiles_take_what_all_take(monkeypatch):
    """Of logits and of layers: 17 and more, of which the trace runs three."""
    monkeypatch.setitem(token_log_probs.__kwdefaults__, "tile_bytes", 4 * 256)  # a few tokens
    model, run = plan(tile_tokens=20), []
    every = tiles.slices

    def counted(num_tokens, size):
        parts = list(every(num_tokens, size))
        run.append(len(parts))
        yield from parts

    monkeypatch.setattr(tiles, "slices", counted)
    found = trace_step(model, ROW, 1, checkpointing=True), steps.trace_forward(model, ROW, 1)
    assert tiles.slices is counted
    assert max(run) >= 17
    monkeypatch.setattr(steps, "_three_tiles", nullcontext)
    assert (trace_step(model, ROW, 1, checkpointing=True), steps.trace_forward(model, ROW, 1)) == found


def test_the_router_loss_keeps_logits():
    with_loss, without = (
        Tracer(plan("Mixtral", router_loss=on)).activations(ROW, checkpointing=True).more.kept for on in (True, False)
    )
    assert with_loss - without >= ROW.num_tokens * 4 * 4


def test_checkpointing_keeps_only_the_inputs():
    tracer = Tracer(plan())
    kept, recomputed = (tracer.activations(ROW, checkpointing=on) for on in (False, True))
    assert recomputed.more.kept == ROW.num_tokens * 32 * 4
    assert kept.more.kept > 10 * recomputed.more.kept
    assert recomputed.offloaded().whole.kept < recomputed.whole.kept


@pytest.mark.parametrize("flash", [False, True])
def test_kept_attention_is_one_more_hidden_state_and_a_log_sum_per_head(flash):
    tracer = Tracer(plan(dtype=torch.bfloat16, flash=flash))
    recomputed, kept = (tracer.activations(ROW, checkpointing=how).more.kept for how in (True, "keep_attention"))
    heads = tracer.model.config.num_attention_heads
    assert kept - recomputed == ROW.num_tokens * (32 * 2 + 4 * heads)


def test_routed_experts_are_refused():
    from transformers import Qwen3MoeConfig

    shape = {"vocab_size": 96, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 8}
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "num_key_value_heads": 2}
    config = Qwen3MoeConfig(**shape, **experts, experts_implementation="eager")
    with pytest.raises(ValueError, match="by which routed experts do so"):
        trace_step(ModelPlan(config, torch.float32), ROW, 1, checkpointing=False)
