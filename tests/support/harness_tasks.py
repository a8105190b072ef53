"""A task of lm-evaluation-harness with questions of ours, which nothing is downloaded for."""

import json
from pathlib import Path

TASK = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{train: {path}, test: {path}}}, cache_dir: {cache}}}
training_split: train
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}} is"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{label}}}}"
metric_list: [{{metric: acc}}, {{metric: acc_norm}}]
"""


def colours(folder: Path, *names: str) -> Path:
    """The folder, with seven questions as a task under each name."""
    folder.mkdir(exist_ok=True)
    rows = [{"question": f"What {n}", "choices": ["red", "a long green one", "blue"], "label": n % 3} for n in range(7)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name in names:
        text = TASK.format(name=name, path=folder / "rows.jsonl", cache=folder / "cache")
        (folder / f"{name}.yaml").write_text(text)
    return folder
