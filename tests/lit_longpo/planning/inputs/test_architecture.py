"""Built-in shapes: of every model that a fragment names, with the published number of parameters."""

import pytest
import torch
import yaml
from support.command_line import CONFIGS
from transformers import AutoConfig

from lit_longpo.planning.inputs.architecture import built_in, shape_names
from lit_longpo.planning.sizes import count
from lit_longpo.planning.tracing.model import ModelPlan


@pytest.mark.parametrize("name", shape_names())
def test_built_in_shapes_have_the_published_number_of_parameters(name):
    shape = built_in(name)
    config = AutoConfig.for_model(**shape["config"])
    assert count(ModelPlan(config, torch.bfloat16)).total == shape["parameters"]


def test_every_hub_fragment_has_a_shape():
    sources = [yaml.safe_load(path.read_text())["source"] for path in (CONFIGS / "model").glob("*.yaml")]
    hub = {source for source in sources if "/" in source}
    assert hub == {built_in(name)["source"] for name in shape_names()}
