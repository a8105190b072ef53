"""Checks that a record has the fields that the objective reads."""

from data_modules.records import PreferencePair
from lit_longpo.batch import Views
from lit_longpo.errors import InputError


def check_requirements(pair: PreferencePair, views: Views, *, long_from_short: bool) -> None:
    """Refuse a record that lacks a field that is read, or has one that nothing would honour.

    Raises:
        InputError: the record, what is missing, and what to do.
    """
    if long_from_short and pair.turns:
        raise InputError(
            f"`long_positions: synthesised` takes single-turn pairs, record {pair.named} has {1 + len(pair.turns)} "
            "turns; set `data.init_args.long_positions: true`"
        )
    asked = (*views.policy, *views.reference)
    _check_contexts(pair, {"short" if long_from_short else view.context for view in asked})
    if any(view.role == "rejected" for view in asked):
        _check_rejected(pair, views)


def _check_contexts(pair: PreferencePair, read: set[str]) -> None:
    if "short" in read and not all(turn.short_context for turn in pair.all_turns):
        raise InputError(
            f"expected a `short_context` in record {pair.named}, which the objective reads, got none; build pairs "
            "that have both contexts (`python -m lit_longpo build --config configs/build/solopo.yaml` or longpo.yaml), "
            "name the column that has one (`data.init_args.columns`: short_context, of whole prompts short_prompt), or "
            "train an objective that reads the long one only (DPO, SimPO, ORPO, IPO, SFT)"
        )
    if "long" in read and not pair.long_context:
        raise InputError(
            f"expected a `long_context` in record {pair.named}, which the objective reads, got none; add it, or set "
            "`model.init_args.context: short`"
        )


def _check_rejected(pair: PreferencePair, views: Views) -> None:
    if len(pair.rejected) < views.num_rejected:
        advice = "or lower the objective's `model.init_args.num_rejected`"
        if not pair.rejected:
            advice = "or train on chosen answers alone (`--model configs/objective/sft.yaml`: SFT)"
        raise InputError(
            f"expected {views.num_rejected} rejected answer{'s' * (views.num_rejected > 1)} in the field 'rejected' of "
            f"record {pair.named}, got {len(pair.rejected) or 'none'}; "
            f"add some, {advice}"
        )
    if pair.margin and not views.margins:
        raise InputError(
            f"expected no margin with an objective whose loss subtracts none (IPO has a target of its own), got "
            f"{pair.margin:g} in record {pair.named}; take the field `margin` out of the data, or train DPO, SimPO, "
            "ORPO, LongPO or LOGO"
        )
