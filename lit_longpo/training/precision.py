"""Policy, reference and strategy have to agree on one precision."""

# precision of the trainer -> dtype that its plugin casts the weights to
CASTS = {"bf16-true": "bfloat16", "16-true": "float16"}
_OTHERS = ("32-true", "bf16-mixed", "16-mixed")


def precision_problem(dtype: str, precision: str, *, deepspeed: bool, trains_weights: bool = True) -> str | None:
    """What to type where policy and reference would be other models than the configuration says; `None` if all agree.

    A precision that casts the weights does so after they were loaded, so a reference that is loaded later, or that
    was recognised by its weights, would be another model than the policy at step 0.

    Args:
        dtype: of the weights, `policy.dtype`.
        precision: `trainer.precision`.
        deepspeed: whether DeepSpeed holds the weights; with "32-true" it casts them to fp32, with "-mixed" to half.
        trains_weights: whether the policy's own weights are trained, and not adapters alone, which are fp32.
    """
    if precision not in (*CASTS, *_OTHERS):
        return f"expected `trainer.precision` to be one of {', '.join((*_OTHERS, *CASTS))}, got {precision}"
    cast = CASTS.get(precision, "float32" if deepspeed and precision == "32-true" else dtype)
    if precision == "16-mixed" and dtype == "float16" and trains_weights:
        return (
            "expected `policy.dtype: float32` beside `trainer.precision: 16-mixed`, got float16, whose gradients no "
            "loss scale can be taken from; type --policy.dtype float32, or train adapters"
        )
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
