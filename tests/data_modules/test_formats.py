"""Records of every format become the rows of transformers, and train through the command line; or are refused."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file
from support.chat_formats import chat_bpe_tokenizer, needs_sanitizing
from support.command_line import CONFIGS
from support.preference_formats import APART, ASK, DOC, LONG, WHOLE, talk
from support.tiny_models import tiny_config

from data_modules import PreferenceDataModule
from data_modules.messages import Message
from lit_longpo import __main__ as command
from lit_longpo.batch import View, Views
from lit_longpo.objectives import SFT, LongPO, PreferenceModule, SimPO, SoLoPO
from lit_longpo.policy import PromptFormat, PromptTemplate

SMALL = (
    *("--data.val_fraction", "0", "--data.max_examples", "2", "--trainer.max_steps", "2", "--trainer.max_epochs", "-1"),
    *("--trainer.logger", "false", "--trainer.callbacks", "[SavePretrained]", "--trainer.enable_progress_bar", "false"),
    *("--trainer.enable_model_summary", "false", "--trainer.enable_checkpointing", "false"),
    *("--trainer.val_check_interval", "null", "--trainer.limit_val_batches", "0"),
)
# The mapping and the record alone, of every sample by its name.
RECORDS: dict[str, tuple[dict[str, Any], dict[str, str], dict[str, Any]]] = {
    **{name: (record, {}, more) for name, (_, record, more) in WHOLE.items()},
    **{name: (record, columns, more) for name, (_, record, columns, more) in APART.items()},
}


def write(path: Path, record: dict[str, Any], times: int = 1) -> Path:
    ids = ("id", "prompt_id")
    record = {name: value for name, value in record.items() if name not in ids or times == 1}
    path.write_text((json.dumps(record) + "\n") * times)
    return path


def conversation(name: str, more: dict[str, Any]) -> list[dict[str, str]]:
    """What the record means, from the table of samples alone."""
    text = LONG if name in WHOLE else f"{DOC}\n\n{ASK}"
    system = [Message("system", more["system"])] if "system" in more else []
    said = [*system, *more.get("history", ()), Message("user", text), *more.get("followup", ())]
    return [{"role": message.role, "content": message.content} for message in said]


def module(path: Path, views: Views, chat: str = "chatml", **options: Any) -> PreferenceDataModule:
    prompt_format = PromptFormat(chat_bpe_tokenizer(chat), PromptTemplate())
    return PreferenceDataModule(str(path), val_fraction=0.0, views=views, prompt_format=prompt_format, **options)


@pytest.mark.parametrize("chat", [pytest.param("chatml", marks=needs_sanitizing), "llama3"])
@pytest.mark.parametrize("name", RECORDS)
def test_rows_are_those_of_transformers(name: str, chat: str, tmp_path: Path) -> None:
    record, columns, more = RECORDS[name]
    answers, tokenizer = ["nine", *more.get("rejected", ["two"])], chat_bpe_tokenizer(chat)
    views = tuple(View("long", role) for role in ("chosen", "rejected")[: len(answers)])
    data = module(
        write(tmp_path / "data.jsonl", record), Views(views, (), len(answers) - 1, margins=True), chat, columns=columns
    )
    data.setup("fit")
    (batch,) = data.train_dataloader()

    def tokens(messages: list[dict[str, str]], **options: bool) -> list[int]:
        return list(tokenizer.apply_chat_template(messages, sanitize_control_tokens=True, **options)["input_ids"])

    messages = conversation(name, more)
    expected = prompt = tokens(messages, add_generation_prompt=True)
    for answer in answers:
        whole = tokens([*messages, {"role": "assistant", "content": answer}])
        assert whole[: len(prompt)] == prompt
        expected = expected + whole[len(prompt) : whole.index(tokenizer.eos_token_id, len(prompt)) + 1]
    assert batch.policy.input_ids[0].tolist() == expected


@pytest.mark.parametrize(
    ("objective", "name", "message"),
    [
        (SoLoPO(), "text", r"a `short_context` in record 'data.jsonl:1'.*python -m lit_longpo build --config"),
        (LongPO(), "history", r"a `short_context` in record 'data.jsonl:1'.*python -m lit_longpo build --config"),
        (
            SimPO(),
            "sft",
            r"expected 1 rejected answer in .* 'rejected' of record 'data.jsonl:1' \(PATH:1\), got none; .*SFT",
        ),
        (SFT(context="short"), "sft", r"a `short_context` in record 'data.jsonl:1' \(PATH:1\)"),
    ],
)
def test_only_what_the_objective_reads_is_required(
    objective: PreferenceModule, name: str, message: str, tmp_path: Path
):
    path = write(tmp_path / "data.jsonl", RECORDS[name][0])
    with pytest.raises(ValueError, match=message.replace("PATH", re.escape(str(path)))) as caught:
        module(path, objective.views).setup("fit")
    assert "\n" not in str(caught.value)
    module(path, SFT().views).setup("fit")


def test_a_short_prompt_is_the_short_row(tmp_path: Path) -> None:
    """Whole messages with both contexts: SoLoPO's rows are those of transformers, the same system before either."""
    record = {"prompt": talk(LONG, system="Be brief."), "short_prompt": ASK, "chosen": "nine", "rejected": "two"}
    data, tokenizer = (
        module(write(tmp_path / "data.jsonl", record), SoLoPO().views, "llama3"),
        chat_bpe_tokenizer("llama3"),
    )
    data.setup("fit")
    (batch,) = data.train_dataloader()
    rows = list[int]()
    for text, answers in ((ASK, ("nine", "two")), (LONG, ("nine",))):
        prompt = tokenizer.apply_chat_template(talk(text, system="Be brief."), add_generation_prompt=True)["input_ids"]
        rows += prompt + [token for answer in answers for token in tokenizer.encode(f"{answer}<|eot_id|>")]
    assert batch.policy.input_ids[0].tolist() == rows


def test_an_objective_of_short_contexts_needs_no_long_ones(tmp_path: Path) -> None:
    path = write(tmp_path / "data.jsonl", {"question": ASK, "short_context": DOC, "chosen": "nine"})
    module(path, SFT(context="short").views).setup("fit")
    with pytest.raises(ValueError, match=r"a `long_context` in record 'data.jsonl:1'.*context: short"):
        module(path, SFT().views).setup("fit")


@pytest.mark.parametrize("name", ["history", "context first", "own"])
def test_only_the_middle_of_the_longest_message_is_cut(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its two ends, where questions stand, and every other message stay; it is said that a question may be lost."""
    path = write(tmp_path / "data.jsonl", RECORDS[name][0])
    whole, cut = (module(path, SFT().views, max_length=limit, on_overlength="truncate") for limit in (None, 70))
    for data in (whole, cut):
        data.setup("fit")
    before, after = (next(iter(data.train_dataloader())).policy.input_ids[0].tolist() for data in (whole, cut))
    assert len(before) > len(after) == 70
    kept = next(n for n in range(70) if before[n] != after[n])
    assert before[len(before) - 70 + kept :] == after[kept:]
    text = chat_bpe_tokenizer("chatml").decode(after)
    assert all(
        message["content"] in text for message in conversation(name, RECORDS[name][2]) if DOC not in message["content"]
    )
    assert text.count("<|im_start|>") == chat_bpe_tokenizer("chatml").decode(before).count("<|im_start|>")
    assert ("whole messages, so a question" in caplog.text) == (name != "own")


def test_earlier_answers_that_are_not_trained_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "data.jsonl", {"messages": talk("Hello.", "Hello!", ASK, "nine")}, 2)
    data = module(path, SFT().views)
    data.setup("fit")
    assert "train: 2 of 2 records hold earlier answers of the assistant" in caplog.text
    scored = chat_bpe_tokenizer("chatml").decode(next(iter(data.train_dataloader())).policy.score_targets)
    assert scored == "nine<|im_end|>" * 2
    caplog.clear()
    module(write(path, RECORDS["history"][0]), SFT().views).setup("fit")  # a pair is about its last answer
    assert "earlier" not in caplog.text


def test_two_messages_of_one_side_in_a_row_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    said = [{"role": "system", "content": "Be brief."}, *talk(LONG), *talk(ASK)]
    path = write(tmp_path / "data.jsonl", {"prompt": said, "chosen": "nine", "rejected": "two"}, 2)
    module(path, SFT().views).setup("fit")
    assert "train: 2 of 2 records have two messages of the same side in a row" in caplog.text
    caplog.clear()
    module(write(path, {"messages": talk("Hello.", "Hello!", ASK, "nine")}), SFT().views).setup("fit")
    assert "in a row" not in caplog.text


def test_prompts_that_a_template_has_written_already_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    prompt = "<|im_start|>user\nHow many?<|im_end|>\n<|im_start|>assistant\n"
    path = write(tmp_path / "data.jsonl", {"prompt": prompt, "chosen": "nine", "rejected": "two"}, 3)
    module(path, SFT().views).setup("fit")
    assert "train: 3 prompts already hold what a chat template writes around messages" in caplog.text
    caplog.clear()
    said = talk("Hello.", "Hello!<|im_end|>\n", ASK)  # an earlier answer with its end
    module(write(path, {"prompt": said, "chosen": "nine", "rejected": "two"}), SFT().views).setup("fit")
    assert "train: 1 prompts already hold" in caplog.text
    caplog.clear()
    module(write(path, RECORDS["text"][0]), SFT().views).setup("fit")  # a mark alone is no template
    assert "already hold" not in caplog.text


@pytest.fixture(scope="module")
def chat_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, tokenizer = tmp_path_factory.mktemp("chat"), chat_bpe_tokenizer("chatml")
    torch.manual_seed(0)
    config = tiny_config("Llama", vocab_size=len(tokenizer), eos_token_id=tokenizer.eos_token_id)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def fit(objective: str, path: Path, model: Path, where: Path, *arguments: str) -> None:
    """Two steps through the command line; the weights that are saved must be others than at the start."""
    policy = ("--policy.source", model, "--policy.template.chat", "null")
    data = (
        "--policy.template.user",
        "{context}\n\n{question}",
        "--data",
        CONFIGS / "data/pairs.yaml",
        "--data.path",
        path,
    )
    words = ("fit", "--config", CONFIGS / f"{objective}.yaml", *policy, *data, *SMALL, *arguments)
    command.main([*map(str, words), "--trainer.default_root_dir", str(where)])
    weights, trained = (load_file(folder / "model.safetensors") for folder in (model, where / "model"))
    assert any(not torch.equal(trained[name], weights[name]) for name in trained)


@pytest.mark.parametrize(("objective", "name"), [("dpo", "history"), ("sft", "sft")])
def test_formats_train(objective: str, name: str, chat_model: Path, tmp_path: Path) -> None:
    fit(objective, write(tmp_path / "data.jsonl", RECORDS[name][0], 4), chat_model, tmp_path)


def test_solopo_says_how_to_build_what_is_missing(chat_model: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"^error: expected a `short_context`.*lit_longpo build --config") as stopped:
        fit("solopo", write(tmp_path / "data.jsonl", RECORDS["text"][0], 4), chat_model, tmp_path)
    assert len(str(stopped.value).splitlines()) == 1


ONE_OF_EACH = {**{layout: name for name, (layout, *_) in (*WHOLE.items(), *APART.items())}, "sharegpt": "sharegpt"}


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["dpo", "simpo"])
@pytest.mark.parametrize("layout", ONE_OF_EACH)
def test_every_format_trains(objective: str, layout: str, chat_model: Path, tmp_path: Path) -> None:
    record, columns, more = RECORDS[ONE_OF_EACH[layout]]
    mapping = ("--data.columns", json.dumps(columns)) if columns else ()
    objective = "sft" if more.get("rejected") == () else objective
    fit(objective, write(tmp_path / "data.jsonl", record, 4), chat_model, tmp_path, *mapping)
