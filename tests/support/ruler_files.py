"""RULER's official files: their layout with texts of our own, and the real ones where this machine has them."""

import json
import re
import shutil
from collections import Counter

WORDS = re.compile(r"\w+|[^\w\s]")
SETTINGS = """
niah_single_1: {task: niah, args: {type_haystack: noise, type_needle_k: words, type_needle_v: numbers,
  num_needle_k: 1, num_needle_v: 1, num_needle_q: 1}}
niah_single_2: {task: niah, args: {type_haystack: essay, type_needle_k: words, type_needle_v: numbers,
  num_needle_k: 1, num_needle_v: 1, num_needle_q: 1}}
niah_single_3: {task: niah, args: {type_haystack: essay, type_needle_k: words, type_needle_v: uuids,
  num_needle_k: 1, num_needle_v: 1, num_needle_q: 1}}
niah_multikey_1: {task: niah, args: {type_haystack: essay, type_needle_k: words, type_needle_v: numbers,
  num_needle_k: 4, num_needle_v: 1, num_needle_q: 1}}
niah_multikey_2: {task: niah, args: {type_haystack: needle, type_needle_k: words, type_needle_v: numbers,
  num_needle_k: 1, num_needle_v: 1, num_needle_q: 1}}
niah_multikey_3: {task: niah, args: {type_haystack: needle, type_needle_k: uuids, type_needle_v: uuids,
  num_needle_k: 1, num_needle_v: 1, num_needle_q: 1}}
niah_multivalue: {task: niah, args: {type_haystack: essay, type_needle_k: words, type_needle_v: numbers,
  num_needle_k: 1, num_needle_v: 4, num_needle_q: 1}}
niah_multiquery: {task: niah, args: {type_haystack: essay, type_needle_k: words, type_needle_v: numbers,
  num_needle_k: 1, num_needle_v: 1, num_needle_q: 4}}
vt: {task: variable_tracking, args: {type_haystack: noise, num_chains: 1, num_hops: 4}}
cwe: {task: common_words_extraction, args: {freq_cw: 30, freq_ucw: 3, num_cw: 10}}
fwe: {task: freq_words_extraction, args: {alpha: 2.0}}
qa_1: {task: qa, args: {dataset: squad}}
qa_2: {task: qa, args: {dataset: hotpotqa}}
"""
_TASKS = {
    "niah": (16, "Some {type_needle_v} are here.\n{context}\nWhat are all {type_needle_v} of {query}?", " They are"),
    "variable_tracking": (8, "Track.\n{context}\nWhich have {query}?", " These {num_v} have {query}: "),
    "common_words_extraction": (12, "Count.\n{context}\nThe common ones?", " They are:"),
    "freq_words_extraction": (8, "Count. {context}\nThe frequent ones?", " They are:"),
    "qa": (8, "Read.\n{context}\nQuestion: {query}", " Answer:"),
}


def layout(folder):
    """The official layout with templates and sentences of our own; scripts hold more than is read."""
    scripts = folder / "data" / "synthetic"
    scripts.mkdir(parents=True)
    names = ("tokens_to_generate", "template", "answer_prefix")
    tasks = {kind: dict(zip(names, values, strict=True)) for kind, values in _TASKS.items()}
    (folder / "synthetic.yaml").write_text(SETTINGS)
    (scripts / "constants.py").write_text(f"import os\n\nTASKS = {tasks!r}\n")
    hay = 'if essay:\n    haystack = read()\nelif noise:\n    haystack = "Rain fell. Snow did not."\n'
    (scripts / "niah.py").write_text(f'import os\nneedle = "The {{type_needle_v}} of {{key}}: {{value}}."\n{hay}')
    (scripts / "qa.py").write_text('DOCUMENT_PROMPT = "Document {i}:\\n{document}"\n')
    return folder


def official_layout(shared, folder):
    """The official texts: templates as they are, the three sentences as the examples show them."""
    shutil.copytree(shared, folder, ignore=shutil.ignore_patterns("examples", "*.jsonl"))
    scripts = folder / "data" / "synthetic"
    scripts.mkdir(parents=True)
    row = json.loads((shared / "examples/4096/niah_single_1.jsonl").read_text().splitlines()[0])
    lines = row["input"].split("\n")
    noise = Counter(lines).most_common(1)[0][0]
    shown = next(line for line in lines if row["outputs"][0] in line)
    key = re.search(r"for (\S+)", shown)[1]
    needle = shown.replace(key, "{key}").replace(row["outputs"][0], "{value}").replace("numbers", "{type_needle_v}")
    (scripts / "niah.py").write_text(f"needle = {needle!r}\nhaystack = {noise!r}\n")
    (scripts / "qa.py").write_text('DOCUMENT_PROMPT = "Document {i}:\\n{document}"\n')
    return folder


class WordFormat:
    """Counts as the oracle's tokenizer does: words and signs."""

    uses_chat, stop_ids = False, (0,)

    def encode(self, text):
        return tuple(WORDS.findall(text))

    def encode_message(self, text, answer_prefix=""):
        return self.encode(text + answer_prefix)
