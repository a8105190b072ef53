"""What SoLoPO saves over preference optimization on long contexts, in counted FLOPs: a table."""

from dataclasses import replace

from benchmarks.flops import step_flops
from benchmarks.setting import Setting

from results.pages import line

NAME = "saving"
_LONG, _SHORT, _ANSWER = (2048, 4096, 8192, 16384), 1024, 64


def saving() -> str:
    """TFLOP of one pair, forward and backward of all weights, and SoLoPO's share of them."""
    head = (
        "long prompt",
        "SoLoPO",
        "long PO, shared prompt",
        "long PO, a prompt for each answer",
        "of shared",
        "of separate",
    )
    lines = [line(head), line(["---:"] * len(head))]
    for length in _LONG:
        one = Setting(shape="8b", prompt=length, answers=(_ANSWER,))
        pair = replace(one, answers=(_ANSWER, _ANSWER))
        solopo = step_flops(one) + step_flops(replace(pair, prompt=_SHORT))
        shared, separate = step_flops(pair), 2 * step_flops(one)
        tera = [f"{flops / 1e12:,.0f}" for flops in (solopo, shared, separate)]
        lines.append(line([f"{length:,}", *tera, f"{solopo / shared:.2f}", f"{solopo / separate:.2f}"]))
    return "\n".join(lines)
