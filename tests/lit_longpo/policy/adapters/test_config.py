"""Settings of adapters that would be read as others than were trained are refused, or said."""

import json

import pytest
from peft import PromptTuningConfig
from support.adapter_folders import adapters, edited, ours

from lit_longpo.errors import UserError


@pytest.mark.parametrize("start", ["pissa_niter_4", "corda", "loftq", "lora_ga"])
def test_a_base_that_nobody_finds_again_is_refused(start, policy_folder, tmp_path):
    """ "pissa_niter_4" draws other numbers each time: log-probabilities were off by 4."""
    adapters(policy_folder, tmp_path)
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "init_lora_weights": start}))
    with pytest.raises(UserError, match=rf"expected adapters whose base can be restored.*`init_lora_weights: {start}`"):
        ours(tmp_path).load()


def test_settings_that_peft_would_leave_out_are_refused_or_said(policy_folder, tmp_path, caplog):
    adapters(policy_folder, tmp_path / "a")
    edited(tmp_path / "a", use_newlora=False, newlora_config=None, newlora_terms=[])
    ours(tmp_path / "a").load()
    assert "does not know" not in caplog.text
    edited(tmp_path / "a", newlora_size=16, peft_version="9.9").load()
    assert caplog.text.count("does not know `newlora_size: 16` (of peft 9.9) and leaves it out") == 1
    with pytest.raises(ValueError, match=r"knows in .*_config\.json, got `newlora_size: 16`, `use_newlora: True`"):
        edited(tmp_path / "a", use_newlora=True).load()
    with pytest.raises(ValueError, match=r"`newlora_config: {'x': 1}`.*type pip install -U peft"):
        edited(tmp_path / "a", use_newlora=False, newlora_config={"x": 1}).load()
    with pytest.raises(
        ValueError, match=r"apply to every token in .*got activated LoRA \(`alora_invocation_tokens: \[3\]`"
    ):
        edited(tmp_path / "a", newlora_config=None, alora_invocation_tokens=[3]).load()
    with pytest.raises(ValueError, match=r"\(`alora_invocation_tokens: \\n`\), which") as caught:
        edited(tmp_path / "a", newlora_config=None, alora_invocation_tokens="\n").load()
    assert "\n" not in str(caught.value)


def test_prompts_that_were_learnt_are_refused(policy_folder, tmp_path):
    adapters(policy_folder, tmp_path / "p", config=PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2))
    with pytest.raises(ValueError, match=r"expected LoRA adapters .*, got PROMPT_TUNING"):
        ours(tmp_path / "p").load()


def test_a_router_of_other_adapters_is_refused(policy_folder, tmp_path):
    """It said that the folder's files should be copied once more (AttributeError in peft)."""
    adapters(policy_folder, tmp_path)
    with pytest.raises(UserError, match=r"whole by themselves in .*got a router \(`arrow_config`\), .*; set "):
        edited(tmp_path, arrow_config={}).load()
    edited(tmp_path, arrow_config=None).load()


def test_layers_that_stand_in_the_model_more_than_once_are_refused(policy_folder, tmp_path):
    """peft copies configurations, too, where the engine has set no attention: training ended in a traceback."""
    adapters(policy_folder, tmp_path, layer_replication=[(0, 2), (1, 2)])
    with pytest.raises(UserError, match=r"got `layer_replication: \[\[0, 2\], \[1, 2\]\]`, which repeats some layers"):
        ours(tmp_path).load()


def test_scales_that_versions_of_peft_read_otherwise_are_refused(policy_folder, tmp_path):
    """peft 0.13 trained with the scale of all layers, 0.18 with the key's (peft#2419); most files do not say which."""
    adapters(policy_folder, tmp_path / "a", alpha_pattern={"^model.layers.0.self_attn.q_proj": 3})
    edited(tmp_path / "a").load()
    for before in (None, "0.14", "0.13.2"):
        with pytest.raises(ValueError, match=r"`alpha_pattern` that means one thing .*\^model.*`peft_version`"):
            edited(tmp_path / "a", peft_version=before).load()
    edited(tmp_path / "a", peft_version="0.15.0").load()
    edited(tmp_path / "a", peft_version=None, alpha_pattern={"q_proj": 3}).load()


def test_adapters_of_other_libraries_say_where_to_merge_them(policy_folder, tmp_path):
    """MLX's adapter_config.json names no `peft_type`, and peft cannot read its weights."""
    adapters(policy_folder, tmp_path / "a")
    with pytest.raises(ValueError, match=r"expected LoRA adapters .*, got None; merge .* `mlx_lm.fuse`"):
        edited(tmp_path / "a", peft_type=None, fine_tune_type="lora").load()
