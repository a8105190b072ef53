"""Checks that policy, reference and strategy agree on one precision, and that fp16 does not undo training."""

from lit_longpo.policy import LoRA

# precision of the trainer -> dtype that its plugin casts the weights to
CASTS = {"bf16-true": "bfloat16", "16-true": "float16"}
_OTHERS = ("32-true", "bf16-mixed", "16-mixed")


def precision_problem(
    dtype: str, precision: str, *, deepspeed: bool, trains_weights: bool = True, trains: bool = True
) -> str | None:
    """What to type where policy and reference would be other models than the configuration says; `None` if all agree.

    A precision that casts the weights casts the policy's after they were loaded. A reference that is loaded later, or
    was recognised by its weights before, would then differ from the policy at step 0.

    Args:
        dtype: of the weights, `policy.dtype`.
        precision: `trainer.precision`.
        deepspeed: whether DeepSpeed holds the weights; with "32-true" it casts them to fp32, with "-mixed" to half.
        trains_weights: whether the policy's own weights are trained, and not adapters alone, which are fp32 unless
            the precision casts them.
        trains: whether anything is trained.
    """
    if precision not in (*CASTS, *_OTHERS):
        return f"expected `trainer.precision` to be one of {', '.join((*_OTHERS, *CASTS))}, got {precision}"
    if trains and not deepspeed and (problem := _half_states(dtype, precision, trains_weights=trains_weights)):
        return problem
    cast = CASTS.get(precision, "float32" if deepspeed and precision == "32-true" else dtype)
    if deepspeed and precision.endswith("-mixed"):
        return (
            f"expected `trainer.precision` 32-true or bf16-true under DeepSpeed, which casts weights, got {precision}; "
            "type --trainer.precision bf16-true --policy.dtype bfloat16 (it keeps fp32 master weights)"
        )
    if deepspeed and cast == "float32" != dtype:
        return (
            f"expected `policy.dtype: float32` where DeepSpeed is told `trainer.precision: 32-true`, got {dtype}, "
            "which it would cast to fp32; type --trainer.precision bf16-true (it keeps fp32 master weights)"
        )
    if cast != dtype:
        return (
            f"expected `policy.dtype: {cast}` beside `trainer.precision: {precision}`, got {dtype}: the policy would "
            f"be cast and the reference not; type --policy.dtype {cast}"
        )
    return None


def _half_states(dtype: str, precision: str, *, trains_weights: bool) -> str | None:
    """The problem of training in fp16; `None` if there is none.

    Adam's squares of gradients below 2e-4 are zero there, so that its steps become a hundred times too large.
    """
    if precision == "16-mixed" and dtype != "float32" and trains_weights:
        return (
            f"expected `policy.dtype: float32` beside `trainer.precision: 16-mixed`, got {dtype}, whose gradients no "
            "loss scale can be taken from; type --policy.dtype float32, or train adapters"
        )
    if precision == "16-true" or (dtype == "float16" and trains_weights):
        got = "`trainer.precision: 16-true`" if precision == "16-true" else "`policy.dtype: float16`"
        what = "weights" if trains_weights else "adapters"
        typed = (
            "--policy.dtype float32 --trainer.precision 16-mixed" if trains_weights else "--trainer.precision 32-true"
        )
        return (
            f"expected trained {what} in float32 or bfloat16 without DeepSpeed, got {got}: in fp16 squares of small "
            f"gradients are zero, and an optimizer's steps a hundred times too large; type {typed}"
        )
    return None


def trained_dtype(dtype: str, precision: str, lora: LoRA | None) -> str:
    """The lowest precision of what is trained, where no master copy is kept.

    Adapters alone are fp32 unless the precision casts them.
    """
    return "float32" if lora is not None and not lora.also_train and precision not in CASTS else dtype
