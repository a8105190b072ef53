"""`python -m lit_longpo perplexity`: how likely a model finds plain text, by length and by position."""

import hashlib
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lightning.fabric import Fabric
from rich.console import Console

from evaluation.own_settings import parse_with_own, with_policy
from evaluation.perplexity.measuring import check_window_lengths, measure
from evaluation.perplexity.report import FILE, PerplexityReport
from evaluation.perplexity.windows import Windows, read_tokens, text_files
from evaluation.processes import bar
from evaluation.reports.reading import refuse_other_report
from evaluation.running.facts import ROTARY, model_facts, run_facts, typed
from lit_longpo.command_line.parser import SuggestingParser
from lit_longpo.errors import first_names
from lit_longpo.files.storing import check_writable, storing
from lit_longpo.policy import PolicyConfig, PromptFormat
from lit_longpo.policy.weights.vocabulary import check_vocabulary
from lit_longpo.strategies import check_devices, check_processes, own_launcher

log = logging.getLogger(__name__)

_PLAIN = ("dtype", "device", ROTARY, "versions", "commit", "date", "command")  # facts that hold without a prompt


def perplexity_parser() -> SuggestingParser:
    """Top-level keys: texts, windows, `policy`, output."""
    parser = SuggestingParser(
        prog="python -m lit_longpo perplexity",
        description="Perplexity of plain text by length, and its negative log-likelihood by position. --model X is "
        "short for --policy X (a YAML file) or --policy.source X. If you do not type a dtype, it is the model's own.",
    )
    parser.recipe_room, parser.shorthands = "eval", ("model",)
    parser.add_argument("--config", action="config", help="YAML file; a later one wins")
    parser.add_argument(
        "--path", type=str, required=True, help="text file, or folder of .txt (else .md) files, read as one sequence"
    )
    parser.add_class_arguments(Windows)
    parser.add_argument("--bos", type=bool, default=False, help="begin every window with the tokenizer's first token")
    parser.add_class_arguments(PolicyConfig, "policy")
    parser.add_argument("--output", type=str, required=True, help="folder of the report")
    parser.add_argument("--accelerator", type=str, default="auto", help="auto, cpu, gpu, ...")
    return parser


def perplexity(arguments: Sequence[str]) -> None:
    """Measure as the arguments say, print the table, write the report."""
    parser = perplexity_parser()
    values: Any = parser.instantiate_classes(parse_with_own(parser, with_policy(arguments)))
    check_processes(1, "perplexity")
    check_devices(values.accelerator, 1)
    windows = Windows(values.lengths, values.stride, values.counted, values.max_windows)
    files, policy = text_files(values.path), values.policy
    prompt_format = policy.prompt_format()
    tokens = read_tokens(files, _encoder(prompt_format))
    front = prompt_format.added_in_front if values.bos else ()
    _warn_of_front(prompt_format, is_there=bool(front))
    _warn_of_control_tokens(prompt_format, tokens)
    windows.starts(windows.lengths[-1] - len(front), len(tokens))
    check_writable(Path(values.output), "--output FOLDER")
    asked, place = _settings(files, tokens, windows, front), Path(values.output) / FILE
    refuse_other_report(place, policy.source, asked)
    model = policy.load_base().to(Fabric(accelerator=values.accelerator, devices=1, plugins=own_launcher()).device)
    check_vocabulary(model, prompt_format.tokenizer)
    check_window_lengths(model, windows, len(tokens) + len(front), len(front))
    facts = run_facts(model_facts(model, prompt_format), prompt_format, typed("perplexity", arguments))
    settings = asked | {name: facts[name] for name in _PLAIN if name in facts}
    refuse_other_report(place, policy.source, {name: facts.get(name) for name in ("dtype", ROTARY)})
    total = sum(length * len(windows.starts(length - len(front), len(tokens))) for length in windows.lengths)
    with bar("perplexity", total) as advance:
        results = list(measure(model, tokens, windows, front=front, advance=advance))
    report = PerplexityReport(policy.source, settings, results)
    with storing(Path(values.output), "--output FOLDER"):
        paths = report.write(Path(values.output))
    Console().print(report.table())
    log.info("written: %s", ", ".join(map(str, paths)))


def _warn_of_front(prompt_format: PromptFormat, *, is_there: bool) -> None:
    """Gemma's perplexity without its first token is that of noise."""
    if prompt_format.added_in_front and not is_there:
        token = prompt_format.tokenizer.decode(list(prompt_format.added_in_front))
        log.warning(
            "windows begin without %s, which the tokenizer puts before every text; if the model needs it: --bos true",
            token,
        )


def _warn_of_control_tokens(prompt_format: PromptFormat, tokens: Sequence[int]) -> None:
    """Between documents they are meant; in a page about templates they are words, which `fit` would leave text."""
    added = prompt_format.tokenizer.added_tokens_decoder
    control = {number for number, token in added.items() if token.special} - {prompt_format.unknown_id}
    if found := Counter(str(added[number]) for number in tokens if number in control):
        log.warning(
            "%d control tokens are written out in the texts (%s) and read as such; take them out of the texts if they "
            "are words there",
            *(found.total(), first_names([name for name, _ in found.most_common()], 3)),
        )


def _encoder(prompt_format: PromptFormat) -> Any:
    """Tokens of a text as it stands, no special tokens added."""
    return lambda text: prompt_format.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]


def _settings(
    files: Sequence[Path], tokens: Sequence[int], windows: Windows, front: Sequence[int]
) -> dict[str, object]:
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return {
        "texts": f"{len(files)} files, sha256 {digest.hexdigest()[:16]}, {len(tokens):,} tokens as one sequence",
        **asdict(windows),
        "tokens in front": len(front),
        "rule": "plain mean over windows of each one's mean, as in LongLoRA's eval.py",
    }
