"""A plan as tables for people and as a dictionary for programs."""

from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lit_longpo.planning.inputs.configuration import PLANNED_SHARE, Configuration
from lit_longpo.planning.longest import Candidate, Longest
from lit_longpo.planning.memory import TITLES
from lit_longpo.planning.plan import GIB, Plan
from lit_longpo.planning.reference_pass import ReferencePass

_DEVICES = "devices to a row"  # a choice of `choices.strategies`


def as_dict(plan: Plan) -> dict[str, Any]:
    """Everything, in bytes, tokens, FLOPs and seconds."""
    configuration = plan.configuration
    return {
        "architecture": plan.architecture,
        "parameters": plan.sizes.total,
        "trained_parameters": plan.sizes.num_trained,
        "dtype": str(configuration.dtype).removeprefix("torch."),
        "quantization": configuration.policy.quantized and asdict(configuration.policy.quantized),
        "attention": "flash" if configuration.flash else "sdpa",
        "sharding": asdict(configuration.sharding),
        "row": {
            "tokens": plan.row.num_tokens,
            "examples": plan.row.num_examples,
            "prompt": plan.row.long_tokens,
            "short_prompt": plan.row.short_tokens if len(plan.row.contexts) > 1 else None,
            "response": plan.row.response_tokens,
            "from": configuration.lengths_from,
        },
        "scoring": "packed" if plan.alone is None else "sequential",
        "scored_alone_because": plan.alone,
        "times_packed_tokens": plan.cost_of_alone,
        "mode": plan.mode,
        "fits": plan.fits,
        "device_memory": round(configuration.device_memory_gib * GIB),
        "device_memory_from": configuration.device_memory_from,
        "memory": {name: _memory(plan, name) for name in TITLES},
        "head_tile": plan.head_tile,
        "layer_tile": plan.layer_tile,
        "kv_copies_per_layer": plan.kv_copies,
        "tokens_per_step": plan.tokens_per_step,
        "model_flops_per_step": plan.rows_per_step * plan.flops.model,
        "hardware_flops_per_step": plan.rows_per_step * plan.flops.hardware,
        "seconds_per_step": plan.seconds_per_step,
        "reference_pass": plan.reference_pass and {**asdict(plan.reference_pass), "seconds": plan.reference_seconds},
        "longest_context": plan.longest_context,
        "sequence_parallel_degrees": plan.degrees,
        "warnings": plan.warnings,
    }


def _memory(plan: Plan, mode: Any) -> dict[str, Any]:
    memory = plan.memory[mode]
    return {
        "peak": memory.peak,
        "when": memory.when,
        "parameters": memory.states.parameters,
        "gradients": memory.states.gradients,
        "optimizer": memory.states.optimizer,
        "buffers": memory.states.buffers,
        "reference_copy": memory.reference,
        "activations_kept": memory.kept,
        "host": memory.host,
        "moments": memory.moments,
    }


def show(plan: Plan, console: Console) -> None:
    """Print the plan."""
    console.print(_title(plan))
    console.print(_memory_table(plan))
    console.print(_work_table(plan))
    if plan.alone is not None:
        cost = f"computes {plan.cost_of_alone:.2f} times the tokens of a packed row"
        console.print(f"[yellow]one sequence at a time:[/yellow] {escape(plan.alone)}; {cost}", soft_wrap=True)
    for warning in plan.warnings:
        console.print(f"[yellow]warning:[/yellow] {escape(warning)}", soft_wrap=True)
    room, source = plan.configuration.device_memory_gib, plan.configuration.device_memory_from
    peak = plan.memory[plan.mode].peak / GIB
    verdict = "[green]fits[/green]" if plan.fits else "[red]does not fit[/red]"
    when = plan.memory[plan.mode].when
    taken = f"peak {peak:.2f} GiB of {room:.4g} GiB a device ({source})"
    console.print(f"{verdict}: {taken}, {PLANNED_SHARE:.0%} of which are for it, at: {when}", soft_wrap=True)


def _title(plan: Plan) -> str:
    configuration, row = plan.configuration, plan.row
    quantized = configuration.policy.quantized
    in_4_bits = f" ({quantized.type} linear maps)" if quantized else ""
    short = f", short prompt {row.short_tokens:,}" if len(row.contexts) > 1 else ""
    return (
        f"{type(configuration.objective).__name__} on {plan.architecture}: {plan.sizes.total:,} parameters, "
        f"{plan.sizes.num_trained:,} trained, {str(configuration.dtype).removeprefix('torch.')}{in_4_bits}, "
        f"{'flash' if configuration.flash else 'sdpa'} attention\n"
        f"{_devices(configuration)}; a full row: {row.num_tokens:,} tokens = {_number(row.num_examples, 'example')} "
        f"of prompt {row.long_tokens:,}{short}, responses of {row.response_tokens:,}\n"
        f"lengths: {escape(configuration.lengths_from)}"
    )


def _devices(run: Configuration) -> str:
    sharding, device = run.sharding, "GPU" if run.on_gpu else "CPU device"
    if sharding.world_size == 1:
        return f"one {device}" + (f", {_strategy(run)}" if sharding.kind == "zero" else "")
    return f"{_strategy(run)} over {_number(sharding.world_size, device)}, {sharding.sequence_parallel} to a row"


def _strategy(run: Configuration) -> str:
    return f"ZeRO-{run.sharding.stage}" if run.sharding.kind == "zero" else run.sharding.kind.upper()


def _number(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _memory_table(plan: Plan) -> Table:
    """One column for each way with activations; the configured one is marked."""
    table = Table(title="GiB on each device", title_justify="left")
    table.add_column("")
    for mode in TITLES:
        table.add_column(TITLES[mode] + (" *" if mode == plan.mode else ""), justify="right")
    columns = [_memory(plan, mode) for mode in TITLES]
    for name in ("parameters", "gradients", "optimizer", "buffers", "reference_copy", "activations_kept"):
        table.add_row(name.replace("_", " "), *(_gib(column[name]) for column in columns))
    table.add_section()
    for moment in columns[0]["moments"]:
        table.add_row(f"peak: {moment}", *(_gib(column["moments"][moment]) for column in columns))
    table.add_section()
    table.add_row("peak", *(_gib(column["peak"]) for column in columns), style="bold")
    table.add_row("in host memory", *(_gib(column["host"]) for column in columns))
    contexts = (plan.longest_context[mode] for mode in TITLES)
    table.add_row("longest context that fits, tokens", *(f"{tokens:,}" for tokens in contexts))
    return table


def _work_table(plan: Plan) -> Table:
    table = Table(title="Work and tiles", title_justify="left", show_header=False)
    options = plan.configuration.options
    seconds = plan.seconds_per_step
    time = "state --device_tflops" if seconds is None else f"{seconds:,.1f} s at {options.mfu:.0%} MFU"
    peak = "" if options.device_tflops is None else f" of {options.device_tflops:g} TFLOP/s"
    rows = {
        "tokens per step": f"{plan.tokens_per_step:,} in {plan.rows_per_step} rows",
        "model FLOPs per step": f"{plan.rows_per_step * plan.flops.model:.3g}",
        "with what is computed twice": f"{plan.rows_per_step * plan.flops.hardware:.3g}",
        "time per step": time + peak,
        "a tile of logits": f"{_gib(plan.head_tile)} GiB, up to three at a time",
        "a tile of MLPs and norms": "the whole row" if plan.layer_tile is None else f"{plan.layer_tile:,} tokens",
        "K/V copies for branches": f"{_gib(plan.kv_copies)} GiB a layer",
        "sequence-parallel degrees": ", ".join(map(str, plan.degrees)),
    }
    if plan.reference_pass is not None:
        rows["reference, before step 1"] = _reference(plan, plan.reference_pass)
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def show_longest(found: Longest, console: Console) -> None:
    """Print the best with every choice, and the command for the best of all."""
    best, run = found.best, found.best.run
    room = f"{run.device_memory_gib:.4g} GiB a device ({run.device_memory_from})"
    devices = _number(run.sharding.world_size, "device")
    console.print(
        f"longest row of {type(run.objective).__name__} on {run.policy.source}, {devices}, {room}: "
        f"[bold]{best.tokens:,} tokens[/bold], one example of prompt {best.row.long_tokens:,} with responses of "
        f"{best.row.response_tokens:,}",
        soft_wrap=True,
    )
    console.print(_longest_table(found))
    for note in found.notes:
        console.print(f"[yellow]note:[/yellow] {escape(note)}", soft_wrap=True)
    checked = f"check: one layer traced at its own length differs by {found.difference:+.1%} from what was counted"
    console.print(checked, soft_wrap=True)
    console.print(f"to run it:\n  {escape(found.fit)}", soft_wrap=True, highlight=False)
    console.print(f"to plan it:\n  {escape(found.plan)}", soft_wrap=True, highlight=False)


def _longest_table(found: Longest) -> Table:
    table = Table(title="The longest row with each choice, whatever else is chosen", title_justify="left")
    for name in ("choice", "tokens", "GiB a device", "GiB of a host", "with"):
        table.add_column(name, justify="left" if name in ("choice", "with") else "right")
    shared = found.best.run.sharding.world_size > 1  # else there is one way to choose devices to a row
    left_out = set() if shared else {_DEVICES}
    for name, ways in found.table.items():
        if name in left_out:
            continue
        for label, candidate in ways.items():
            others = [_in_words(of, text) for of, text in candidate.labels.items() if of not in {name, *left_out}]
            mark = " *" if found.best.labels[name] == label else ""
            sizes = (_gib(candidate.memory.peak), _gib(candidate.host_bytes))
            table.add_row(f"{name}: {label}{mark}", f"{candidate.tokens:,}", *sizes, ", ".join(others))
        table.add_section()
    return table


def _in_words(choice: str, label: str) -> str:
    return f"{label} {choice}" if choice == _DEVICES else label


def longest_as_dict(found: Longest) -> dict[str, Any]:
    """What was found, in bytes and tokens, for JSON."""
    return {
        "best": _candidate(found.best),
        "choices": {
            name: {label: _candidate(candidate) for label, candidate in ways.items()}
            for name, ways in found.table.items()
        },
        "traced_to_added_up": found.difference,
        "notes": found.notes,
        "command": found.fit,
        "plan": found.plan,
    }


def _candidate(candidate: Candidate) -> dict[str, Any]:
    return {
        "chosen": candidate.labels,
        "row_tokens": candidate.tokens,
        "prompt": candidate.row.long_tokens,
        "peak": candidate.memory.peak,
        "when": candidate.memory.when,
        "host": candidate.host_bytes,
    }


def _reference(plan: Plan, made: ReferencePass) -> str:
    examples = _number(made.examples_per_row, "example")
    rows = f"rows of {made.row_tokens:,} tokens ({examples}), {made.flops_per_row:.3g} FLOPs"
    if plan.reference_seconds is None:
        return rows
    return f"{rows}, {plan.reference_seconds:,.1f} s for {made.num_examples:,} examples"


def _gib(number: int) -> str:
    return f"{number / GIB:,.3f}"
