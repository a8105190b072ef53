"""Generates a few tokens before the first answer, to find models that `generate` asks otherwise than they read.

transformers' `generate` counts positions from 0 where RoBERTa's decoders begin behind their padding, and gives caches
to models that take none (GPT-1, XLNet). Some models read their own cache otherwise than a whole text (GIT, CPM-Ant).
Answers would be another model's, or a traceback.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LogitsProcessor, LogitsProcessorList, PreTrainedModel

from lit_longpo.batch import Group, Response
from lit_longpo.engine.attention import UnsupportedModelError
from lit_longpo.engine.decoder import base_model
from lit_longpo.engine.generation.abilities import angles_differ, pads, refuse_padding
from lit_longpo.engine.generation.continuation import continue_rows
from lit_longpo.engine.generation.settings import Limits
from lit_longpo.engine.startup.plain_forward import plain_log_probs
from lit_longpo.engine.startup.probe import TOLERANCE, coarsest_dtype, probe_groups
from lit_longpo.errors import UserError

_TOKENS = 4
_END = 0  # not one of them
_LEAST, _TIMES = 1e-3, 2  # fp32 rounds to 1e-6; what models do wrong is most often 1e-1
_TRIED = "_answers_as_it_reads"


def check_answers(model: nn.Module, *, lockstep: bool = False) -> None:
    """Refuse a model that would answer otherwise than it reads; tried once, inside `generation_mode`.

    One that takes padding for tokens (GIT) is asked for one prompt at a time from then on.

    Args:
        model: a causal language model, perhaps PEFT-wrapped.
        lockstep: as for `continue_rows`.

    Raises:
        UnsupportedModelError: it is one, or `generate` fails.
    """
    base = base_model(model)
    if getattr(base, _TRIED, False) or angles_differ(base):  # of these a prompt's length decides
        return
    group = probe_groups(base.config.get_text_config())[0]
    try:
        error = _error(base, [group], lockstep)
    except UserError:
        raise
    except (AttributeError, IndexError, KeyError, NotImplementedError, TypeError, ValueError) as failure:
        raise _refusal(base, f"fails ({type(failure).__name__}: {str(failure).partition(chr(10))[0]})") from failure
    if error > _tolerance(base):
        raise _refusal(base, f"gives other log-probabilities than its own forward (off by {error:.1e})")
    shorter = replace(group, prompt_ids=group.prompt_ids[: len(group.prompt_ids) // 2])
    if pads(base) and _error(base, [group, shorter], lockstep) > _tolerance(base):
        refuse_padding(base)
    setattr(base, _TRIED, True)


def _refusal(base: PreTrainedModel, what: str) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"expected a model that transformers' `generate` asks as it reads, got {type(base).__name__}, with which it "
        f"{what}: leave out what asks for answers, or set `policy.source` to another model"
    )


def _tolerance(base: PreTrainedModel) -> float:
    return max(_LEAST, _TIMES * TOLERANCE[coarsest_dtype(base)])


def _error(base: PreTrainedModel, groups: Sequence[Group], lockstep: bool) -> float:
    """How far tokens out of a cache are from those of whole texts, relative to the median of all log-probabilities."""
    noted = _Noting()
    options: dict[str, Any] = {"logits_processor": LogitsProcessorList([noted]), "lockstep": lockstep}
    rows = continue_rows(base, [group.prompt_ids for group in groups], Limits(_TOKENS, (_END,)), **options)
    answers = [Response("chosen", tuple(ids), (True,) * len(ids)) for ids in rows]
    alone = [replace(group, responses=(answer,)) for group, answer in zip(groups, answers, strict=True)]
    own = torch.stack([plain_log_probs(base, group, *group.responses) for group in alone])
    every = noted.log_probs()  # of likely tokens alone rounding may be large; of masked ones they are infinite
    found = every.gather(-1, torch.tensor(rows, device=every.device).unsqueeze(-1)).squeeze(-1)
    return float((found - own).abs().max() / every.abs().median())


class _Noting(LogitsProcessor):
    """Remembers every token's logits, and lets no answer end."""

    def __init__(self) -> None:
        self._logits = list[Tensor]()

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Shapes: (rows, num_ids), (rows, vocabulary)."""
        self._logits.append(scores.float())
        return scores.index_fill(1, torch.tensor([_END], device=scores.device), -torch.inf)  # type: ignore[return-value]

    def log_probs(self) -> Tensor:
        """Shape: (rows, num_ids, vocabulary)."""
        return torch.stack(self._logits, dim=1).log_softmax(-1)
