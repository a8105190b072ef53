"""Options of TRL, LLaMA-Factory and axolotl, and what they are called here."""

import shlex
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass

Translate = Callable[[str], str | None]  # their value -> ours, `None` if there is none


@dataclass(frozen=True)
class _Option:
    """What an option of others is called here.

    Args:
        ours: what to type, with an example; of several the first whose section the command has.
        value: their values in our words; `None` where these are the same.
        meaning: what is meant here by the same word, where that is something else: the typed value is not carried over.
        note: what follows from the option there, and not here.
    """

    ours: tuple[str, ...]
    value: Translate | None = None
    meaning: str = ""
    note: str = ""


def _called(
    names: str, *ours: str, value: Translate | None = None, meaning: str = "", note: str = ""
) -> dict[str, _Option]:
    """Options of the same meaning, whose names stand in one text; see `_Option`."""
    return dict.fromkeys(names.split(), _Option(ours, value, meaning, note))


def _whole(value: str) -> str | None:
    """Epochs as a whole number, which others write 3.0."""
    return str(int(float(value))) if value.replace(".", "", 1).isdigit() and float(value).is_integer() else None


def _share(value: str) -> str | None:
    return value if value.replace(".", "", 1).isdigit() and float(value) < 1 else None


def _modules(value: str) -> str:
    names = value.strip("[]").replace(",", " ").split()
    every = [name.lower() for name in names] in (["all"], ["all-linear"])
    return "all-linear" if every else f"[{','.join(names)}]"


def _file(value: str) -> str:
    return "FILE" if "{" in value else value  # axolotl's data sets have settings of each


def _checkpoint(value: str) -> str | None:
    return {"true": "last", "false": None}.get(value.lower(), value)


def _objective(value: str) -> str | None:
    return _OBJECTIVES.get(value.strip("[]'\"").lower())  # a list of one, too


def _dtype(value: str) -> str | None:
    return _DTYPES.get(value.removeprefix("torch."))


def _named(words: Mapping[str, str]) -> Translate:
    return lambda value: words.get(value.lower())


def _switched(on: str, off: str | None = None) -> Translate:
    return _named({"true": on} if off is None else {"true": on, "false": off})


_OBJECTIVES = {
    "sigmoid": "DPO",
    **{name.lower(): name for name in ("SFT", "DPO", "IPO", "SimPO", "ORPO", "SoLoPO", "LongPO", "LOGO")},
}
_DTYPES = {name: name for name in ("float32", "bfloat16", "float16")} | {
    **dict.fromkeys(("fp32", "float", "32"), "float32"),
    **dict.fromkeys(("bf16", "bf16-true"), "bfloat16"),
    **dict.fromkeys(("fp16", "half", "16"), "float16"),
}
_SWITCH = _named({"true": "true", "false": "false", "1": "true", "0": "false"})
_SCHEDULE = _named({"linear": "linear", "cosine": "cosine", "constant": "constant", "constant_with_warmup": "constant"})
_ATTENTION = _named(
    {"flash_attention_2": "flash", "fa2": "flash", "sdpa": "sdpa", "auto": "auto", "true": "flash", "false": "sdpa"}
)
_LOGGER = _named(
    {"wandb": "WandbLogger", "tensorboard": "TensorBoardLogger", "mlflow": "MLFlowLogger", "none": "false"}
)

_BATCH_TOKENS = "--batching.max_batch_tokens 16384"
_WARMED_UP = "--optimization.warmup_fraction 0.1"
_LENGTH = "--data.max_length 8192"
_PAIRS = "--data data/pairs --data.path FILE"
_SOURCE = "--policy.source FOLDER_OR_HUB_NAME"
_DTYPE = "--policy.dtype bfloat16"
_ADAPTERS = "--policy.lora.r 16"
_TARGETS = "--policy.lora.target_modules all-linear"
_CHECKPOINTS = "--trainer.callbacks+ ModelCheckpoint --trainer.callbacks"
_SAVING = f"{_CHECKPOINTS}.every_n_train_steps 100"
_BEST = f"{_CHECKPOINTS}.monitor val/loss"
_STOPPING = "--trainer.callbacks+ EarlyStopping --trainer.callbacks.monitor val/loss --trainer.callbacks.patience 3"

_TOKENS = "tokens of a batch, not examples"
# The same of an option of ours, whatever it is called there.
_MEANING = {"--batching.max_batch_tokens": _TOKENS}

_FAMILIAR: dict[str, _Option] = {
    **_called("lr learning_rate optimization.lr", "--optimization.optimizer.lr 1e-6"),
    **_called("lr_scheduler_type lr_scheduler scheduler", "--optimization.schedule cosine", value=_SCHEDULE),
    **_called("warmup_ratio", _WARMED_UP),
    **_called("warmup_steps", _WARMED_UP, meaning="a share of all steps"),
    **_called("optim optimizer", "--optimization.optimizer FusedAdamW", meaning="or a class of torch.optim"),
    **_called("router_aux_loss_coef moe_aux_loss_coef", "--optimization.router_loss model"),
    **_called("adam_beta1 adam_beta2", "--optimization.optimizer.betas '[0.9,0.999]'", meaning="both of them"),
    **_called("adam_epsilon", "--optimization.optimizer.eps 1e-8"),
    **_called("weight_decay", "--optimization.optimizer.weight_decay 0.0"),
    **_called("batch_size train_batch_size", "--data.max_examples 2", _BATCH_TOKENS),
    **_called("micro_batch_size per_device_train_batch_size", "--data.max_examples 2", _BATCH_TOKENS),
    # A batch is a budget of tokens.
    **_called("eval_batch_size per_device_eval_batch_size", "--data.max_tokens 8192", _BATCH_TOKENS, meaning=_TOKENS),
    **_called("max_length max_seq_length max_seq_len sequence_len cutoff_len max_tokens", _LENGTH),
    **_called(
        "max_prompt_length max_completion_length max_target_length",
        _LENGTH,
        meaning="tokens of prompt and answer together",
    ),
    **_called(
        "truncation_mode", "--data.on_overlength truncate", meaning="the middle of the context is cut, never an end"
    ),
    **_called("dataloader_num_workers num_workers", "--data.num_workers 2"),
    **_called("dataset", _PAIRS, value=_file, note=" (a file, not its name in dataset_info.json)"),
    **_called("eval_dataset", "--data.val_path FILE"),
    **_called("max_samples", "--data.first 1000"),
    **_called("datasets dataset_name dataset_path data_path train_file", _PAIRS, value=_file),
    **_called("data_seed", "--data.seed 42"),
    **_called("val_size", "--data.val_fraction 0.02", value=_share),
    **_called("accumulate grad_accum gradient_accumulation_steps", "--trainer.accumulate_grad_batches 8"),
    **_called("max_grad_norm grad_clip", "--trainer.gradient_clip_val 1.0"),
    **_called("epochs num_epochs num_train_epochs", "--trainer.max_epochs 1", value=_whole),
    **_called("steps max_steps num_steps", "--trainer.max_steps 100"),
    **_called("logging_steps", "--trainer.log_every_n_steps 1"),
    **_called(
        "eval_steps eval_strategy",
        "--trainer.val_check_interval 0.25",
        meaning="a share of an epoch, or batches if it is a whole number",
    ),
    **_called(
        "metric_for_best_model", _BEST, meaning="eval_loss is val/loss; rewards want --trainer.callbacks.mode max, too"
    ),
    **_called("early_stopping_patience", _STOPPING),
    **_called("report_to", "--trainer.logger WandbLogger", value=_LOGGER),
    **_called("run_name wandb_name experiment_name", "--name NAME"),
    **_called("output_dir save_dir output", "--trainer.default_root_dir FOLDER", "--output FOLDER"),
    **_called("gpus num_gpus n_gpus devices nproc_per_node", "--trainer.devices 8"),
    **_called("save_steps", _SAVING),
    **_called("save_strategy", _SAVING, meaning="optimizer steps, or a time"),
    **_called(
        "load_in_4bit quantization_bit", "--policy.quantization 4bit", value=_named({"true": "4bit", "4": "4bit"})
    ),
    **_called("nnodes", "--trainer.num_nodes 2"),
    **_called(
        "deepspeed",
        "--config overlays/deepspeed_zero3",
        meaning="or deepspeed_zero1, deepspeed_zero2; overlays of ours, no files of DeepSpeed's",
    ),
    **_called("fsdp", "--config overlays/fsdp2", meaning="an overlay of ours"),
    **_called("seed", "--seed_everything 42", "--seed 0"),
    **_called("resume resume_from_checkpoint", "--ckpt_path last", value=_checkpoint),
    **_called("checkpoint", "--ckpt_path last"),
    **_called("model_name model_name_or_path model_id base_model model_path", _SOURCE),
    **_called("adapter_name_or_path", _SOURCE, note=" --policy.lora null (the folder names its base)"),
    **_called("create_new_adapter", "--policy.adapters merge", value=_switched("merge", "continue")),
    **_called("ref_model ref_model_name_or_path", "--reference.policy.source FOLDER_OR_HUB_NAME"),
    **_called("precompute_ref_log_probs", "--reference.mode cached", value=_switched("cached", "online")),
    **_called("dtype torch_dtype", _DTYPE, value=_dtype),
    **_called("bf16", _DTYPE, value=_switched("bfloat16", "float32")),
    **_called("fp16", "--policy.dtype float16", value=_switched("float16")),
    **_called("activation_offloading", "--policy.gradient_checkpointing offload", value=_switched("offload")),
    **_called("gradient_checkpointing", "--policy.gradient_checkpointing true", value=_SWITCH),
    **_called(
        "tiled_mlp use_tiled_mlp unsloth_tiled_mlp", "--policy.tile_tokens auto", value=_switched("auto", "null")
    ),
    **_called(
        "use_liger_kernel enable_liger_kernel liger_rms_norm liger_swiglu liger_glu_activation",
        "--policy.layer_kernels liger",
        value=_switched("liger", "null"),
    ),
    **_called("torch_compile", "--policy.layer_kernels compile", value=_switched("compile", "null")),
    **_called("tiled_mlp_num_shards", "--policy.tile_tokens 2048", meaning="tokens of a tile, not how many there are"),
    **_called(
        "flash_attn flash_attention attn_implementation use_flash_attention_2",
        "--policy.attention flash",
        value=_ATTENTION,
    ),
    **_called("use_peft", _ADAPTERS, value=_switched("16")),
    **_called("lora_r rank policy.lora.rank", _ADAPTERS),
    **_called(
        "lora_rank", _ADAPTERS, note=" (without lora_alpha LLaMA-Factory's is twice it, here 32 or the recipe's)"
    ),
    **_called("lora_alpha", "--policy.lora.alpha 32"),
    **_called("use_dora", "--policy.lora.use_dora true"),
    **_called("use_rslora", "--policy.lora.use_rslora true"),
    **_called("lora_dropout", "--policy.lora.dropout 0.05"),
    **_called("lora_target lora_target_modules", _TARGETS, value=_modules),
    **_called("lora_target_linear", _TARGETS, value=_switched("all-linear", "[NAMES]")),
    **_called(
        "modules_to_save lora_modules_to_save additional_target", "--policy.lora.also_train '[embed_tokens,lm_head]'"
    ),
    **_called("trainable_token_indices new_special_tokens", "--policy.added_tokens '[<fact>]'"),
    **_called("default_system system_prompt", "--policy.template.system TEXT"),
    **_called("enable_thinking", "--policy.template.options.enable_thinking false"),
    **_called("loss_type objective method pref_loss rl", "--model DPO", value=_objective),
    **_called("beta pref_beta rl_beta", "--model.beta 0.1"),
    **_called("gamma simpo_gamma", "--model.gamma 0.5"),
}

# What is not done, and what is done instead.
_NOT_OFFERED = {
    **dict.fromkeys(
        ("finetuning_type", "adapter"),
        "adapters are --policy.lora '{r: 16, alpha: 32}', all weights --policy.lora null",
    ),
    **dict.fromkeys(
        ("template", "chat_template"),
        "the model's own chat template is used, leave it out; another one is chat_template.jinja in the folder of "
        "--policy.source",
    ),
    "stage": "the objective says what is done: --model SFT for sft, --model DPO for dpo, or what pref_loss names",
    "do_train": "the command says what is done: fit, validate, build, evaluate, ask, export",
    "label_smoothing": "label smoothing of preferences is not offered; --model IPO is the objective for noisy labels",
    "loss_weights": "sums of losses are not offered; --model ORPO has an SFT term",
    **dict.fromkeys(
        ("f_divergence_type", "ld_alpha", "use_weighting", "discopop_tau"), "this variant of DPO is not offered"
    ),
    **dict.fromkeys(
        ("assistant_only_loss", "completion_only_loss", "train_on_inputs", "train_on_prompt", "mask_history"),
        "the answer alone is trained; earlier answers of a conversation are history",
    ),
    "padding_free": "rows hold no padding",
    "load_in_8bit": "8-bit weights are not offered; type --policy.quantization 4bit",
    **dict.fromkeys(("packing", "neat_packing"), "rows are packed always; --data.max_tokens is their budget"),
    **dict.fromkeys(
        ("rpo_alpha", "dpo_ftx", "pref_ftx", "cpo_alpha"),
        "an SFT term beside DPO or SimPO is not offered; --model ORPO has one",
    ),
    "gamma_beta_ratio": "it is gamma / beta, type their product: --model.beta 2.0 --model.gamma 1.0 (for 0.5)",
    "reference_free": "DPO is trained with its reference; --model SimPO and --model ORPO have none",
    "sync_ref_model": "the reference stays as it is while the policy is trained",
    "average_log_prob": "the objective says what is averaged: --model SimPO, or --model IPO --model.per_token true",
    "disable_dropout": "a model's own dropout is always off; that of adapters is --policy.lora.dropout",
    "load_best_model_at_end": "the last lines name the best checkpoint of a ModelCheckpoint with `monitor`; export it",
    "save_total_limit": "each ModelCheckpoint says in `save_top_k` how many it keeps",
    "dataloader_drop_last": "no pair is left out",
    "group_by_length": "rows are filled by tokens and hold no padding",
    **dict.fromkeys(
        ("loraplus_lr_ratio", "loraplus_lr_embedding"),
        "a higher rate for one half of the adapters (LoRA+) is not offered; all parameters share one",
    ),
    **dict.fromkeys(
        (
            *("init_lora_weights", "peft_init_lora_weights", "pissa_init", "loftq_config", "eva_config"),
            "target_parameters",
        ),
        "adapters that begin otherwise, or sit on stacked experts, are made with peft: save them untrained, and name "
        "their folder in --policy.source",
    ),
    "neftune_noise_alpha": "noise in the embeddings is not offered",
}

# What has another setting there, under the same name.
_AS_THERE = {"IPO": " --model.per_token true"}
# Their words for the values of our options.
_OWN = {"attention": _ATTENTION, "schedule": _SCHEDULE}


def familiar(word: str, known: Container[str], typed: str | None = None) -> str | None:
    """What another project's option is called here.

    Args:
        word: as typed, without dashes in front.
        known: names of the command's own options.
        typed: its value, which is carried over where it means the same; `None` shows an example.

    Returns:
        What to type; `None` if nobody else has such an option, or this command nothing like it.
    """
    theirs = _FAMILIAR.get(word.replace("-", "_"), _Option(()))
    for option in theirs.ours:
        ours = option.split()[0].lstrip("-").rstrip("+")
        if ours in known or ("." in ours and ours.split(".")[0] in known):
            return _with_value(theirs, option, typed)
    return None


def familiar_value(option: str, typed: str) -> str | None:
    """What another project's value of one of our options is called here; `None` if it is nobody's."""
    name = option.rpartition(".")[2]
    translate = _OWN[name] if name in _OWN else _FAMILIAR.get(name, _Option(())).value
    ours = None if translate is None else translate(typed.strip("'\""))
    return ours if ours != typed else None


def not_offered(word: str) -> str | None:
    """What to say of another project's option that nothing here is like; `None` of any other."""
    return _NOT_OFFERED.get(word.replace("-", "_"))


def _with_value(theirs: _Option, option: str, typed: str | None) -> str:
    """Our option with the value that was typed, or with an example and what is meant by it."""
    front, example = option.rsplit(" ", 1)
    if meaning := theirs.meaning or _MEANING.get(front):
        return f"{option} (for example: {meaning})"
    if typed is None:
        return option if example.isupper() else f"{option} (for example)"
    value = typed if theirs.value is None else theirs.value(typed)
    if value is None:
        off = typed.lower() == "false"
        return f"{option}, and is off unless it is typed" if off else f"{option} (for example: {typed} is not offered)"
    return f"{front} {shlex.quote(value)}{_AS_THERE.get(value, '')}{theirs.note}"
