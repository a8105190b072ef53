"""The README's table of model families, measured on tiny twins; run as a script, it writes the table.

PYTHONPATH=tests python tests/support/families.py
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
import transformers
from support import sequence_worker
from support.groups import random_groups
from support.parity import assert_parity
from support.tiny_hybrids import ALONE, OWN, SHARED, tiny_hybrid
from support.tiny_models import ARCHITECTURES, tiny_model
from torch import nn

from lit_longpo.engine import base_model, feasible_degrees, plan_scoring
from lit_longpo.engine.routers import routers
from lit_longpo.engine.startup.probe import check_model
from lit_longpo.engine.states import mixers
from lit_longpo.engine.ulysses import sequence_parallel
from lit_longpo.engine.ulysses.degrees import head_counts
from lit_longpo.errors import UserError
from lit_longpo.policy import LoRA, PolicyConfig
from lit_longpo.policy.adapters.lora import add_adapters

README = Path(__file__).resolve().parents[2] / "README.md"
START, END = "<!-- families: made by `make families` -->", "<!-- families end -->"
HEADER = ("family", "rows", "responses share", "Ulysses", "LoRA", "4-bit base", "compared with plain rows")
NAMES = [*ARCHITECTURES, *SHARED, *ALONE, *OWN]
GROUPS = [(20, [5, 9, 1]), (7, [3])]  # prompts longer than the windows of those that have one

# What people call them, where that is not transformers' name of the class.
_CALLED = {
    "Qwen2": "Qwen2 / 2.5",
    "Llama": "Llama 2 / 3",
    "Gemma2": "Gemma 2",
    "Gemma3Text": "Gemma 3 (text)",
    "Qwen3Moe": "Qwen3 MoE",
    "DeepseekV3": "DeepSeek-V3",
    "GptOss": "gpt-oss",
    "Qwen3_5Text": "Qwen3.5 (text)",
    "Qwen3Next": "Qwen3-Next",
    "OlmoHybrid": "OLMo hybrid",
    "GraniteMoeHybrid": "Granite 4 hybrid",
    "FalconH1": "Falcon-H1",
    "Lfm2": "LFM2",
    "NemotronH": "Nemotron-H",
    "GPTNeo": "GPT-Neo",
    "StableLm": "StableLM",
    "Llama4Text": "Llama 4 (text)",
    "DeepseekV4": "DeepSeek-V4",
    "InklingText": "Inkling (text)",
    "ModernBertDecoder": "ModernBERT decoder",
    "Bert": "BERT as a decoder",
}


def twin(name: str) -> nn.Module:
    """A tiny random model of the family, loaded as a policy is."""
    return tiny_model(name) if name in ARCHITECTURES else tiny_hybrid(name)


def measured(name: str, *, packs: bool = True) -> tuple[str, ...]:
    """A family's cells, all but the first.

    Args:
        name: transformers' name of the class.
        packs: whether to try 4-bit weights too, which takes bitsandbytes.
    """
    model = twin(name)
    plan = plan_scoring(model)
    path = plan.path
    assert_parity(model, random_groups(GROUPS, jump=plan.no_leaps is None))
    return (
        {
            "packed": "packed",
            "sequential": "one sequence at a time",
            "own_logits": "one sequence at a time, by its own logits",
        }[path],
        _shared(model, path),
        _degrees(name, model),
        _or_refused(lambda: _adapted(name)),
        _or_refused(lambda: _packed_in_4_bits(name)) if packs else "",
        "values, gradients",
    )


def _shared(model: nn.Module, path: str) -> str:
    if path != "packed":
        return "nothing"
    return "keys, states" if mixers(model) and _attends(model) else "states" if mixers(model) else "keys"


def _attends(model: nn.Module) -> bool:
    return any("attn" in name or "attention" in name or name.endswith("q_proj") for name, _ in model.named_modules())


def _degrees(name: str, model: nn.Module) -> str:
    """Of a twin that tests run in real processes; a family that they do not has to be refused."""
    if name in sequence_worker.CASES:
        return ", ".join(map(str, feasible_degrees(*head_counts(base_model(model).config))[1:]))
    before = sequence_parallel._ranks
    sequence_parallel._ranks = sequence_parallel.SequenceRanks(2, 0)
    try:
        return _or_refused(lambda: f"{check_model(model)}, tested by nobody")
    finally:
        sequence_parallel._ranks = before


def _or_refused(find: Callable[[], str]) -> str:
    try:
        return find()
    except UserError:
        return "refused"


def _adapted(name: str) -> str:
    """Values and gradients of adapters on every linear map."""
    adapted = add_adapters(twin(name), LoRA(r=2, alpha=4)).train()
    torch.manual_seed(0)
    for key, parameter in adapted.named_parameters():
        if "lora_B" in key:  # zero at first, and then A has no gradient
            nn.init.normal_(parameter, std=0.1)
    plan_scoring(adapted)
    assert_parity(adapted, random_groups(GROUPS))
    if not routers(base_model(adapted)):
        return "yes"
    trained = [key for key, parameter in adapted.named_parameters() if parameter.requires_grad]
    return "yes, experts, too" if any(".experts." in key for key in trained) else "yes, experts frozen"


def _packed_in_4_bits(name: str) -> str:
    """Adapters on a base in 4 bits, which the start-up probe compares with the base's own forward."""
    with tempfile.TemporaryDirectory() as folder:
        twin(name).save_pretrained(folder)
        model = PolicyConfig(source=folder, quantization="4bit", lora=LoRA(r=2, alpha=4)).load()
    plan_scoring(model)
    whole = [parameter for parameter in model.parameters() if parameter.ndim == 3 and parameter.is_floating_point()]
    return "yes, experts whole" if whole and routers(base_model(model)) else "yes"


def table(cells: dict[str, tuple[str, ...]]) -> str:
    """Families with the same cells share a line."""
    groups = dict[tuple[str, ...], list[str]]()
    for name, values in cells.items():
        groups.setdefault(values, []).append(called(name))
    rows = [HEADER, ("---",) * len(HEADER), *((", ".join(names), *values) for values, names in groups.items())]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def shown() -> str:
    """The table that the README holds."""
    return README.read_text().partition(f"{START}\n")[2].partition(END)[0]


def shown_cells() -> dict[str, tuple[str, ...]]:
    """Its cells by family, as people call it."""
    rows = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in shown().splitlines()[2:]]
    return {name: cells for names, *cells in rows for name in names.split(", ")}


def called(name: str) -> str:
    """What people call a family."""
    return _CALLED.get(name, name)


def write() -> None:
    """Put the measured table into the README."""
    transformers.logging.set_verbosity_error()
    before, _, rest = README.read_text().partition(f"{START}\n")
    README.write_text(
        f"{before}{START}\n{table({name: measured(name) for name in NAMES})}{END}{rest.partition(END)[2]}"
    )


if __name__ == "__main__":
    write()
