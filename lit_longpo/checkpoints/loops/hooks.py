"""Hooks of Lightning's own callbacks that do something else here, each put in place once."""

from collections.abc import Callable, Iterator

from lightning.pytorch import Callback, Trainer


def unchanged_hooks(
    trainer: Trainer, kinds: type[Callback] | tuple[type[Callback], ...], *names: str
) -> Iterator[tuple[Callback, str, Callable[..., None]]]:
    """The hooks of some callbacks that are still their class's; a trainer may fit more than once.

    Args:
        trainer: about to fit, with its callbacks.
        kinds: of callbacks.
        names: of hooks.

    Yields:
        Callback, the hook's name, and the hook.
    """
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        for name in names if isinstance(callback, kinds) else ():
            if name not in vars(callback):
                yield callback, name, getattr(callback, name)
