"""A logger without a folder for each run."""

from lightning.pytorch.loggers import Logger


class Tracked(Logger):
    """Says where all of its runs lie and what this one is called, as W&B's and MLflow's loggers do."""

    def __init__(self, save_dir, version):
        super().__init__()
        self.where, self.identity = save_dir, version

    name, version, save_dir = "project", property(lambda self: self.identity), property(lambda self: self.where)

    def log_metrics(self, metrics, step=None):
        pass

    def log_hyperparams(self, params, *args, **kwargs):
        pass
