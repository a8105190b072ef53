"""Made-up records of benchmarks in the layouts of their hubs, and what the command line is told of them."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
from support.byte_tokenizer import CHAT, byte_model
from support.command_line import CONFIGS

from evaluation.reports.reading import load_report
from lit_longpo import __main__ as command_line


def graphwalks(folder, rows=()):
    """Two kinds of problems, one of them without anything to find."""
    edges = "".join(f"n{number} -> n{number + 1}\n" for number in range(6))
    made = [
        {"prompt": f"{edges}Nodes behind n1?", "answer_nodes": ["n2", "n3"], "prompt_chars": 90, "problem_type": "bfs"},
        {"prompt": f"{edges}Parents of n0?", "answer_nodes": [], "prompt_chars": 90, "problem_type": "parents"},
        {"prompt": f"{edges * 3}Parents of n3?", "answer_nodes": ["n2"], "prompt_chars": 9, "problem_type": "parents"},
    ]
    pq.write_table(pa.Table.from_pylist([*made, *rows]), folder / "graphwalks.parquet")
    return ["--benchmark.path", folder / "graphwalks.parquet"]


def mrcr(folder, rows=()):
    """A conversation of two needles."""
    said = ["Write about tapirs", "Tapirs, one.", "Write about tapirs", "Tapirs, two.", "Prepend k9 to the 2nd."]
    messages = [{"role": ("user", "assistant")[number % 2], "content": text} for number, text in enumerate(said)]
    made = {"prompt": json.dumps(messages), "answer": "k9Tapirs, two.", "random_string_to_prepend": "k9"}
    made |= {"n_needles": 2, "desired_msg_index": 3, "total_messages": 5, "n_chars": 90}
    (folder / "2needle.jsonl").write_text("\n".join(map(json.dumps, [made, *rows])))
    return ["--benchmark.path", folder]


PROMPTS = """
DEFAULT_TEMPLATE = '{instruction}\\n{examples}\\n{post_prompt}\\n<context>{context}</context>\\nQ: {question}'
DEFAULT_PROMPTS = {
    'qa1': {'instruction': 'Read ' 'facts.', 'examples': '<example>{}</example>', 'post_prompt': 'One word.'},
    'qa6': {'instruction': 'Read.', 'examples': '', 'post_prompt': ''},
}
"""


def babilong(folder):
    """Two tasks, two lengths, in the hub's layout."""
    for task, question, target in (("qa1", "Where is Mary? ", "kitchen"), ("qa6", "Is Mary at home?", "yes")):
        (folder / "data" / task).mkdir(parents=True)
        for length, hay in (("0k", ""), ("1k", "It rained. " * 4)):
            row = {"input": f"{hay}Mary went {{in}}.", "question": question, "target": target}
            (folder / "data" / task / f"{length}.json").write_text(json.dumps([row, row]))
    (folder / "prompts.py").write_text(PROMPTS)
    return ["--benchmark.path", folder / "data", "--benchmark.prompts", folder / "prompts.py"]


def pro(number, task, answer, **more):
    """A record of LongBench Pro."""
    named = {"id": f"r{number}", "context": f"Text {number}. " * 20, "answer": answer, "secondary_task": task}
    named |= {"primary_task": "T3. Evidence-Grounded QA", "language": "English", "difficulty": "Hard"}
    named |= {"token_length": "8k", "contextual_requirement": "Full"}
    return named | {"question_thinking": "Think, then: who?", "question_nonthinking": "Who?"} | more


def longbench_pro(folder):
    """A fact, a list and a summary."""
    rows = [
        pro(1, "T3.2 Single-Hop Fact QA", ["Ann"]),
        pro(2, "T5.2 Key-Statement Citation Alignment", ["a", "b"], language="Chinese", token_length="16k"),
        pro(3, "T4.2 Query-Focused Summary", ["All of it."]),
    ]
    (folder / "longbench_pro.json").write_text(json.dumps(rows))
    return ["--benchmark.path", folder / "longbench_pro.json"]


WRITERS = {"graphwalks": graphwalks, "mrcr": mrcr, "babilong": babilong, "longbench_pro": longbench_pro}


def arguments(name, folder):
    """Of `evaluate`, beside the configuration."""
    return [str(word) for word in WRITERS[name](folder)]


def evaluated(name, folder, *more):
    """The report of a tiny model that has the command line asked about made-up records."""
    byte_model(folder / "model", chat_template=CHAT, max_position_embeddings=1024)
    words = ["evaluate", "--config", CONFIGS / "eval" / f"{name}.yaml", "--model", folder / "model", *more]
    (folder / "records").mkdir()
    words += [*arguments(name, folder / "records"), "--benchmark.max_new_tokens", 8, "--output", folder / "out"]
    command_line.main([*map(str, words), "--accelerator", "cpu"])
    [path] = (folder / "out").glob("*-step0.json")
    return load_report(path)
