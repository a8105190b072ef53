"""Where preference pairs come from."""

from data_modules.pairs import PairDataModule
from data_modules.pretraining import WorldTextDataModule
from data_modules.synthetic import SyntheticDataModule, WorldHaystack

__all__ = ["PairDataModule", "SyntheticDataModule", "WorldHaystack", "WorldTextDataModule"]
