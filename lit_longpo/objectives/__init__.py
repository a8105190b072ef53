"""One paper, one file: the objectives a recipe can name."""

from lit_longpo.objectives.base import PreferenceModule
from lit_longpo.objectives.logo import LOGO
from lit_longpo.objectives.longpo import LongPO
from lit_longpo.objectives.pairwise import DPO, ORPO, SFT, SimPO
from lit_longpo.objectives.solopo import SoLoPO

__all__ = ["DPO", "LOGO", "ORPO", "SFT", "LongPO", "PreferenceModule", "SimPO", "SoLoPO"]
