import json
from importlib.util import find_spec
from pathlib import Path

import pytest
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.loggers import TensorBoardLogger
from support.losses import Losses
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from data_modules import SyntheticDataModule
from evaluation import LMEvalCallback
from evaluation.callbacks.lm_eval import forgetting, scores_of
from lit_longpo.objectives import SimPO
from lit_longpo.policy import PolicyConfig, PromptTemplate

needs_harness = pytest.mark.skipif(find_spec("lm_eval") is None, reason="no extra lm-eval")

CHOICE = """
task: drinks
dataset_path: json
dataset_kwargs: {{data_files: {{test: {path}}}, cache_dir: {cache}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{context}}}} Complete: {{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{label}}}}"
metric_list: [{{metric: acc}}]
"""
GENERATE = """
task: spoken
dataset_path: json
dataset_kwargs: {{data_files: {{test: {path}}}, cache_dir: {cache}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{context}}}} Complete: {{{{question}}}}"
doc_to_target: "{{{{choices[label]}}}}"
generation_kwargs: {{max_gen_toks: 2, until: ["."], do_sample: false}}
metric_list: [{{metric: exact_match}}]
"""


def write_tasks(folder):
    """Facts about one person: what the embedded model was trained to complete."""
    names, drinks = ("Ada", "Ben", "Cora", "Dan"), ("tea", "coffee", "milk", "juice")
    rows = [
        {"context": f"Pour {name} {drinks[n]} .", "question": f"Pour {name}", "choices": drinks, "label": n}
        for n, name in enumerate(names)
    ]
    data = folder / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "drinks.yaml").write_text(CHOICE.format(path=data, cache=folder / "cache"))
    (folder / "spoken.yaml").write_text(GENERATE.format(path=data, cache=folder / "cache"))
    return folder


def fit(folder, callbacks):
    seed_everything(1, verbose=False)
    template = PromptTemplate("{context} Complete: {question} ")
    module = SimPO(policy=PolicyConfig(template=template))
    data = SyntheticDataModule(
        num_train=12, num_val=2, short_words=16, long_words=(24, 32), max_examples=4,
        views=module.views, prompt_format=module.policy.prompt_format(),
    )  # fmt: skip
    losses = Losses()
    trainer = Trainer(
        max_steps=2, accelerator="cpu", default_root_dir=folder, use_distributed_sampler=False, log_every_n_steps=1,
        logger=TensorBoardLogger(folder), enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False, num_sanity_val_steps=1, callbacks=[losses, *callbacks],
    )  # fmt: skip
    trainer.fit(module, data)
    return trainer, module, losses.values


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lm_eval")
    tasks = str(write_tasks(folder))
    few = LMEvalCallback(["drinks"], include_path=tasks, limit=2, before_training=False, label="few")
    guard = LMEvalCallback(["drinks", "spoken"], include_path=tasks)
    return *fit(folder, [few, guard]), guard


@needs_harness
def test_the_embedded_model_completes_what_it_was_trained_on(run):
    """Both kinds of task, likelihoods and generation, are really asked of the policy."""
    first = run[3].scores[0]
    assert set(first) == {"benchmark/lm_eval/drinks/acc", "benchmark/lm_eval/spoken/exact_match"}
    assert first["benchmark/lm_eval/drinks/acc"] == 1.0
    assert first["benchmark/lm_eval/spoken/exact_match"] == 1.0


@needs_harness
def test_scores_are_in_tensorboard_before_and_after_training(run):
    events = EventAccumulator(run[0].log_dir)
    events.Reload()
    found = events.Scalars("benchmark/lm_eval/drinks/acc")
    assert [event.step for event in found] == [0, 2]
    assert list(run[3].scores) == [0, 2]
    assert "benchmark/lm_eval/drinks/acc" in run[0].callback_metrics


@needs_harness
def test_the_harness_results_lie_beside_the_run(run):
    path = Path(run[0].log_dir) / "benchmarks" / "lm_eval-step0.json"
    data = json.loads(path.read_text())
    assert data["results"]["drinks"]["acc,none"] == 1.0
    assert data["n-samples"]["drinks"]["effective"] == 4


@needs_harness
def test_two_of_them_are_told_apart_by_a_label(run):
    trainer = run[0]
    few, every = (
        json.loads((Path(trainer.log_dir) / "benchmarks" / f"{name}-step2.json").read_text())
        for name in ("lm_eval-few", "lm_eval")
    )
    assert [found["n-samples"]["drinks"]["effective"] for found in (few, every)] == [2, 4]
    assert {"benchmark/lm_eval/drinks/acc", "benchmark/lm_eval-few/drinks/acc"} <= set(trainer.callback_metrics)
    assert "benchmark/lm_eval-few/spoken/exact_match" not in trainer.callback_metrics


@needs_harness
def test_two_that_would_overwrite_each_other_are_refused_before_training(tmp_path):
    tasks = str(write_tasks(tmp_path))
    twice = [LMEvalCallback(["drinks"], include_path=tasks, limit=limit) for limit in (1, 2)]
    with pytest.raises(ValueError, match=r"lm_eval-step<n>.*set `label` of one"):
        fit(tmp_path, twice)


@pytest.mark.parametrize(
    "other", [{"tasks": ["a"]}, {"num_fewshot": 1}, {"limit": 2}, {"apply_chat_template": True}, {"label": "b"}]
)
def test_the_state_belongs_to_what_is_asked(monkeypatch, other):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: True)
    keys = {LMEvalCallback(**{"tasks": ["a", "b"], **given}).state_key for given in ({}, other)}
    assert len(keys) == 2


@needs_harness
def test_training_is_the_same_without_it(run, tmp_path):
    assert fit(tmp_path, [])[2] == run[2]


@needs_harness
def test_model_and_tokenizer_are_left_as_they_were(run):
    _, module, _, _ = run
    assert module.model.config._attn_implementation == "prefix_shared"
    plain = PolicyConfig().prompt_format().tokenizer
    assert module.prompt_format.tokenizer.padding_side == plain.padding_side
    assert module.prompt_format.tokenizer.pad_token == plain.pad_token


@needs_harness
def test_an_unknown_task_or_folder_is_refused_before_training(tmp_path):
    with pytest.raises(ValueError, match="drinks, spoken, got dinks; correct `tasks`"):
        LMEvalCallback(["dinks"], include_path=str(write_tasks(tmp_path))).setup(None, None, "fit")
    with pytest.raises(FileNotFoundError, match="set `include_path`"):
        LMEvalCallback(["drinks"], include_path=str(tmp_path / "none")).setup(None, None, "fit")
    with pytest.raises(ValueError, match="set `tasks`"):
        LMEvalCallback([])


def test_without_the_extra_the_error_names_the_command(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'lit_longpo\[lm-eval\]'"):
        LMEvalCallback(["drinks"])


def test_metrics_are_named_with_their_filter():
    results = {
        "gsm8k": {"alias": "gsm8k", "exact_match,strict-match": 0.25, "exact_match_stderr,strict-match": 0.1},
        "arc": {"acc,none": 0.5, "acc_stderr,none": "N/A", "sample_len": 12},
    }
    assert scores_of(results) == {
        "benchmark/lm_eval/gsm8k/exact_match_strict-match": 0.25,
        "benchmark/lm_eval/arc/acc": 0.5,
    }
    assert "benchmark/lm_eval-few/arc/acc" in scores_of(results, "lm_eval-few")


def test_forgetting_is_in_the_harness_own_numbers():
    """A perplexity of 12.5, or a BLEU of 31, was shown as 1250 and 3100 percent."""
    before = {"benchmark/lm_eval/lambada/perplexity": 12.5, "benchmark/lm_eval/arc/acc": 0.5}
    after = {"benchmark/lm_eval/lambada/perplexity": 13.0, "benchmark/lm_eval/arc/acc": 0.45}
    assert forgetting(before, after).rows == [
        ("lambada/perplexity", "12.5000", "13.0000", "+0.5000"),
        ("arc/acc", "0.5000", "0.4500", "-0.0500"),
    ]
