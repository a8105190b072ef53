"""The table of costs in the objectives' README is counted here, not by hand."""

import inspect
from functools import partial
from pathlib import Path

import pytest
import torch
from support.tiny_models import tiny_model
from support.word_tokenizer import word_tokenizer

from data_modules.records import PreferencePair
from data_modules.rows.dealing.dealer import collate
from data_modules.rows.encoding import PairEncoder
from data_modules.rows.truncation import LengthPolicy, SplitLengths
from lit_longpo import objectives
from lit_longpo.engine import base_model, score
from lit_longpo.policy import LoRA, PolicyConfig, PromptFormat, PromptTemplate, ReferenceConfig
from lit_longpo.policy.reference.cache import ReferenceCache, fill_cache
from lit_longpo.policy.reference.reference import reference_mode

NAMES = {
    name
    for name in objectives.__all__
    if inspect.isclass(cls := getattr(objectives, name))
    and issubclass(cls, objectives.PreferenceModule)
    and not inspect.isabstract(cls)
}
README = Path(objectives.__file__).parent / "README.md"
FORMAT = PromptFormat(word_tokenizer(), PromptTemplate("{context} {question}"))


def words(count):
    return " ".join(["word1"] * count)


def table():
    lines = [line.replace("\\|", "") for line in README.read_text().splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


@pytest.mark.parametrize("row", table(), ids=lambda row: row[0])
def test_the_table_says_what_is_packed(row):
    name, _, _, policy_views, row_tokens, scored, forwards, separate, reference_views, reference_tokens = row
    objective = eval(name if "(" in name else f"{name}()", vars(objectives))
    # <bos> + context + question = 1,000 and 8,000 tokens; an answer is 63 words and <eos>.
    pair = PreferencePair("p", words(10), words(989), words(7989), words(63), (words(63), words(63)))
    encoded = PairEncoder(FORMAT, objective.views, LengthPolicy()).encode(pair, SplitLengths())
    batch = collate([encoded])
    assert ", ".join(map(str, objective.views.policy)) == policy_views
    assert (", ".join(map(str, objective.views.reference)) or "none") == reference_views
    assert f"{batch.policy.num_tokens:,}" == row_tokens
    assert f"{len(batch.policy.score_targets):,}" == scored
    alone = sum(len(group.prompt_ids) + len(r.token_ids) for group in encoded.policy for r in group.responses)
    assert f"{alone:,}" == separate
    assert f"1 ({sum(len(group.responses) for group in encoded.policy)})" == forwards
    assert f"{batch.reference.num_tokens if batch.reference else 0:,}" == reference_tokens


@pytest.mark.parametrize("name", sorted(NAMES))
def test_all_views_are_scored_in_one_forward(name):
    pair = PreferencePair("p", words(2), words(3), words(9), words(1), (words(2), words(3)))
    views = getattr(objectives, name)().views
    batch = collate([PairEncoder(FORMAT, views, LengthPolicy()).encode(pair, SplitLengths())])
    model, calls = tiny_model("Llama"), []
    model.get_decoder().register_forward_hook(lambda *_: calls.append(1))
    scores = score(model, batch.policy)
    assert len(calls) == 1
    assert {(slot.context, slot.role) for slot in scores.slots} >= {(view.context, view.role) for view in views.policy}


@pytest.mark.parametrize(
    "objective", [objectives.DPO, objectives.IPO, partial(objectives.SoLoPO, base=objectives.DPO()), objectives.LongPO]
)
def test_a_reference_costs_one_forward_a_row_online_and_none_once_it_is_cached(objective, policy_folder, tmp_path):
    policy = PolicyConfig(source=str(policy_folder), lora=LoRA(r=2))
    module = objective(policy=policy, reference=ReferenceConfig("online"))
    module.configure_model()
    pair = PreferencePair("p", words(2), words(3), words(9), words(1), (words(2), words(3)))
    batch = collate([PairEncoder(FORMAT, module.views, LengthPolicy()).encode(pair, SplitLengths())])
    assert batch.same_row == (module.views.policy == module.views.reference)
    forwards = []  # whether with gradients, and of how many tokens
    base_model(module.model).get_decoder().register_forward_pre_hook(
        lambda _, __, given: forwards.append((torch.is_grad_enabled(), given["input_ids"].shape[1])), with_kwargs=True
    )
    online = module._per_example(batch)["loss"]
    assert forwards == [(True, batch.policy.num_tokens), (False, batch.reference.num_tokens)]
    forwards.clear()
    module.reference.cache = ReferenceCache(tmp_path)
    fill_cache(module.reference.cache, lambda: reference_mode(module.model), [batch.reference], torch.device("cpu"))
    cached = module._per_example(batch)["loss"]
    assert forwards == [(False, batch.reference.num_tokens), (True, batch.policy.num_tokens)]
    torch.testing.assert_close(cached, online)


def test_every_objective_is_in_the_table():
    listed = {row[0].partition("(")[0] for row in table()}
    assert listed == NAMES
