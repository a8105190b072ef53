"""What a training loses, row by row."""

from lightning.pytorch import Callback


class Losses(Callback):
    """The loss of every row, as the trainer hands it to callbacks."""

    def __init__(self):
        self.values = []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.values.append(outputs["loss"].item())
