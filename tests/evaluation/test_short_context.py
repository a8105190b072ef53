"""Beside lm-evaluation-harness's own table; forgetting is what two reports say question by question."""

import json
import math
from importlib.util import find_spec
from itertools import pairwise

import pytest
import torch
from support.byte_tokenizer import BOS, CHAT, END_OF_TURN, EOS, byte_model, byte_tokenizer
from support.command_line import COMMANDS, CONFIGS
from support.harness_tasks import TASK, colours
from support.tiny_models import following_model, tiny_model
from tokenizers.processors import TemplateProcessing

from evaluation.command import parse_evaluation
from evaluation.reports.reading import load_report
from evaluation.running.harness import tasks_at_hand
from evaluation.short_context import ShortContext
from lit_longpo.errors import MissingPackageError, UserError
from lit_longpo.policy import PromptFormat, PromptTemplate

needs_harness = pytest.mark.skipif(find_spec("lm_eval") is None, reason="no extra lm-eval")
GENERATED = """
task: who
dataset_path: json
dataset_kwargs: {{data_files: {{test: {path}}}, cache_dir: {cache}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
generation_kwargs: {{until: ["zz"], max_gen_toks: 6}}
metric_list: [{{metric: exact_match}}]
"""


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    folder = colours(tmp_path_factory.mktemp("tasks"), "colours", "shades")
    (folder / "both.yaml").write_text(
        "group: both\ntask: [colours, shades]\naggregate_metric_list: [{metric: acc, weight_by_size: true}]\n"
    )
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return [byte_model(root / f"m{seed}", seed=seed, max_position_embeddings=512) for seed in (0, 3)]


def given(tasks, *more):
    config = ("--config", CONFIGS / "eval" / "short_context.yaml", "--short_context.tasks", "{colours: 2, shades: 0}")
    return [str(word) for word in (*config, "--short_context.include_path", tasks, "--accelerator", "cpu", *more)]


@pytest.fixture(scope="module")
def folders(tasks, models, tmp_path_factory):
    root = tmp_path_factory.mktemp("reports")
    for number, model in enumerate(models):
        COMMANDS["evaluate"](given(tasks, "--model", model, "--output", root / str(number)))
    return [root / "0", root / "1"]


@needs_harness
def test_scores_are_the_harness_own_with_the_shots_of_each_task(tasks, models, folders):
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    report = load_report(folders[0] / "short_context-step0.json")
    assert report.settings["shots"] == {"colours": 2, "shades": 0}
    manager = TaskManager(include_path=str(tasks), include_defaults=False)
    for task, shots in (("colours", 2), ("shades", 0)):
        own = simple_evaluate(
            model="hf", model_args=f"pretrained={models[0]},dtype=float32", tasks=[task], num_fewshot=shots,
            device="cpu", bootstrap_iters=0, task_manager=manager, batch_size=3,
        )["results"][task]  # fmt: skip
        expected = {name: round(100 * own[f"{name},none"], 2) for name in ("acc", "acc_norm")}
        assert report.tables[task] == expected
        rows = [item for item in report.predictions if item.task == task]
        assert math.isclose(sum(item.score for item in rows) / len(rows), own["acc,none"])
        assert [item.id for item in rows] == [f"{task}/{number}" for number in range(7)]
        assert rows[3].question.count(" is") == shots + 1
    assert report.tables["colours"] != report.tables["shades"] or report.predictions[0].length > 3


@needs_harness
def test_answers_end_where_the_model_ends_turns(tmp_path):
    """It is told by its generation settings, which lighteval#1278 replaced by the tokenizer's end of the text."""
    tokenizer = byte_tokenizer(chat_template=CHAT)
    colon, answer = tokenizer.encode("]B", add_special_tokens=False)
    end = tokenizer.convert_tokens_to_ids(END_OF_TURN)
    model = following_model(260, {colon: answer, answer: end}, otherwise=answer + 1)
    model.generation_config.eos_token_id = [end]
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    (tmp_path / "rows.jsonl").write_text('{"question": "Who?", "answer": "B"}\n' * 2)
    (tmp_path / "who.yaml").write_text(GENERATED.format(path=tmp_path / "rows.jsonl", cache=tmp_path / "cache"))
    more = ("--short_context.tasks", "{who: 0}", "--short_context.apply_chat_template", "true")
    COMMANDS["evaluate"](given(tmp_path, *more, "--model", tmp_path / "model", "--output", tmp_path / "out"))
    report = load_report(tmp_path / "out" / "short_context-step0.json")
    assert [item.prediction for item in report.predictions] == ["B", "B"]
    assert report.tables["who"]["exact_match"] == 100.0


def follower(folder, said):
    """A chat model whose prompt opens thoughts and which goes on with `said`, and a task that asks it."""
    tokenizer = byte_tokenizer(chat_template=CHAT.replace("[assistant]", "[assistant]<think>"))
    tokenizer.add_tokens(["<think>", "</think>"])
    chain = tokenizer.encode("<think>" + said, add_special_tokens=False)
    end = tokenizer.convert_tokens_to_ids(END_OF_TURN)
    after = {token: token for token in range(264)} | dict(pairwise([*chain, end]))
    model = following_model(264, after, otherwise=0)
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    (folder / "rows.jsonl").write_text('{"question": "Who?", "answer": "B"}\n')
    task = GENERATED.format(path=folder / "rows.jsonl", cache=folder / "cache")
    (folder / "who.yaml").write_text(task)
    return task


def asked_in(folder, tokenizer, chain):
    """A model that goes on along a chain of tokens, and a task that asks it."""
    ids = [*tokenizer.encode(chain, add_special_tokens=False), tokenizer.convert_tokens_to_ids(END_OF_TURN)]
    model = following_model(len(tokenizer), dict(pairwise(ids)), otherwise=0)
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    (folder / "rows.jsonl").write_text('{"question": "Who?", "answer": "B"}\n')
    (folder / "who.yaml").write_text(GENERATED.format(path=folder / "rows.jsonl", cache=folder / "cache"))


ASKED = ("--short_context.tasks", "{who: 0}", "--short_context.apply_chat_template", "true")


@needs_harness
def test_a_stop_text_in_thoughts_ends_nothing(tmp_path):
    """lm-evaluation-harness#3700, which mends it for vLLM: there was no answer, and the thoughts were scored."""
    task = follower(tmp_path, "a</think>B")
    (tmp_path / "who.yaml").write_text(task.replace('"zz"', '"a"'))
    COMMANDS["evaluate"](given(tmp_path, *ASKED, "--model", tmp_path / "model", "--output", tmp_path / "out"))
    [item] = load_report(tmp_path / "out" / "short_context-step0.json").predictions
    assert (item.prediction, item.score) == ("B", 1.0)


MIXED = """
task: mixed
dataset_path: json
dataset_kwargs: {{data_files: {{test: {path}}}, cache_dir: {cache}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}} is"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{label}}}}"
process_results: !function scores.scores
metric_list:
- {{metric: error, higher_is_better: false, aggregation: mean}}
- {{metric: bleu_max, higher_is_better: true, aggregation: mean}}
- {{metric: bleu_acc, higher_is_better: true, aggregation: mean}}
"""
SCORES = """
def scores(doc, results):
    return {"error": 0.5, "bleu_max": [0.25, 40.0, 1.0][doc["label"]], "bleu_acc": float(doc["label"] == 1)}
"""


@needs_harness
def test_every_question_of_a_task_is_scored_by_the_same_metric(models, tmp_path):
    """truthfulqa_gen's bleu_max is 0 to 100: questions at which it was up to 1 had it for their score, others bleu_acc.

    A metric of which less is better was a score as well; and a mean bleu_max of 0.8 stood in the table as 80 percent.
    """
    folder = colours(tmp_path / "tasks", "colours")
    (folder / "mixed.yaml").write_text(MIXED.format(path=folder / "rows.jsonl", cache=folder / "cache"))
    (folder / "scores.py").write_text(SCORES)
    more = ("--short_context.tasks", "{mixed: 0, colours: 0}", "--model", models[0], "--output", tmp_path)
    COMMANDS["evaluate"](given(folder, *more))
    report = load_report(tmp_path / "short_context-step0.json")
    assert [item.score for item in report.predictions if item.task == "mixed"] == [0.0, 1.0, 0.0] * 2 + [0.0]
    assert report.tables["mixed"] == {"error": 50.0, "bleu_acc": round(200 / 7, 2)}
    assert report.settings["scores of questions"] == {"mixed": "bleu_acc", "colours": "acc"}


@needs_harness
def test_a_task_without_a_score_of_each_question_is_refused(models, tmp_path):
    folder = colours(tmp_path / "tasks", "colours")
    (folder / "mixed.yaml").write_text(MIXED.format(path=folder / "rows.jsonl", cache=folder / "cache"))
    (folder / "scores.py").write_text(SCORES.replace('float(doc["label"] == 1)', "2.0"))
    more = ("--short_context.tasks", "{mixed: 0}", "--model", models[0], "--output", tmp_path)
    with pytest.raises(UserError, match="from 0 to 1 for each question of mixed, got error, bleu_max, bleu_acc; leave"):
        COMMANDS["evaluate"](given(folder, *more))


@needs_harness
@pytest.mark.parametrize("until", ["zz", "a"], ids=["whole", "stop_text_in_thoughts"])
def test_thoughts_between_marks_that_vanish_are_left_out(tmp_path, until):
    """As gpt-oss's (vllm#38855): the answer read `aaafinalB`, and a stop text in the thoughts ended it."""
    said = "{% if m['thinking'] is defined %}<why>{{ m['thinking'] }}<so>{% endif %}{{ m['content'] }}"
    template = CHAT.replace("{{ m['content'] }}", said)
    tokenizer = byte_tokenizer(chat_template=template)
    tokenizer.add_special_tokens({"extra_special_tokens": [END_OF_TURN, "<why>", "<so>"]})
    asked_in(tmp_path, tokenizer, "]<why>ca<so>B")
    (tmp_path / "who.yaml").write_text((tmp_path / "who.yaml").read_text().replace('"zz"', f'"{until}"'))
    COMMANDS["evaluate"](given(tmp_path, *ASKED, "--model", tmp_path / "model", "--output", tmp_path / "out"))
    report = load_report(tmp_path / "out" / "short_context-step0.json")
    assert [(item.prediction, item.score) for item in report.predictions] == [("B", 1.0)]
    assert report.deviations == ()


@needs_harness
def test_thoughts_in_other_known_marks_are_left_out(tmp_path):
    """The harness knows one mark, `</think>`, and scored the whole text (openhuman#6184)."""
    tokenizer = byte_tokenizer(chat_template=CHAT)
    tokenizer.add_tokens(["<reasoning>", "</reasoning>"])
    asked_in(tmp_path, tokenizer, "]<reasoning>a</reasoning>B")
    COMMANDS["evaluate"](given(tmp_path, *ASKED, "--model", tmp_path / "model", "--output", tmp_path / "out"))
    [item] = load_report(tmp_path / "out" / "short_context-step0.json").predictions
    assert (item.prediction, item.score) == ("B", 1.0)


@needs_harness
@pytest.mark.parametrize("opens", [True, False])
def test_thoughts_that_are_cut_off_are_no_answer(tmp_path, opens):
    """The harness scored them: a number in gsm8k's unfinished thoughts was the answer (flexible-extract)."""
    opened = "[assistant]<think>" if opens else "[assistant]"
    tokenizer = byte_tokenizer(chat_template=CHAT.replace("[assistant]", opened))
    tokenizer.add_tokens(["<think>", "</think>"])
    asked_in(tmp_path, tokenizer, "<think>Bo</think>" if opens else "]<think>Bo</think>")
    (tmp_path / "who.yaml").write_text((tmp_path / "who.yaml").read_text().replace("gen_toks: 6", "gen_toks: 2"))
    COMMANDS["evaluate"](given(tmp_path, *ASKED, "--model", tmp_path / "model", "--output", tmp_path / "out"))
    report = load_report(tmp_path / "out" / "short_context-step0.json")
    assert [item.prediction for item in report.predictions] == [""]
    assert report.deviations == ("1 answers were still thinking when the tokens were over, and are empty",)


@needs_harness
def test_answers_that_leave_no_room_for_a_prompt_are_refused(tmp_path):
    """It was the harness's AssertionError."""
    task = follower(tmp_path, "a</think>B")
    (tmp_path / "who.yaml").write_text(task.replace("max_gen_toks: 6", "max_gen_toks: 1000000"))
    with pytest.raises(UserError, match=r"got up to 1,000,000 tokens in who; leave the task out of `tasks`, or set"):
        COMMANDS["evaluate"](given(tmp_path, *ASKED, "--model", tmp_path / "model", "--output", tmp_path / "out"))


@needs_harness
def test_the_chat_template_is_the_policys_own_and_thoughts_are_left_out(tmp_path):
    """Options and system message (`enable_thinking: false`) had no effect; lm-evaluation-harness#3675."""
    template = CHAT.replace("[assistant]", "[assistant]{{ mood }}{% if thinks is not defined %}<think>{% endif %}]")
    tokenizer = byte_tokenizer(chat_template=template)
    tokenizer.add_tokens(["</think>"])
    chain = tokenizer.encode("]</think>B", add_special_tokens=False)
    end = tokenizer.convert_tokens_to_ids(END_OF_TURN)
    model = following_model(260, dict(pairwise([*chain, end])), otherwise=chain[-1] + 1)
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    (tmp_path / "rows.jsonl").write_text('{"question": "Who?", "answer": "B"}\n')
    (tmp_path / "who.yaml").write_text(GENERATED.format(path=tmp_path / "rows.jsonl", cache=tmp_path / "cache"))
    more = ("--short_context.tasks", "{who: 0}", "--short_context.apply_chat_template", "true")
    own = ("--policy.template.options", "{thinks: false, mood: calm}", "--policy.template.system", "Be brief.")
    COMMANDS["evaluate"](given(tmp_path, *more, *own, "--model", tmp_path / "model", "--output", tmp_path / "out"))
    [item] = load_report(tmp_path / "out" / "short_context-step0.json").predictions
    assert item.question == "<bos>[system]Be brief.<end>[user]Who?<end>[assistant]calm]"
    assert (item.prediction, item.score) == ("B", 1.0)


@needs_harness
def test_prompts_that_lose_their_beginning_are_counted(tasks, tmp_path):
    """A line in the harness's log was all there was of them (lm-evaluation-harness#3115)."""
    model = byte_model(tmp_path / "model", max_position_embeddings=40)
    COMMANDS["evaluate"](given(tasks, "--model", model, "--output", tmp_path / "out"))
    report = load_report(tmp_path / "out" / "short_context-step0.json")
    rows = [json.loads(line) for line in (tasks / "rows.jsonl").read_text().splitlines()]
    shown = {item.id: item.question for item in report.predictions}
    ends = [(prompt, f" {choice}") for prompt in shown.values() for choice in rows[0]["choices"]]
    num_cut = sum(len(f"{prompt}{choice}".encode()) > 41 for prompt, choice in ends)
    assert 0 < num_cut < len(ends)
    assert report.deviations == (f"{num_cut} prompts lost their beginning, longer than the model's 40 positions",)


@needs_harness
def test_a_generated_answers_prompt_that_loses_its_beginning_is_counted(tmp_path):
    model = byte_model(tmp_path / "model", max_position_embeddings=40)
    rows = [{"question": "Who? " * repeats, "answer": "B"} for repeats in (1, 6, 7, 20)]  # room for 34 tokens
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "who.yaml").write_text(GENERATED.format(path=tmp_path / "rows.jsonl", cache=tmp_path / "cache"))
    more = ("--short_context.tasks", "{who: 0}", "--model", model, "--output", tmp_path / "out")
    COMMANDS["evaluate"](given(tmp_path, *more))
    report = load_report(tmp_path / "out" / "short_context-step0.json")
    assert report.deviations == ("2 prompts lost their beginning, longer than the model's 40 positions",)


@needs_harness
def test_the_window_is_the_one_that_stretched_positions_give(tmp_path):
    from evaluation.running.harness_model import HarnessModel

    model = tiny_model("Llama", vocab_size=260, max_position_embeddings=64, rope_parameters={
        "rope_type": "yarn", "factor": 4.0, "rope_theta": 10_000.0, "original_max_position_embeddings": 64
    })  # fmt: skip
    assert HarnessModel(model, PromptFormat(byte_tokenizer(), PromptTemplate()), 1).max_length == 256


@needs_harness
@pytest.mark.parametrize("front", ["<bos> ", ""])
def test_no_end_of_the_text_stands_before_an_answer(tasks, tmp_path, front):
    """`add_eos_token: true`: since lm-evaluation-harness#3347 an end stood before every choice, and was scored as one.

    Generated answers followed it as well.
    """
    (tmp_path / "rows.jsonl").write_text('{"question": "Who?", "answer": "B"}\n' * 3)
    (tmp_path / "who.yaml").write_text(GENERATED.format(path=tmp_path / "rows.jsonl", cache=tmp_path / "cache"))
    ends, said = [(BOS, 0), (EOS, 1)], list[list[str]]()
    for name, behind in (("plain", ""), ("ends", " <eos>")):
        folder = byte_model(tmp_path / name, max_position_embeddings=512)
        tokenizer = byte_tokenizer()
        single = f"{front}$A{behind}"
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single, special_tokens=ends)
        tokenizer.save_pretrained(folder)
        for path, asked in ((tasks, "{colours: 1}"), (tmp_path, "{who: 0}")):
            out = folder / path.name
            COMMANDS["evaluate"](given(path, "--short_context.tasks", asked, "--model", folder, "--output", out))
            report = load_report(out / "short_context-step0.json")
            said.append([item.prediction for item in report.predictions])
    assert said[:2] == said[2:]


@needs_harness
@pytest.mark.parametrize("kind", ["likelihoods", "answers"])
def test_a_model_that_computes_no_numbers_has_no_score(tasks, tmp_path, kind):
    """The harness takes NaN for the likeliest: the score was the share of questions whose first choice is right."""
    model = tiny_model(vocab_size=260, max_position_embeddings=512)
    with torch.no_grad():
        model.model.layers[0].mlp.down_proj.weight[0, 0] = torch.inf
    model.save_pretrained(tmp_path / "model")
    byte_tokenizer().save_pretrained(tmp_path / "model")
    (tmp_path / "rows.jsonl").write_text('{"question": "Who?", "answer": "B"}\n')
    (tmp_path / "who.yaml").write_text(GENERATED.format(path=tmp_path / "rows.jsonl", cache=tmp_path / "cache"))
    folder, asked = (tasks, "{colours: 0}") if kind == "likelihoods" else (tmp_path, "{who: 0}")
    more = ("--short_context.tasks", asked, "--model", tmp_path / "model", "--output", tmp_path / "out")
    with pytest.raises(UserError, match="got NaN from a model in float32"):
        COMMANDS["evaluate"](given(folder, *more))


@needs_harness
def test_a_part_of_two_tasks_has_ids_in_each(tasks, models, tmp_path):
    """mmlu beside mmlu_anatomy: a report of two predictions with one id was written, and no command read it."""
    more = ("--short_context.tasks", "{both: 0, colours: 1}", "--limit", 2, "--model", models[0], "--output", tmp_path)
    COMMANDS["evaluate"](given(tasks, *more))
    report = load_report(tmp_path / "short_context-step0.json")
    ids = [f"{part}/{n}" for part in ("both/colours", "shades", "colours/colours") for n in (0, 1)]
    assert [item.id for item in report.predictions] == ids
    assert [item.context for item in report.predictions[::4]] == ["colours/0"] * 2


@needs_harness
def test_a_groups_shots_are_those_of_all_of_its_parts(tasks, models, tmp_path):
    """As MMLU's 57 subjects; the harness lets parts keep shots of their own where a group is told some."""
    more = ("--short_context.tasks", "{both: 1}", "--limit", 3, "--model", models[0], "--output", tmp_path)
    COMMANDS["evaluate"](given(tasks, *more))
    report = load_report(tmp_path / "short_context-step0.json")
    assert report.settings["shots"] == {"both": 1}
    assert [item.groups for item in report.predictions] == [
        {"both": part} for part in ("colours", "shades") for _ in "123"
    ]
    assert all(item.question.count(" is") == 2 for item in report.predictions)
    assert report.tables["both"]["acc"] == pytest.approx(100 * report.mean, abs=0.005)
    assert report.deviations == ("the first 3 questions of each task",)


@needs_harness
@pytest.mark.parametrize("split", ["test", "validation"])
@pytest.mark.parametrize("stated", [False, True])
def test_a_question_is_none_of_its_own_solved_examples(split, stated, models, tmp_path):
    """Where no split is stated for these, prompts held the question with its answer (lm-evaluation-harness#4145)."""
    colours(tmp_path / "tasks", "colours")
    file = tmp_path / "tasks" / "colours.yaml"
    text = file.read_text().replace("training_split: train\n", "").replace("test_split: test", f"{split}_split: test")
    file.write_text(text + "fewshot_split: test\n" * stated)
    more = ("--short_context.tasks", "{colours: 5}", "--model", models[0], "--output", tmp_path / "out")
    COMMANDS["evaluate"](given(tmp_path / "tasks", *more))
    for item in load_report(tmp_path / "out" / "short_context-step0.json").predictions:
        asked = [text.split()[0] for text in item.question.split("What ")[1:]]
        assert len(set(asked)) == len(asked) == 6
    with pytest.raises(UserError, match=r"expected 7 solved examples for colours, got 6"):
        COMMANDS["evaluate"](given(tmp_path / "tasks", *more, "--short_context.tasks", "{colours: 7}"))


@needs_harness
def test_more_shots_than_there_are_examples_are_refused_before_a_model_is_loaded(tasks, tmp_path, monkeypatch):
    monkeypatch.setattr("lit_longpo.policy.PolicyConfig.load_base", lambda self: pytest.fail("weights were read"))
    more = ("--short_context.tasks", "{both: 8}", "--model", "embedded", "--output", tmp_path)
    with pytest.raises(UserError, match=r"expected 8 solved examples for both, got 7; .*tasks '\{both: 7\}'"):
        COMMANDS["evaluate"](given(tasks, *more))


@needs_harness
def test_two_reports_are_one_table_of_what_was_forgotten(folders, capsys):
    before, after = (load_report(folder / "short_context-step0.json") for folder in folders)
    capsys.readouterr()
    COMMANDS["evaluate"](["--compare", *(str(folder / "short_context-step0.json") for folder in folders)])
    printed = capsys.readouterr().out
    assert "## Forgetting" in printed
    [row] = [line for line in printed.splitlines() if line.startswith("| shades ")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    values = [
        100 * sum(item.score for item in report.predictions if item.task == "shades") / 7 for report in (before, after)
    ]
    assert cells[1:5] == ["7", *(f"{value:.2f}" for value in values), f"{values[1] - values[0]:+.2f}"]


@needs_harness
def test_the_report_of_another_model_is_not_replaced(folders, tasks, models, monkeypatch):
    """The second model's took the place of the first's, which is kept nowhere else, without a word."""
    monkeypatch.setattr("lm_eval.simple_evaluate", lambda **_: pytest.fail("it was asked"))
    with pytest.raises(UserError, match=r"got that of \S+m0 \(\w+\), which would be lost; type --output FOLDER"):
        COMMANDS["evaluate"](given(tasks, "--model", models[1], "--output", folders[0]))


@needs_harness
@pytest.mark.parametrize(
    ("more", "name"),
    [
        (("--tasks", "[shades]"), "tasks"),
        (("--limit", 2), "limit"),
        (("--short_context.tasks", "{colours: 1, shades: 0}"), "tasks"),
        (("--short_context.apply_chat_template", "true"), "in the chat template"),
    ],
)
def test_a_report_of_other_questions_is_not_replaced(more, name, folders, tasks, models, monkeypatch):
    """A quick look at a few questions took the place of a full report."""
    monkeypatch.setattr("lm_eval.simple_evaluate", lambda **_: pytest.fail("it was asked"))
    with pytest.raises(UserError, match=f"got one of other {name}, which would be lost; type --output FOLDER"):
        COMMANDS["evaluate"](given(tasks, "--model", models[0], "--output", folders[0], *more))


@needs_harness
def test_one_model_by_two_paths_may_replace_its_report(tasks, models, tmp_path, monkeypatch):
    """Its name holds the path, and it was taken for another model."""
    folder = byte_model(tmp_path / "model", max_position_embeddings=512)
    monkeypatch.chdir(tmp_path)
    for path in (folder, "./model"):
        COMMANDS["evaluate"](given(tasks, "--model", path, "--output", tmp_path / "out", "--limit", 1))
    assert load_report(tmp_path / "out" / "short_context-step0.json").model.startswith("./model (")


@needs_harness
def test_what_cannot_be_asked_is_one_line(tasks, models):
    with pytest.raises(UserError, match=r"expected tasks that lm-evaluation-harness knows .*got nothing; correct"):
        COMMANDS["evaluate"](
            given(tasks, "--model", models[0], "--output", "out", "--short_context.tasks", "{nothing: 1}")
        )
    with pytest.raises(UserError, match="expected shots by task, for example"):
        ShortContext({})
    with pytest.raises(
        UserError, match=r"among those of `short_context` \(colours, shades\), got reds; .*\{reds: 5\}'"
    ):
        parse_evaluation(given(tasks, "--model", models[0], "--output", "out", "--tasks", "[reds]"))
    asked, _ = parse_evaluation(given(tasks, "--output", "out", "--rescore"))
    with pytest.raises(UserError, match="expected no --rescore with --short_context"):
        asked.rescore()


@needs_harness
@pytest.mark.parametrize(
    ("option", "value", "instead"),
    [
        ("max_length", 64, "it out$"),
        ("max_minutes", 2.0, "or type --limit$"),
        ("seed", 3, "it out$"),
        ("protocol", "official", "it out$"),
        ("batching.max_batch_tokens", 9, r"--short_context\.batch_size$"),
    ],
)
def test_a_setting_that_the_harness_does_not_follow_is_refused(option, value, instead, tasks, models):
    with pytest.raises(UserError, match=rf"^expected no --{option} with --short_context, .*got {value}; .*{instead}"):
        parse_evaluation(given(tasks, "--model", models[0], "--output", "out", f"--{option}", value))


@needs_harness
def test_chosen_tasks_are_prepared_without_a_model_and_the_others_are_not(tasks, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    monkeypatch.setattr("evaluation.respondent.Respondent.load", lambda self: pytest.fail("a model was loaded"))
    for name, rows in ("shades", tasks / "rows.jsonl"), ("colours", tmp_path / "gone.jsonl"):
        (tmp_path / f"{name}.yaml").write_text(TASK.format(name=name, path=rows, cache=tmp_path / "cache"))
    more = ("--output", tmp_path / "out", "--prepare_data", "--tasks", "[shades]")
    COMMANDS["evaluate"](given(tmp_path, *more))
    assert "shades is ready" in caplog.text
    assert list((tmp_path / "cache").rglob("*.arrow"))
    with pytest.raises(FileNotFoundError, match="gone"):
        COMMANDS["evaluate"](given(tmp_path, *more[:3]))


@needs_harness
def test_data_that_are_not_here_and_no_hub_gives_are_one_line(tmp_path):
    """Not the folder of results, which the hub's error was taken for."""
    (tmp_path / "far.yaml").write_text("task: far\ndataset_path: nobody/nothing\noutput_type: loglikelihood\n")
    words = given(tmp_path, "--short_context.tasks", "{far: 0}", "--output", tmp_path / "out", "--prepare_data")
    with pytest.raises(UserError, match=r"the data of a task, got none: Couldn't reach 'nobody/nothing' .*; run"):
        COMMANDS["evaluate"](words)
    said = r"package 'nothing' for a task .*; type: pip install nothing"
    with pytest.raises(MissingPackageError, match=said), tasks_at_hand():
        raise ModuleNotFoundError("no nothing", name="nothing")
    with pytest.raises(UserError, match="got none: ConnectionError; run"), tasks_at_hand():
        raise ConnectionError


def test_without_the_package_it_is_named_with_what_to_type(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match=r"for short contexts, found none; type: pip install 'lit_longpo\["):
        ShortContext({"mmlu": 5})


@needs_harness
@pytest.mark.parametrize("path", sorted((CONFIGS / "eval").rglob("*short*.yaml")), ids=lambda path: path.stem)
def test_every_configuration_parses(path):
    asked, _ = parse_evaluation(["--config", str(path), "--prepare_data"])
    assert asked.short_context.tasks
