"""Where preference pairs come from."""

from data_modules.base import PairDataModule
from data_modules.documents import DocumentDataModule
from data_modules.mixture import MixtureDataModule
from data_modules.preference import PreferenceDataModule
from data_modules.pretraining import WorldTextDataModule
from data_modules.qa import QADataModule
from data_modules.saved_rows import SavedRows
from data_modules.synthetic import SyntheticDataModule, WorldHaystack

__all__ = [
    "DocumentDataModule",
    "MixtureDataModule",
    "PairDataModule",
    "PreferenceDataModule",
    "QADataModule",
    "SavedRows",
    "SyntheticDataModule",
    "WorldHaystack",
    "WorldTextDataModule",
]
