"""Options of TRL, LLaMA-Factory and axolotl, and what they are called here."""

import shlex
from collections.abc import Callable, Container, Mapping

_PAIRS_OF_A_ROW = "--data.max_examples 2"
_ROWS = "--data.max_tokens 8192"  # a batch is a budget of tokens
_LENGTH = "--data.max_length 8192"
_LIGER = ("use_liger_kernel", "enable_liger_kernel", "liger_rms_norm", "liger_swiglu", "liger_glu_activation")
_FLASH = ("flash_attn", "flash_attention", "attn_implementation", "use_flash_attention_2")
_TARGETS = ("lora_target", "lora_target_modules", "lora_target_linear")
_BESIDE = ("modules_to_save", "lora_modules_to_save", "additional_target")
_DATA = ("dataset", "datasets", "dataset_name", "dataset_path", "data_path", "train_file")
_SOURCE = "--policy.source FOLDER_OR_HUB_NAME"
_PAIRS = "--data data/pairs --data.path FILE"
_ADAPTERS = "--policy.lora.r 16"
_SAVING = "--trainer.callbacks+ ModelCheckpoint --trainer.callbacks.every_n_train_steps 100"
_BEST = "--trainer.callbacks+ ModelCheckpoint --trainer.callbacks.monitor val/loss"
_STOPPING = "--trainer.callbacks+ EarlyStopping --trainer.callbacks.monitor val/loss --trainer.callbacks.patience 3"
_RATE = "--optimization.optimizer.lr 1e-6"
_BATCHES = ("batch_size", "train_batch_size", "micro_batch_size", "per_device_train_batch_size")
_EVAL_BATCHES = ("eval_batch_size", "per_device_eval_batch_size")

# What to type; of several the first whose section the command has.
_FAMILIAR: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("lr", "learning_rate", "optimization.lr"), (_RATE,)),
    **dict.fromkeys(("lr_scheduler_type", "lr_scheduler", "scheduler"), ("--optimization.schedule cosine",)),
    **dict.fromkeys(("warmup_ratio", "warmup_steps"), ("--optimization.warmup_fraction 0.1",)),
    **dict.fromkeys(("optim", "optimizer"), ("--optimization.optimizer FusedAdamW",)),
    **dict.fromkeys(("router_aux_loss_coef", "moe_aux_loss_coef"), ("--optimization.router_loss model",)),
    **dict.fromkeys(("adam_beta1", "adam_beta2"), ("--optimization.optimizer.betas '[0.9,0.999]'",)),
    "adam_epsilon": ("--optimization.optimizer.eps 1e-8",),
    "weight_decay": ("--optimization.optimizer.weight_decay 0.0",),
    **dict.fromkeys(_BATCHES, (_PAIRS_OF_A_ROW, "--batching.max_batch_tokens 16384")),
    **dict.fromkeys(_EVAL_BATCHES, (_ROWS, "--batching.max_batch_tokens 16384")),
    **dict.fromkeys(("max_seq_length", "max_seq_len", "sequence_len", "cutoff_len", "max_tokens"), (_LENGTH,)),
    **dict.fromkeys(("max_length", "max_prompt_length", "max_completion_length", "max_target_length"), (_LENGTH,)),
    "truncation_mode": ("--data.on_overlength truncate",),
    **dict.fromkeys(("dataloader_num_workers", "num_workers"), ("--data.num_workers 2",)),
    **dict.fromkeys(_DATA, (_PAIRS,)),
    "data_seed": ("--data.seed 42",),
    "val_size": ("--data.val_fraction 0.02",),
    **dict.fromkeys(("accumulate", "grad_accum"), ("--trainer.accumulate_grad_batches 8",)),
    "gradient_accumulation_steps": ("--trainer.accumulate_grad_batches 8",),
    **dict.fromkeys(("max_grad_norm", "grad_clip"), ("--trainer.gradient_clip_val 1.0",)),
    **dict.fromkeys(("epochs", "num_epochs", "num_train_epochs"), ("--trainer.max_epochs 1",)),
    **dict.fromkeys(("steps", "max_steps", "num_steps"), ("--trainer.max_steps 100",)),
    "logging_steps": ("--trainer.log_every_n_steps 1",),
    **dict.fromkeys(("eval_steps", "eval_strategy"), ("--trainer.val_check_interval 0.25",)),
    "metric_for_best_model": (_BEST,),
    "early_stopping_patience": (_STOPPING,),
    "report_to": ("--trainer.logger WandbLogger",),
    **dict.fromkeys(("run_name", "wandb_name", "experiment_name"), ("--name NAME",)),
    **dict.fromkeys(("output_dir", "save_dir", "output"), ("--trainer.default_root_dir FOLDER", "--output FOLDER")),
    **dict.fromkeys(("gpus", "num_gpus", "n_gpus", "devices", "nproc_per_node"), ("--trainer.devices 8",)),
    **dict.fromkeys(("save_steps", "save_strategy"), (_SAVING,)),
    **dict.fromkeys(("load_in_4bit", "quantization_bit"), ("--policy.quantization 4bit",)),
    "nnodes": ("--trainer.num_nodes 2",),
    "deepspeed": ("--config overlays/deepspeed_zero3",),
    "fsdp": ("--config overlays/fsdp2",),
    "seed": ("--seed_everything 42", "--seed 0"),
    **dict.fromkeys(("resume", "resume_from_checkpoint", "checkpoint"), ("--ckpt_path last",)),
    **dict.fromkeys(("model_name", "model_name_or_path", "model_id", "base_model", "model_path"), (_SOURCE,)),
    "adapter_name_or_path": (_SOURCE,),
    **dict.fromkeys(("ref_model", "ref_model_name_or_path"), ("--reference.policy.source FOLDER_OR_HUB_NAME",)),
    "precompute_ref_log_probs": ("--reference.mode cached",),
    **dict.fromkeys(("bf16", "fp16", "dtype", "torch_dtype"), ("--policy.dtype bfloat16",)),
    "activation_offloading": ("--policy.gradient_checkpointing offload",),
    "gradient_checkpointing": ("--policy.gradient_checkpointing true",),
    **dict.fromkeys(("tiled_mlp", "use_tiled_mlp", "unsloth_tiled_mlp"), ("--policy.tile_tokens auto",)),
    **dict.fromkeys(_LIGER, ("--policy.layer_kernels liger",)),
    "torch_compile": ("--policy.layer_kernels compile",),
    "tiled_mlp_num_shards": ("--policy.tile_tokens 2048",),
    **dict.fromkeys(_FLASH, ("--policy.attention flash",)),
    **dict.fromkeys(("use_peft", "lora_r", "lora_rank", "rank", "policy.lora.rank"), (_ADAPTERS,)),
    "lora_alpha": ("--policy.lora.alpha 32",),
    "use_dora": ("--policy.lora.use_dora true",),
    "use_rslora": ("--policy.lora.use_rslora true",),
    "lora_dropout": ("--policy.lora.dropout 0.05",),
    **dict.fromkeys(_TARGETS, ("--policy.lora.target_modules all-linear",)),
    **dict.fromkeys(_BESIDE, ("--policy.lora.also_train '[embed_tokens,lm_head]'",)),
    **dict.fromkeys(("trainable_token_indices", "new_special_tokens"), ("--policy.added_tokens '[<fact>]'",)),
    **dict.fromkeys(("template", "chat_template"), ("--policy.template.user '{context} {question}'",)),
    **dict.fromkeys(("loss_type", "objective", "method", "pref_loss", "rl"), ("--model DPO",)),
    **dict.fromkeys(("beta", "pref_beta", "rl_beta"), ("--model.beta 0.1",)),
    **dict.fromkeys(("gamma", "simpo_gamma"), ("--model.gamma 0.5",)),
}

# What is meant here by the same word, or by our option for it, where it is something else: the value that was typed is
# not carried over.
_MEANING = {
    "--batching.max_batch_tokens": "tokens of a batch, not examples",
    **dict.fromkeys(_EVAL_BATCHES, "tokens of a batch, not examples"),
    **dict.fromkeys(
        ("max_prompt_length", "max_completion_length", "max_target_length"),
        "tokens of prompt and answer together",
    ),
    "tiled_mlp_num_shards": "tokens of a tile, not how many there are",
    "warmup_steps": "a share of all steps",
    **dict.fromkeys(("eval_steps", "eval_strategy"), "a share of an epoch, or batches if it is a whole number"),
    "metric_for_best_model": "eval_loss is val/loss; rewards want --trainer.callbacks.mode max, too",
    "save_strategy": "optimizer steps, or a time",
    **dict.fromkeys(("adam_beta1", "adam_beta2"), "both of them"),
    **dict.fromkeys(("template", "chat_template"), "the text of a message; the model's own chat template is used"),
    "truncation_mode": "the middle of the context is cut, never an end",
    "deepspeed": "or deepspeed_zero1, deepspeed_zero2; overlays of ours, no files of DeepSpeed's",
    "fsdp": "an overlay of ours",
    **dict.fromkeys(("optim", "optimizer"), "or a class of torch.optim"),
}

# What is not done, and what is done instead.
_NOT_OFFERED = {
    **dict.fromkeys(
        ("finetuning_type", "adapter"),
        "adapters are --policy.lora '{r: 16, alpha: 32}', all weights --policy.lora null",
    ),
    "stage": "the objective says what is done: --model DPO",
    "do_train": "the command says what is done: fit, validate, build, evaluate, ask, export",
    "label_smoothing": "label smoothing of preferences is not offered; --model IPO is the objective for noisy labels",
    "loss_weights": "sums of losses are not offered; --model ORPO has an SFT term",
    **dict.fromkeys(
        ("f_divergence_type", "ld_alpha", "use_weighting", "discopop_tau"), "this variant of DPO is not offered"
    ),
    **dict.fromkeys(
        ("assistant_only_loss", "completion_only_loss", "train_on_inputs", "train_on_prompt"),
        "the answer alone is trained; earlier answers of a conversation are history",
    ),
    "padding_free": "rows hold no padding",
    "load_in_8bit": "8-bit weights are not offered; type --policy.quantization 4bit",
    "packing": "rows are packed always; --data.max_tokens is their budget",
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
            "init_lora_weights",
            "peft_init_lora_weights",
            "pissa_init",
            "loftq_config",
            "eva_config",
            "target_parameters",
        ),
        "adapters that begin otherwise, or sit on stacked experts, are made with peft: save them untrained, and name "
        "their folder in --policy.source",
    ),
    "neftune_noise_alpha": "noise in the embeddings is not offered",
}

_OBJECTIVES = {
    "sigmoid": "DPO",
    **{name.lower(): name for name in ("SFT", "DPO", "IPO", "SimPO", "ORPO", "SoLoPO", "LongPO", "LOGO")},
}
# What has another setting there, under the same name.
_AS_THERE = {"IPO": " --model.per_token true"}
# What follows from the option there, and not here.
_UNSAID = {"lora_rank": " (without lora_alpha LLaMA-Factory's is twice it, here 32 or the recipe's)"}
_SCHEDULES = {"linear": "linear", "cosine": "cosine", "constant": "constant", "constant_with_warmup": "constant"}
_DTYPES = {name: name for name in ("float32", "bfloat16", "float16")} | {
    **dict.fromkeys(("fp32", "float", "32"), "float32"),
    **dict.fromkeys(("bf16", "bf16-true"), "bfloat16"),
    **dict.fromkeys(("fp16", "half", "16"), "float16"),
}
_SWITCH = {"true": "true", "false": "false", "1": "true", "0": "false"}
_ATTENTION = {"flash_attention_2": "flash", "fa2": "flash", "sdpa": "sdpa", "auto": "auto", "true": "flash"}
_LOGGERS = {"wandb": "WandbLogger", "tensorboard": "TensorBoardLogger", "mlflow": "MLFlowLogger", "none": "false"}


def _whole(value: str) -> str | None:
    """Epochs as a whole number, which others write 3.0."""
    return str(int(float(value))) if value.replace(".", "", 1).isdigit() and float(value).is_integer() else None


def _share(value: str) -> str | None:
    return value if value.replace(".", "", 1).isdigit() and float(value) < 1 else None


def _modules(value: str) -> str:
    names = value.strip("[]").replace(",", " ").split()
    every = [name.lower() for name in names] in (["all"], ["all-linear"])
    return "all-linear" if every else f"[{','.join(names)}]"


def _named(words: Mapping[str, str]) -> Callable[[str], str | None]:
    return lambda value: words.get(value.lower())


# Their value -> ours, `None` if there is none; those that are not here are the same.
_VALUES: dict[str, Callable[[str], str | None]] = {
    **dict.fromkeys(
        ("loss_type", "objective", "method", "pref_loss", "rl"),
        lambda value: _OBJECTIVES.get(value.strip("[]'\"").lower()),  # a list of one, too
    ),
    **dict.fromkeys(("lr_scheduler_type", "lr_scheduler", "scheduler"), _named(_SCHEDULES)),
    **dict.fromkeys(("dtype", "torch_dtype"), lambda value: _DTYPES.get(value.removeprefix("torch."))),
    "bf16": _named({"true": "bfloat16"}),
    "fp16": _named({"true": "float16"}),
    **dict.fromkeys(("load_in_4bit", "quantization_bit"), _named({"true": "4bit", "4": "4bit"})),
    **dict.fromkeys(("tiled_mlp", "use_tiled_mlp", "unsloth_tiled_mlp"), _named({"true": "auto", "false": "null"})),
    **dict.fromkeys(_FLASH, _named(_ATTENTION)),
    **dict.fromkeys(_LIGER, _named({"true": "liger", "false": "null"})),
    "torch_compile": _named({"true": "compile", "false": "null"}),
    "gradient_checkpointing": _named(_SWITCH),
    "activation_offloading": _named({"true": "offload"}),
    "precompute_ref_log_probs": _named({"true": "cached", "false": "online"}),
    "report_to": _named(_LOGGERS),
    **dict.fromkeys(("epochs", "num_epochs", "num_train_epochs"), _whole),
    "val_size": _share,
    **dict.fromkeys(_TARGETS, _modules),
    "lora_target_linear": _named({"true": "all-linear"}),
    **dict.fromkeys(_DATA, lambda value: "FILE" if "{" in value else value),  # axolotl's have settings of each
    "use_peft": _named({"true": "16"}),
    **dict.fromkeys(("resume", "resume_from_checkpoint"), lambda value: "last" if value.lower() == "true" else value),
}


# Their words for the values of our options.
_OWN = {"attention": _named(_ATTENTION), "schedule": _named(_SCHEDULES)}


def familiar(word: str, known: Container[str], typed: str | None = None) -> str | None:
    """What another project's option is called here.

    Args:
        word: as typed, without dashes in front.
        known: names of the command's own options.
        typed: its value, which is carried over where it means the same; `None` shows an example.

    Returns:
        What to type; `None` if nobody else has such an option, or this command nothing like it.
    """
    name = word.replace("-", "_")
    for option in _FAMILIAR.get(name, ()):
        ours = option.split()[0].lstrip("-").rstrip("+")
        if ours in known or ("." in ours and ours.split(".")[0] in known):
            return _with_value(name, option, typed)
    return None


def familiar_value(option: str, typed: str) -> str | None:
    """What another project's value of one of our options is called here; `None` if it is nobody's."""
    name = option.rpartition(".")[2]
    ours = _OWN.get(name, _VALUES.get(name, lambda value: None))(typed.strip("'\""))
    return ours if ours != typed else None


def not_offered(word: str) -> str | None:
    """What to say of another project's option that nothing here is like; `None` of any other."""
    return _NOT_OFFERED.get(word.replace("-", "_"))


def _with_value(name: str, option: str, typed: str | None) -> str:
    """Our option with the value that was typed, or with an example and what is meant by it."""
    front, example = option.rsplit(" ", 1)
    if meaning := _MEANING.get(name, _MEANING.get(front)):
        return f"{option} (for example: {meaning})"
    if typed is None:
        return option if example.isupper() else f"{option} (for example)"
    value = _VALUES.get(name, str)(typed)
    if value is None:
        return f"{option} (for example: {typed} is not offered)"
    return f"{front} {shlex.quote(value)}{_AS_THERE.get(value, '')}{_UNSAID.get(name, '')}"
