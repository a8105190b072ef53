"""RULER's prompts at a length, counted; no model answers.

    python -m results.ruler_prompts --samples FOLDER --tokenizer FOLDER --length 131072 --output FILE.json

A prompt and its longest answer have to fit, and the step by which the official search makes contexts larger must not.
"""

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

from evaluation.benchmark import Example
from evaluation.benchmarks.ruler.benchmark import RULER
from evaluation.metrics.ruler import TASKS
from lit_longpo.errors import InputError
from lit_longpo.policy import PolicyConfig, PromptFormat


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=Path, required=True)
    parser.add_argument("--hotpotqa", default=None)
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--length", type=int, required=True)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args(words)
    prompt_format = PolicyConfig(source=options.tokenizer).prompt_format()
    rows = [counted(task, options, prompt_format) for task in options.tasks]
    facts = {"sections": [_table(rows, options.length)]}
    options.output.write_text(json.dumps(facts, indent=1) + "\n")
    print(f"written: {options.output}")


def counted(task: str, options: Any, prompt_format: PromptFormat) -> dict[str, str]:
    """What is in the first prompt of a task; a task that cannot be made says why."""
    try:
        benchmark = RULER(
            options.samples / "ruler",
            tasks=[task],
            lengths=[options.length],
            num_examples=1,
            essays=options.samples / "books/sherlock_holmes.txt",
            squad=options.samples / "squad/xquad.en.json",
            hotpotqa=options.hotpotqa,
        )
        [example] = benchmark.examples(task)
        prompt = benchmark.prompt(example, prompt_format, options.length)
    except InputError as error:
        return {"task": task, "in it": str(error)}
    text = prompt_format.tokenizer.decode(prompt.ids)
    return {
        "task": task,
        "prompt tokens": f"{len(prompt.ids):,}",
        "answer at most": str(prompt.max_new_tokens),
        "answers in it": f"{sum(answer in text for answer in example.answers)} of {len(example.answers)}",
        "in it": _parts(example, text),
    }


def _parts(example: Example, text: str) -> str:
    """Lines, words, and how often the commonest line comes."""
    lines = Counter(line for line in text.splitlines() if line.strip())
    words, [(_, often)] = text.split(), lines.most_common(1)
    documents = text.count("\nDocument ")
    found = {"lines": lines.total(), "different": len(lines), "commonest": often, "words": len(words)}
    found |= {"documents": documents} if documents else {}
    return ", ".join(f"{name} {number:,}" for name, number in found.items())


def _table(rows: list[dict[str, str]], length: int) -> dict[str, Any]:
    header = ["task", "prompt tokens", "answer at most", "answers in it", "in it"]
    cells = [[row.get(name, "-") for name in header] for row in rows]
    return {"title": f"Prompts of {length:,} tokens", "header": header, "rows": cells, "note": ""}


if __name__ == "__main__":
    main()
