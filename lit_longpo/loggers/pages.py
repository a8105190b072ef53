"""Shows pictures, tables and settings of a run: one class for each kind of logger, and files for all others.

Called on the first process only. Everything is shown under its step, as scalars are.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from lit_longpo.run_folder import typed_path
from lit_longpo.servers import without_passwords

if TYPE_CHECKING:
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)

Values = Mapping[str, str | float]

_KEPT_BY_MLFLOW = 250  # characters of a parameter, in Lightning's logger

# TensorBoard sorts scalars by name; its page of custom scalars keeps this order. Tags are patterns.
_CHARTS = {
    "1 training": {
        "loss": ["^(train|val)/loss$"],
        "margin": ["^(train|val)/rewards/margins$"],
        "share of pairs ranked right": ["^(train|val)/rewards/accuracies$"],
        "learning rate": ["^train/learning_rate$"],
        "gradient norm": ["^train/gradient_norm$"],
    },
    "2 benchmarks": {"means": ["^benchmark/[^/]*/mean$"], "all": ["^benchmark/"]},
    "3 speed and memory": {
        "tokens per second": ["^perf/tokens_per_second$"],
        "seconds": ["^perf/.*_seconds$"],
        "memory": ["^perf/peak_memory_gib$"],
    },
}


@dataclass(frozen=True)
class Table:
    """Rows of text.

    Args:
        header: column names.
        rows: cells, each row as long as the header.
        markdown: the same for loggers that show text.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    markdown: str


class RunPages(ABC):
    """What one logger shows of a run."""

    def __init__(self, logger: Any, folder: Path) -> None:
        self.logger, self.pictures = logger, folder / "pages"

    @abstractmethod
    def figure(self, name: str, figure: "Figure", step: int) -> None:
        """Show a picture."""

    @abstractmethod
    def table(self, name: str, table: Table, step: int) -> None:
        """Show rows of text."""

    def settings(self, values: Values, config: Path) -> None:
        """Show what the run was started with."""
        self.logger.log_hyperparams(dict(values))

    @property
    def viewer(self) -> str | None:
        """What to type to see them; `None` where they are files."""
        return None


class TensorBoardPages(RunPages):
    """IMAGES, TEXT, HPARAMS and CUSTOM SCALARS."""

    def figure(self, name: str, figure: "Figure", step: int) -> None:
        """Among the images."""
        self.logger.experiment.add_figure(name, figure, step)

    def table(self, name: str, table: Table, step: int) -> None:
        """Among the texts."""
        self.logger.experiment.add_text(name, table.markdown, step)

    def settings(self, values: Values, config: Path) -> None:
        """A row in HPARAMS, the configuration among the texts, and charts in our order.

        Only the session is written, not the experiment that `log_hyperparams` writes with it: TensorBoard takes the
        first experiment it meets for all runs, and shows no setting and no metric that another run has besides. From
        sessions alone it finds them all, and puts those that differ first.
        """
        from torch.utils.tensorboard.summary import hparams

        self.logger.hparams.update(values)  # for hparams.yaml
        writer = self.logger.experiment
        _, session, _ = hparams(dict(values), {})
        writer.file_writer.add_summary(session)
        text = config.read_text(encoding="utf-8")
        writer.add_text("config", "\n".join(f"    {line}" for line in text.splitlines()))  # as Markdown shows code
        charts = {
            page: {title: ["Multiline", tags] for title, tags in titles.items()} for page, titles in _CHARTS.items()
        }
        writer.add_custom_scalars(charts)

    @property
    def viewer(self) -> str:
        """TensorBoard, of all runs of the root folder."""
        return f"tensorboard --logdir {typed_path(self.logger.save_dir)}"


class WandbPages(RunPages):
    """Media and tables of the run; its configuration, and config.yaml among its files."""

    def figure(self, name: str, figure: "Figure", step: int) -> None:
        """Among the media."""
        self.logger.log_image(name, [figure], step=step)

    def table(self, name: str, table: Table, step: int) -> None:
        """A table."""
        self.logger.log_table(name, list(table.header), [list(row) for row in table.rows], step=step)

    def settings(self, values: Values, config: Path) -> None:
        """Columns of the project's table of runs."""
        super().settings(values, config)
        self.logger.experiment.save(str(config), base_path=str(config.parent), policy="now")

    @property
    def viewer(self) -> str:
        """The run's page; what brings an offline run there."""
        run = self.logger.experiment
        url = None if run.offline else run.url  # which warns where there is none
        return f"open {url}" if url else f"wandb sync {typed_path(Path(run.dir).parent)}"


class MLFlowPages(RunPages):
    """Artifacts of the run, and its parameters."""

    def figure(self, name: str, figure: "Figure", step: int) -> None:
        """A picture among the artifacts."""
        self.logger.experiment.log_figure(self.logger.run_id, figure, f"{name}-step{step}.png")

    def table(self, name: str, table: Table, step: int) -> None:
        """Markdown among the artifacts."""
        self.logger.experiment.log_text(self.logger.run_id, table.markdown, f"{name}-step{step}.md")

    def settings(self, values: Values, config: Path) -> None:
        """Parameters, and config.yaml among the artifacts.

        A run that is written to again (`run_id`) keeps the parameters that it began with: MLflow refuses others.
        """
        began_with = self.logger.experiment.get_run(self.logger.run_id).data.params
        super().settings({name: value for name, value in values.items() if name not in began_with}, config)
        self.logger.experiment.log_artifact(self.logger.run_id, str(config))
        changed = [name for name, held in began_with.items() if name in values and not _shows(held, values[name])]
        if changed:
            log.warning(
                "MLflow shows the parameters that run %s began with, not this start's %s (its artifact %s has them)",
                self.logger.run_id,
                ", ".join(f"{name}={values[name]}" for name in changed),
                config.name,
            )

    @property
    def viewer(self) -> str:
        """MLflow's pages: a server's, or of a store; without the password that either may have in its address."""
        address = str(self.logger.experiment.tracking_uri)
        is_server = address.startswith(("http://", "https://"))
        return f"{'open' if is_server else 'mlflow ui --backend-store-uri'} {quote(without_passwords(address))}"


class FolderPages(RunPages):
    """Files in `pages` of the run's folder, for loggers that show scalars alone."""

    def figure(self, name: str, figure: "Figure", step: int) -> None:
        """A picture."""
        figure.savefig(self._path(f"{name}-step{step}.png"))

    def table(self, name: str, table: Table, step: int) -> None:
        """Markdown."""
        self._path(f"{name}-step{step}.md").write_text(table.markdown + "\n", encoding="utf-8")

    def _path(self, name: str) -> Path:
        path = self.pictures / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


def _shows(held: str, value: str | float) -> bool:
    """Whether this is a parameter's value, which Lightning's logger cuts off."""
    return str(value)[:_KEPT_BY_MLFLOW] == held


_KINDS: dict[type[Logger], type[RunPages]] = {
    TensorBoardLogger: TensorBoardPages,
    WandbLogger: WandbPages,
    MLFlowLogger: MLFlowPages,
}


def pages_of(loggers: Sequence[Logger], folder: Path) -> list[RunPages]:
    """Where a run shows its pictures, tables and settings."""
    return [_kind(logger)(logger, folder) for logger in loggers]


def _kind(logger: Logger) -> type[RunPages]:
    return next((pages for kind, pages in _KINDS.items() if isinstance(logger, kind)), FolderPages)
