"""Options of TRL, LLaMA-Factory and axolotl, and what they are called here."""

from collections.abc import Container

_ROWS = "--data.max_tokens 8192"  # a batch is a budget of tokens
_LENGTH = "--data.max_length 8192"
_SOURCE = "--policy.source FOLDER_OR_HUB_NAME"
_PAIRS = "--data data/pairs --data.path FILE"
_ADAPTERS = "--policy.lora.r 16"

# What to type; of several the first whose section the command has.
_FAMILIAR: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("lr", "learning_rate"), ("--optimization.optimizer.lr 1e-6",)),
    **dict.fromkeys(("lr_scheduler_type", "lr_scheduler", "scheduler"), ("--optimization.schedule cosine",)),
    **dict.fromkeys(("warmup_ratio", "warmup_steps"), ("--optimization.warmup_fraction 0.1",)),
    **dict.fromkeys(("optim", "optimizer"), ("--optimization.optimizer FusedAdamW",)),
    "weight_decay": ("--optimization.optimizer.weight_decay 0.0",),
    **dict.fromkeys(
        ("batch_size", "train_batch_size", "micro_batch_size", "per_device_train_batch_size"),
        (_ROWS, "--batching.max_batch_tokens 16384"),
    ),
    **dict.fromkeys(("eval_batch_size", "per_device_eval_batch_size"), (_ROWS, "--batching.max_batch_tokens 16384")),
    **dict.fromkeys(("max_seq_length", "max_seq_len", "sequence_len", "cutoff_len", "max_tokens"), (_LENGTH,)),
    **dict.fromkeys(("max_length", "max_prompt_length", "max_completion_length", "max_target_length"), (_LENGTH,)),
    "truncation_mode": ("--data.on_overlength truncate",),
    **dict.fromkeys(("dataloader_num_workers", "num_workers"), ("--data.num_workers 2",)),
    **dict.fromkeys(("dataset", "datasets", "dataset_name", "dataset_path", "data_path", "train_file"), (_PAIRS,)),
    "val_size": ("--data.val_fraction 0.02",),
    **dict.fromkeys(("accumulate", "grad_accum"), ("--trainer.accumulate_grad_batches 8",)),
    "gradient_accumulation_steps": ("--trainer.accumulate_grad_batches 8",),
    **dict.fromkeys(("max_grad_norm", "grad_clip"), ("--trainer.gradient_clip_val 1.0",)),
    **dict.fromkeys(("epochs", "num_epochs", "num_train_epochs"), ("--trainer.max_epochs 1",)),
    **dict.fromkeys(("steps", "max_steps", "num_steps"), ("--trainer.max_steps 100",)),
    "logging_steps": ("--trainer.log_every_n_steps 1",),
    "eval_steps": ("--trainer.val_check_interval 0.25",),
    "report_to": ("--trainer.logger WandbLogger",),
    **dict.fromkeys(("output_dir", "save_dir", "output"), ("--trainer.default_root_dir FOLDER", "--output FOLDER")),
    **dict.fromkeys(("gpus", "num_gpus", "n_gpus", "devices", "nproc_per_node"), ("--trainer.devices 8",)),
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
    "gradient_checkpointing": ("--policy.gradient_checkpointing true",),
    **dict.fromkeys(("flash_attn", "attn_implementation", "use_flash_attention_2"), ("--policy.attention flash",)),
    **dict.fromkeys(("use_peft", "lora_r", "lora_rank", "rank", "policy.lora.rank"), (_ADAPTERS,)),
    "lora_alpha": ("--policy.lora.alpha 32",),
    "lora_dropout": ("--policy.lora.dropout 0.05",),
    **dict.fromkeys(("lora_target", "lora_target_modules"), ("--policy.lora.target_modules all-linear",)),
    **dict.fromkeys(("template", "chat_template"), ("--policy.template.user '{context} {question}'",)),
    **dict.fromkeys(("loss_type", "objective", "method", "pref_loss", "rl"), ("--model DPO",)),
    **dict.fromkeys(("beta", "pref_beta", "rl_beta"), ("--model.beta 0.1",)),
    **dict.fromkeys(("gamma", "simpo_gamma"), ("--model.gamma 0.5",)),
}


def familiar(word: str, known: Container[str]) -> str | None:
    """What another project's option is called here.

    Args:
        word: as typed, without dashes in front.
        known: names of the command's own options.

    Returns:
        What to type; `None` if nobody else has such an option, or this command nothing like it.
    """
    for option in _FAMILIAR.get(word.replace("-", "_"), ()):
        name = option.split()[0].lstrip("-")
        if name in known or ("." in name and name.split(".")[0] in known):
            return option
    return None
