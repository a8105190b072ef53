import dataclasses
import logging

import pytest
from support.byte_tokenizer import CHAT, byte_model

from data_modules.builders.generators.prompts import RequestPrompts
from lit_longpo.export.card import model_card
from lit_longpo.policy import PolicyConfig, PromptTemplate

TRAINED_IN = PromptTemplate("{question}\n{context}", system="Be brief.", options={"think": False})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, None),
        ({"chat": True}, None),  # as it is without a word
        ({"options": {}, "date": None}, None),
        ({"user": "{context} {question}"}, '`policy.template.user` is "{context} {question}", in its training'),
        ({"system": None}, '`policy.template.system` is null, in its training "Be brief."'),
        ({"chat": False, "system": None}, "`policy.template.chat` is false, in its training true"),
    ],
)
def test_another_prompt_than_that_of_the_training_is_said_once(changes, said, tmp_path, caplog):
    """A model of ours that was built from, trained further or asked in another prompt gave no sign of it."""
    byte_model(tmp_path / "model", chat_template=CHAT)
    policy = {"source": "some/base", "template": dataclasses.asdict(TRAINED_IN)}
    card = model_card({"policy": policy}, {}, adapters=False)
    (tmp_path / "model" / "README.md").write_text(card)
    given = PolicyConfig(str(tmp_path / "model"), template=dataclasses.replace(TRAINED_IN, **changes))
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            given.prompt_format()
    found = [text for text in caplog.messages if "another prompt than it was trained in" in text]
    assert len(found) == (0 if said is None else len(changes))
    assert sum(said in text for text in found) == 1 if said else not found


def test_a_request_of_its_own_wording_is_no_other_prompt(tmp_path, caplog):
    """Every build of a model from here was told of its recipe's questions as of a mistake."""
    byte_model(tmp_path / "model", chat_template=CHAT)
    policy = PolicyConfig(str(tmp_path / "model"), template=TRAINED_IN)
    card = model_card(
        {"policy": {"source": "some/base", "template": dataclasses.asdict(TRAINED_IN)}}, {}, adapters=False
    )
    (tmp_path / "model" / "README.md").write_text(card)
    form = RequestPrompts(policy).format("You judge.")
    assert "You judge." in form.tokenizer.decode(form.encode_prompt("", "Which?").ids)
    assert "another prompt" not in caplog.text


def test_cards_of_others_say_nothing(tmp_path, caplog):
    byte_model(tmp_path / "model", chat_template=CHAT)
    (tmp_path / "model" / "README.md").write_text("---\nprompt_template: '[INST] {prompt} [/INST]'\n---\n")
    PolicyConfig(str(tmp_path / "model")).prompt_format()
    assert "another prompt" not in caplog.text
