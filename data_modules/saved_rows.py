"""A data module of stored rows, to compute again what made a loss NaN or infinite."""

from collections.abc import Iterator
from pathlib import Path

from lightning.pytorch import LightningDataModule
from torchdata.stateful_dataloader import StatefulDataLoader

from data_modules.files.record_files import existing_file
from lit_longpo.batch import PackedBatch, Views
from lit_longpo.policy import PromptFormat
from lit_longpo.saved_rows import read_rows


class SavedRows(LightningDataModule):
    """The rows of a file that `NonFiniteGuard` has written, in their order; nothing is tokenised or packed again.

    Args:
        path: of the file.
        views: of the objective, which must be that of the run; the command line fills it in.
        prompt_format: unused, as the rows hold tokens; the command line fills it in.
    """

    def __init__(self, path: str, views: Views | None = None, prompt_format: PromptFormat | None = None) -> None:
        super().__init__()
        self.views = views
        self.rows = read_rows(Path(existing_file(path, "data.path", "a file that NonFiniteGuard has written")))

    def train_dataloader(self) -> StatefulDataLoader:
        """Every row once."""
        return StatefulDataLoader(self.rows, batch_size=None)

    def val_dataloader(self) -> StatefulDataLoader:
        """The same rows."""
        return self.train_dataloader()

    def reference_dataloader(self) -> Iterator[PackedBatch]:
        """Rows that the reference scores."""
        return (row.reference for row in self.rows if row.reference is not None)
