"""The profiler overlay leaves a trace that names our work."""

from support.command_line import CONFIGS, build
from support.preference_data import RandomPairs

from lit_longpo.objectives import ORPO
from lit_longpo.policy import PolicyConfig


def test_a_trace_is_written(policy_folder, tmp_path):
    arguments = ("--config", CONFIGS / "solopo.yaml", "--config", CONFIGS / "overlays" / "profile.yaml")
    options = ("--trainer.max_steps", 6, "--trainer.callbacks", "[]", "--trainer.default_root_dir", tmp_path)
    trainer = build(*arguments, *options, "--trainer.enable_checkpointing", "false").trainer
    module = ORPO(policy=PolicyConfig(source=str(policy_folder)))
    trainer.fit(module, datamodule=RandomPairs(module.views, num_examples=16))
    traces = list(tmp_path.rglob("*.pt.trace.json"))
    assert traces
    assert any("optimizer_step" in trace.read_text() for trace in traces)
