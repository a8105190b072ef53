"""How the embedded model was made: both stages of its pre-training once more, and the model that is shipped."""

from collections.abc import Iterator

from results.cells import Cell, Settings, Suite
from results.suites import embedded

_NAME = "pretraining"
LENGTHS = (32, 64, 128, 256, 384, 512)
_STAGES = ("configs/pretrain_tiny.yaml", "configs/pretrain_tiny_stage2.yaml")


def cells(settings: Settings) -> Iterator[Cell]:
    """The shipped model; the first stage, then the second from its weights. All are asked the same needles."""
    yield embedded.asking("shipped", LENGTHS, (0.1, 0.5, 0.9), toy=settings.toy)
    made = ("model/model.safetensors",)
    first, second = (_training(settings, config) for config in _STAGES)
    yield Cell("stage-1", first, made=made, device="cpu")
    source = f"--policy.source={settings.work}/{_NAME}/stage-1/model"
    yield Cell("stage-2", (*second, source), after=("stage-1",), made=made, device="cpu")


def _training(settings: Settings, config: str) -> tuple[str, ...]:
    toy = ("--trainer.max_steps=2",) if settings.toy else ()
    return (
        *("fit", "--config", config, "--trainer.callbacks.directory={run}/model"),
        *("--trainer.callbacks+=results.costs.CostMeter", "--trainer.logger=CSVLogger"),
        *("--trainer.logger.save_dir={run}", "--trainer.logger.name=", "--trainer.logger.version=log"),
        *("--trainer.default_root_dir={run}", "--trainer.enable_progress_bar=false", *toy),
    )


SUITE = Suite(_NAME, cells)
