"""A tiny model as a gguf file, written with the `gguf` package."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

_SPECIAL, _NORMAL = 3, 1


def add_bytes(writer: Any, size: int) -> None:
    """A byte-level BPE vocabulary of single characters, cut by GPT-2's rule.

    Args:
        writer: of a file.
        size: how many tokens.
    """
    marks = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    letters = [*[chr(number) for number in range(33, 127)][: size - len(marks) - 2], "ab", "abc"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([*marks, *letters])
    writer.add_token_types([_SPECIAL] * len(marks) + [_NORMAL] * len(letters))
    writer.add_token_merges(["a b", "ab c"])  # two: transformers 5.17 takes a list of one for its element
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(0)


def write_gguf(
    model: PreTrainedModel,
    path: Path,
    *,
    quantized: bool = False,
    more: Callable[[Any], object] | None = None,
    vocabulary: Callable[[Any, int], object] = add_bytes,
) -> None:
    """Weights and a vocabulary.

    Args:
        model: of class Qwen2, whose projections gguf keeps in the order of transformers.
        path: file to write.
        quantized: matrices in blocks of 32 8-bit weights (Q8_0) instead of fp32.
        more: adds settings and tensors to the writer.
        vocabulary: adds that many tokens to it.
    """
    import gguf

    config = model.config
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    vocabulary(writer, config.vocab_size)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN2, config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        written = names.get_name(name, try_suffixes=(".weight", ".bias"))
        in_blocks = quantized and tensor.dim() == 2 and tensor.shape[1] % 32 == 0
        kind = gguf.GGMLQuantizationType.Q8_0 if in_blocks else gguf.GGMLQuantizationType.F32
        writer.add_tensor(written, gguf.quants.quantize(tensor.numpy(), kind), raw_dtype=kind)
    if more is not None:
        more(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_gpt2_gguf(model: PreTrainedModel, path: Path) -> None:
    """Weights of a GPT-2 and the same vocabulary.

    Args:
        model: whose projections lie transposed, and so do not in gguf.
        path: file to write.
    """
    import gguf

    config = model.config
    writer = gguf.GGUFWriter(path, "gpt2")
    writer.add_block_count(config.n_layer)
    writer.add_context_length(config.n_positions)
    writer.add_embedding_length(config.n_embd)
    writer.add_head_count(config.n_head)
    writer.add_layer_norm_eps(config.layer_norm_epsilon)
    writer.add_vocab_size(config.vocab_size)
    add_bytes(writer, config.vocab_size)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.GPT2, config.n_layer)
    for name, tensor in model.state_dict().items():
        if name != "lm_head.weight":  # tied
            written = names.get_name(name.removeprefix("transformer."), try_suffixes=(".weight", ".bias"))
            transposed = ".h." in name and tensor.dim() == 2
            writer.add_tensor(written, (tensor.T.contiguous() if transposed else tensor).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
