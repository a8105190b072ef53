"""The fast path: packed rows, prefix-shared attention, tiled log-probabilities."""

from lit_longpo.engine.attention import ATTENTION_NAMES, PREFIX_SHARED, UnsupportedModelError, register
from lit_longpo.engine.decoder import base_model
from lit_longpo.engine.generation.continuation import continue_rows
from lit_longpo.engine.generation.nan_logits import NanDetector, nan_error
from lit_longpo.engine.generation.prefilling import prefill
from lit_longpo.engine.generation.settings import Limits, end_ids, greedy_settings, until_stop_ids
from lit_longpo.engine.generation.spreading import spreads
from lit_longpo.engine.modes import eval_mode, generation_mode
from lit_longpo.engine.packing import pack
from lit_longpo.engine.prompt_trie import SHARED_FROM, num_row_tokens
from lit_longpo.engine.rotary import exchanged_rotary, rotary_embedding
from lit_longpo.engine.routers import check_routers, router_coefficient
from lit_longpo.engine.scoring import score
from lit_longpo.engine.startup.probe import check_model
from lit_longpo.engine.startup.scoring_plan import ScoringPlan, plan_scoring
from lit_longpo.engine.startup.trial import check_answers
from lit_longpo.engine.ulysses.degrees import check_heads, feasible_degrees
from lit_longpo.engine.ulysses.sequence_parallel import sequence_ranks, set_sequence_group

register()

__all__ = [
    "ATTENTION_NAMES",
    "PREFIX_SHARED",
    "SHARED_FROM",
    "Limits",
    "NanDetector",
    "ScoringPlan",
    "UnsupportedModelError",
    "base_model",
    "check_answers",
    "check_heads",
    "check_model",
    "check_routers",
    "continue_rows",
    "end_ids",
    "eval_mode",
    "exchanged_rotary",
    "feasible_degrees",
    "generation_mode",
    "greedy_settings",
    "nan_error",
    "num_row_tokens",
    "pack",
    "plan_scoring",
    "prefill",
    "rotary_embedding",
    "router_coefficient",
    "score",
    "sequence_ranks",
    "set_sequence_group",
    "spreads",
    "until_stop_ids",
]
