"""Built-in shapes: of every model that a fragment names, with the published number of parameters."""

import pytest
import torch
import yaml
from support.command_line import CONFIGS
from support.tiny_models import tiny_config
from transformers import AutoConfig

from lit_longpo.errors import InputError
from lit_longpo.planning.inputs.architecture import built_in, find_config, shape_names
from lit_longpo.planning.sizes import count
from lit_longpo.planning.tracing.model import ModelPlan
from lit_longpo.policy import PolicyConfig


@pytest.mark.parametrize("name", shape_names())
def test_built_in_shapes_have_the_published_number_of_parameters(name):
    shape = built_in(name)
    config = AutoConfig.for_model(**shape["config"])
    assert count(ModelPlan(config, torch.bfloat16)).total == shape["parameters"]


def test_every_hub_fragment_has_a_shape():
    sources = [yaml.safe_load(path.read_text())["source"] for path in (CONFIGS / "model").glob("*.yaml")]
    hub = {source for source in sources if "/" in source}
    assert hub == {built_in(name)["source"] for name in shape_names()}


@pytest.mark.parametrize("named", [True, False])
def test_models_that_fit_refuses_have_no_plan(named, tmp_path):
    """HRM-Text's was asked for a list of layers."""
    tiny_config("HrmText", head_dim=8, num_key_value_heads=4).save_pretrained(tmp_path)
    policy = PolicyConfig() if named else PolicyConfig(source=str(tmp_path))
    with pytest.raises(InputError, match=r"expected a model whose tokens see earlier ones alone .*`prefix_lm: false`"):
        find_config(policy, str(tmp_path / "config.json") if named else None)
