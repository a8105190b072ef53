"""Which degrees of sequence parallelism a model's heads allow, before any weight is read."""

from collections.abc import Callable

from transformers import PretrainedConfig

from lit_longpo.engine.layers import packing_doubt
from lit_longpo.engine.ulysses.head_chunks import num_chunks
from lit_longpo.engine.ulysses.sequence_parallel import sequence_ranks
from lit_longpo.errors import InputError


def feasible_degrees(num_heads: int, num_kv_heads: int, world_size: int | None = None) -> list[int]:
    """Numbers of ranks that can share the rows of a model, in rising order; 1, which shares nothing, is the first.

    Each rank takes equally many query heads, and either equally many key/value heads or a copy of one.

    Args:
        num_heads: query heads.
        num_kv_heads: key/value heads.
        world_size: processes, which the degree must divide; `None` means any number.
    """
    return [
        degree
        for degree in range(1, num_heads + 1)
        if num_heads % degree == 0
        and (num_kv_heads % degree == 0 or degree % num_kv_heads == 0)
        and (world_size is None or world_size % degree == 0)
    ]


def head_counts(config: PretrainedConfig) -> tuple[int, int]:
    """The numbers of query heads (1 if not stated) and of key/value heads (as many, if not stated)."""
    text = config.get_text_config()
    heads = int(getattr(text, "num_attention_heads", None) or 1)
    return heads, int(getattr(text, "num_key_value_heads", None) or heads)


def head_size(config: PretrainedConfig) -> int:
    """Channels of one head."""
    text = config.get_text_config()
    return int(getattr(text, "head_dim", None) or text.hidden_size // head_counts(config)[0])


def degrees_of(config: PretrainedConfig, world_size: int) -> list[int]:
    """`feasible_degrees` of a model; 1 alone if its layers need whole sequences."""
    return [1] if packing_doubt(config) else feasible_degrees(*head_counts(config), world_size)


def heads_problem(config: PretrainedConfig, degree: int, world_size: int | None = None) -> str | None:
    """Why ranks cannot share a model's rows: its heads cannot be dealt to them, or its layers need whole sequences.

    Args:
        config: the model's.
        degree: ranks that share a row.
        world_size: processes; `None` means any number.

    Returns:
        The reason, or `None` if they can.
    """
    text = config.get_text_config()
    if degree > 1 and (cause := packing_doubt(config)) is not None:
        return (
            f"expected `trainer.strategy.init_args.sequence_parallel` 1 for {type(text).__name__}, got {degree}: "
            f"{cause}, so a rank needs whole sequences; set it to 1 (`policy.gradient_checkpointing` saves memory)"
        )
    heads, kv_heads = head_counts(config)
    feasible = feasible_degrees(heads, kv_heads, world_size)
    if degree in feasible:
        return None
    return (
        f"expected `trainer.strategy.init_args.sequence_parallel` to be one of {feasible}, got {degree}: "
        f"{type(text).__name__} has {heads} attention heads and {kv_heads} key/value heads, which {degree} ranks "
        "cannot share evenly"
    )


def check_heads(config: Callable[[], PretrainedConfig]) -> None:
    """Refuse a model whose rows cannot be shared by ranks; needs no weights.

    Args:
        config: gives the model's configuration; only called if rows are shared.
    """
    ranks = sequence_ranks()
    if ranks.size == 1:
        return
    if (problem := heads_problem(config(), ranks.size)) is not None:
        raise InputError(problem)
    heads, kv_heads = head_counts(config())
    num_chunks(ranks.head_chunks, heads // ranks.size, heads // max(kv_heads, ranks.size), row_bytes=0)
