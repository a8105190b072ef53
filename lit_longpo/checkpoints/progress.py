"""Where a run stands, as its checkpoint says it."""

from typing import Any


def reopen_epoch(checkpoint: dict[str, Any]) -> None:
    """Say that an epoch which `max_steps` ended before its last row goes on.

    Lightning 2.6 calls it processed. A run that is continued with more steps would then leave the other rows out, and
    with `max_epochs` 1 train nothing.

    Args:
        checkpoint: what Lightning is about to save; changed in place.
    """
    loop = checkpoint.get("loops", {}).get("fit_loop")
    if loop is None or loop["epoch_loop.batch_progress"]["is_last_batch"]:
        return
    epochs = loop["epoch_progress"]
    if epochs["current"]["processed"] == epochs["current"]["started"] > epochs["current"]["completed"]:
        for counts in epochs.values():
            counts["processed"] -= 1
