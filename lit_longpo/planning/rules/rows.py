"""Rows: examples that they cannot hold, tokens that are computed twice, positions beyond the model."""

from dataclasses import replace

from transformers import PretrainedConfig

from lit_longpo.planning.inputs.configuration import Configuration
from lit_longpo.policy.window import window_problem


def window(config: PretrainedConfig, run: Configuration) -> str | None:
    """Sequences beyond the model's window."""
    longest = min(run.row().long_tokens, run.data.max_length or run.row_tokens)
    target = run.data.target_length
    return window_problem(max(longest, target), config, synthesised=target > longest)


def budget(run: Configuration) -> str | None:
    """Examples that are longer than a row."""
    length, longest = run.data.max_length, run.longest
    row = run.row()
    if longest is not None:
        needed = replace(row, num_examples=1, long_tokens=longest.prompt).num_tokens
        if needed <= run.row_tokens:
            return None
        return (
            f"an example of the data ({longest.source}) takes {needed:,} tokens, a row holds {run.row_tokens:,}: "
            "`fit` stops at it; raise `data.init_args.max_tokens`, or cut contexts with `max_length`"
        )
    needed = replace(row, num_examples=1, long_tokens=max(1, (length or 0) - row.response_tokens)).num_tokens
    if length is None or needed <= run.row_tokens:
        return None
    return (
        f"an example of `max_length` {length:,} takes {needed:,} tokens with its other responses, a row holds "
        f"{run.row_tokens:,}: `fit` stops at it; raise `data.init_args.max_tokens`"
    )


def sharing(run: Configuration) -> str | None:
    """Prompts that are computed once for each of their responses."""
    if run.data.prefix_sharing:
        return None
    row = run.row()
    shared, apart = (replace(row, prefix_sharing=sharing).num_tokens for sharing in (True, False))
    if shared == apart:
        return None
    return f"`prefix_sharing: false` computes {apart / shared:.1f} times the tokens of shared prompts"


def together(run: Configuration) -> str | None:
    """Rows that are filled with more examples than are counted here."""
    if run.data.share_prompts != "together":
        return None
    return (
        f"`share_prompts: together` fills a row of {run.row_tokens:,} tokens with more examples than the "
        f"{run.row().num_examples} counted here, each with a prompt of its own: as many FLOPs in the layers, more "
        "scored tokens, and on a GPU a copy of the shared keys and values for each answer; `max_examples` bounds both"
    )


def true_positions(run: Configuration) -> str | None:
    """An objective that is made for synthesised positions, without any."""
    if not run.objective.synthesises_positions or run.data.synthesises_positions:
        return None
    return (
        f"{type(run.objective).__name__} is made for synthesised positions, and has none: it trains at the length of "
        "the data alone; set `data.init_args.positions`, for example {target_length: 65536}"
    )
