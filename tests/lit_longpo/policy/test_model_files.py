"""Numbers of a configuration are looked at before transformers makes modules of them."""

import json
import shutil

import pytest
from transformers import PretrainedConfig

from lit_longpo.errors import InputError, UserError
from lit_longpo.policy import PolicyConfig
from lit_longpo.policy.model_files import check_depth


@pytest.mark.parametrize("layers", [10**40, 1e40])
def test_layers_without_end_are_refused_before_any_is_made(layers, policy_folder, tmp_path):
    shutil.copytree(policy_folder, tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "num_hidden_layers": layers}))
    with pytest.raises(UserError, match=r"num_hidden_layers|transformers can read") as caught:
        PolicyConfig(source=str(tmp_path / "model")).load()
    assert len(str(caught.value).splitlines()) == 1


def test_numbers_of_parts_are_looked_for_wherever_they_stand():
    counts = {"text_config": {"moe_num_experts": 10**9}, "vocab_size_per_layer_input": 10**9, "num_layers": True}
    with pytest.raises(InputError, match=r"expected moe_num_experts of at most 20,000 .* at here, got 1e\+09; correct"):
        check_depth(PretrainedConfig(**counts), "here")
    check_depth(PretrainedConfig(vocab_size_per_layer_input=10**9, n_routed_experts=16384), "here")
