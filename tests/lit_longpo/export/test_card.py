"""What a model card says is what the run did."""

import pytest

from lit_longpo.export.card import model_card
from lit_longpo.objectives import DPO


@pytest.mark.parametrize(("typed", "shown"), [(None, "long"), ("short", "short")])
def test_the_context_that_a_pair_was_scored_in_is_told(typed, shown):
    """It was null where nobody typed it."""
    model = {"class_path": "lit_longpo.objectives.DPO", "init_args": {"beta": 0.1, "context": typed}}
    record = {"settings": DPO(context=typed).settings}
    card = model_card({"policy": {"source": "x/y"}, "model": model}, record, adapters=False)
    assert f'"context": "{shown}"' in card
    assert "null" in model_card({"policy": {"source": "x/y"}, "model": model}, {}, adapters=False) or typed
