"""What a gguf file says and transformers leaves out: refused, or read after all where it can be typed."""

import numpy as np
import pytest
import torch
from support.gguf_files import write_gguf
from support.groups import random_groups
from support.tiny_models import tiny_model

from lit_longpo.engine import pack, score
from lit_longpo.errors import InputError
from lit_longpo.policy import PolicyConfig, RoPE
from lit_longpo.policy.weights.gguf_header import GgufHeader

gguf = pytest.importorskip("gguf")
ROW = pack(random_groups([(60, [3, 4])]))


def file_of(tmp_path, more=None, **options):
    """A policy of a file that says more; and the model it was written from, with those options."""
    model = tiny_model("Qwen2", vocab_size=97, **options).eval()
    write_gguf(model, tmp_path / "tiny.gguf", more=more)
    return PolicyConfig(source=str(tmp_path), gguf_file="tiny.gguf"), model


def yarn(writer):
    writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    writer.add_rope_scaling_factor(4.0)
    writer.add_rope_scaling_orig_ctx_len(32)


def test_scaled_positions_are_refused_with_what_reads_them(tmp_path):
    """Official GGUFs of Qwen with YaRN, of Gemma 3 with linear scaling: transformers reads neither."""
    scaling = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 32}
    policy, model = file_of(tmp_path, yarn, rope_parameters=scaling)
    with pytest.raises(InputError, match=r"rope.scaling.type yarn by 4 \(for default\) in tiny.gguf.*rope.type yarn"):
        policy.load()
    typed = PolicyConfig(**{**vars(policy), "rope": RoPE(type="yarn", factor=4.0, original_length=32)})
    torch.testing.assert_close(score(typed.load().eval(), ROW).sums, score(model, ROW).sums)
    theta_alone = PolicyConfig(**{**vars(policy), "rope": RoPE(theta=1e6)})
    with pytest.raises(InputError, match=r"rope.scaling.type yarn"):
        theta_alone.load()


def test_factors_of_llama_3_are_refused(tmp_path):
    """llama.cpp#8676: the only trace of `rope_type: llama3` in a file; vllm#7268 takes it for a speed-up."""
    scaling = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    scaling |= {"rope_theta": 10000.0, "original_max_position_embeddings": 64}
    model = tiny_model("Qwen2", vocab_size=97, rope_parameters=scaling)
    plain = tiny_model("Qwen2", vocab_size=97).model.rotary_emb.inv_freq
    factors = (plain / model.model.rotary_emb.inv_freq).numpy()
    assert factors.max() == pytest.approx(8.0)
    policy, _ = file_of(tmp_path, lambda writer: writer.add_tensor("rope_freqs.weight", factors))
    with pytest.raises(InputError, match=r"got rope_freqs.weight in tiny.gguf.* it would be another model"):
        policy.load()


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (lambda writer: writer.add_final_logit_softcapping(30.0), r"final_logit_softcapping 30 \(for None\)"),
        (lambda writer: writer.add_sliding_window(16), r"attention.sliding_window 16 \(for None\)"),
        (lambda writer: writer.add_rope_dimension_count(4), r"rope.dimension_count 4 \(for 8\)"),
        (
            lambda writer: writer.add_tensor("blk.0.attn_q_norm.weight", np.ones(8, np.float32)),
            r"got blk.0.attn_q_norm.weight in",
        ),
    ],
    ids=["softcap", "window", "partial", "tensor"],
)
def test_what_no_setting_or_weight_was_made_of_is_refused(more, told, tmp_path):
    policy, _ = file_of(tmp_path, more)
    with pytest.raises(InputError, match=told):
        policy.load()


def test_what_changes_nothing_is_read(tmp_path):
    def neutral(writer):
        writer.add_rope_scaling_type(gguf.RopeScalingType.NONE)
        writer.add_rope_dimension_count(8)
        writer.add_sliding_window(512)  # as long as the context
        writer.add_logit_scale(1.0)
        writer.add_tensor("rope_freqs.weight", np.ones(4, np.float32))

    policy, model = file_of(tmp_path, neutral)
    torch.testing.assert_close(score(policy.load().eval(), ROW).sums, score(model, ROW).sums)


def test_a_header_is_what_the_gguf_package_reads(tmp_path):
    file_of(tmp_path, yarn)
    header, reader = GgufHeader.read(tmp_path / "tiny.gguf"), gguf.GGUFReader(tmp_path / "tiny.gguf")
    assert set(header.settings) == {name for name in reader.fields if not name.startswith("GGUF.")}
    assert all(header.settings[name] == reader.fields[name].contents() for name in ("qwen2.rope.scaling.type",))
    assert {name: tensor.shape for name, tensor in header.tensors.items()} == {
        tensor.name: tuple(tensor.shape) for tensor in reader.tensors
    }
    by_name = {tensor.name: tensor.data for tensor in reader.tensors}
    assert header.floats("output_norm.weight") == tuple(by_name["output_norm.weight"].tolist())
    assert header.floats("rope_freqs.weight") is None
