"""Plans of models that are scored one sequence at a time, and of those with state."""

import pytest
import torch
import transformers
from support.tiny_hybrids import hybrid_config, tiny_hybrid
from support.tiny_models import SHAPE

from lit_longpo.engine import plan_scoring
from lit_longpo.engine.scoring import row_log_probs
from lit_longpo.errors import InputError
from lit_longpo.live_bytes import LiveBytes
from lit_longpo.objectives import DPO
from lit_longpo.planning.flops import row_flops
from lit_longpo.planning.inputs.row import RowPlan
from lit_longpo.planning.plan import _computed
from lit_longpo.planning.sizes import count
from lit_longpo.planning.tracing.activations import Tracer
from lit_longpo.planning.tracing.model import ModelPlan
from lit_longpo.planning.tracing.own_heads import has_own_head
from lit_longpo.planning.tracing.steps import packing_problem, trace_step

ROW = RowPlan(DPO().views, 2, 300, 0, 20)


def planned(name, **options):
    return ModelPlan(hybrid_config(name), torch.float32, **options)


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("GPTNeo", "transformers' interface"),
        ("StableLm", "let StableLmAttention know"),
        ("Llama4Text", "chunked"),
    ],
)
@pytest.mark.parametrize("flash", [False, True])
def test_what_fit_would_score_alone_is_known(name, cause, flash):
    """By the kernels' sizes as by torch's own attention."""
    assert cause in packing_problem(planned(name, flash=flash))


def test_a_mask_of_the_models_own_is_known_to_a_plan_for_gpus():
    config = transformers.DogeConfig(**SHAPE)
    assert "DogeAttention built its own attention mask" in packing_problem(
        ModelPlan(config, torch.bfloat16, flash=True)
    )


@pytest.mark.parametrize(("name", "own"), [("Bert", True), ("FalconH1", False), ("RecurrentGemma", False)])
def test_a_head_that_does_more_than_to_multiply_is_known(name, own):
    """By what it computes: a factor of one and a soft-cap are the engine's too."""
    assert has_own_head(planned(name)) == own


@pytest.mark.slow
def test_the_trace_of_own_logits_holds_one_sequences_logits():
    """A vocabulary that outweighs the model: with a prompt of 300 tokens, logits of 20 answers' tokens and one more."""
    config = hybrid_config("ModernBertDecoder", vocab_size=4096)
    plan = ModelPlan(config, torch.float32, sequential=True, own_logits=True)
    trace = trace_step(plan, ROW, 2, checkpointing=False)
    logits = 4 * 4096 * 21
    assert trace.kept < logits
    assert logits < trace.head_forward < 10 * logits


def test_states_that_are_shared_are_planned_in_packed_rows():
    assert packing_problem(planned("Qwen3_5Text")) is None
    with pytest.raises(InputError, match=r"memory can be planned, got MiniMaxForCausalLM, .* token by token"):
        packing_problem(planned("MiniMax"))


def test_a_prompt_is_counted_for_each_of_its_responses():
    config = hybrid_config("StableLm")
    apart = _computed(ROW, "a cause")
    assert (_computed(ROW, None).num_tokens, apart.num_tokens) == (2 * 340, 2 * 640)
    sizes = count(planned("StableLm"))
    packed, alone = (row_flops(config, sizes, row.policy_row(), checkpointing=True).model for row in (ROW, apart))
    assert 1.7 < alone / packed < 2


def test_the_trace_of_single_sequences_is_what_they_take():
    """Inside torch's own tensors, counted the same way; backward holds one sequence's activations at a time."""
    trace = trace_step(planned("StableLm", sequential=True), ROW, 2, checkpointing=False)
    model = tiny_hybrid("StableLm")
    plan_scoring(model)
    row = ROW.policy_row()
    with LiveBytes() as memory:
        for tensor in (*model.parameters(), *model.buffers(), row.input_ids):
            memory.add(tensor)
        start = memory.live
        log_probs = row_log_probs(model, row)
        assert trace.kept == pytest.approx(memory.live - start, rel=0.05)
        log_probs.sum()
    packed = trace_step(ModelPlan(hybrid_config("Qwen3_5Text"), torch.float32), ROW, 2, checkpointing=False)
    assert trace.kept < packed.kept / 10
    assert trace.layers_backward < packed.layers_backward


def test_a_hybrid_is_the_sum_of_its_kinds():
    kinds = ["linear_attention", "linear_attention", "full_attention"]
    config = hybrid_config("Qwen3_5Text", num_hidden_layers=3, layer_types=kinds)
    plan = ModelPlan(config, torch.float32)
    whole = Tracer(plan).activations(ROW, checkpointing=False).whole
    traced = trace_step(plan, ROW, tuple(kinds), checkpointing=False)
    assert whole.kept == pytest.approx(traced.kept, rel=0.02)


@pytest.mark.slow
def test_the_router_loss_of_single_sequences_keeps_their_logits():
    alone = {
        on: trace_step(planned("MiniMax", sequential=True, router_loss=on), ROW, 2, checkpointing=False)
        for on in (True, False)
    }
    assert alone[True].kept > alone[False].kept
