"""One paper, one file: the objectives a recipe can name, and their pure losses."""

from lit_longpo.objectives.base import PreferenceModule
from lit_longpo.objectives.dpo import DPO, dpo_loss
from lit_longpo.objectives.ipo import IPO, ipo_loss
from lit_longpo.objectives.logo import LOGO, logo_loss
from lit_longpo.objectives.longpo import LongPO, longpo_loss
from lit_longpo.objectives.orpo import ORPO, orpo_loss
from lit_longpo.objectives.pairwise import PairwiseAlgorithm, PairwiseModule, Scored
from lit_longpo.objectives.sft import SFT, sft_loss
from lit_longpo.objectives.simpo import SimPO, simpo_loss
from lit_longpo.objectives.solopo import SoLoPO, solo_ra_penalty, solopo_loss

__all__ = [
    "DPO",
    "IPO",
    "LOGO",
    "ORPO",
    "SFT",
    "LongPO",
    "PairwiseAlgorithm",
    "PairwiseModule",
    "PreferenceModule",
    "Scored",
    "SimPO",
    "SoLoPO",
    "dpo_loss",
    "ipo_loss",
    "logo_loss",
    "longpo_loss",
    "orpo_loss",
    "sft_loss",
    "simpo_loss",
    "solo_ra_penalty",
    "solopo_loss",
]
