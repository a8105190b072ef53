"""DeepSpeed ZeRO through Lightning, on any device.

Lightning's own strategy runs on CUDA only, reads the training loader to guess a batch size that means
nothing for packed rows, and leaves gradient clipping to the configuration without a word. This one runs
on CPUs with gloo too (no operator is built, so no compiler and no stale build lock), takes one row as
the micro-batch, and checks that clipping reached DeepSpeed. Ranks may share rows (`shared_rows.py`);
DeepSpeed itself need not know.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from lightning.fabric.utilities.seed import reset_seed
from lightning.pytorch import Trainer
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.strategies import DeepSpeedStrategy
from torch.optim import Optimizer

from lit_longpo.engine.ulysses.head_chunks import HeadChunks
from lit_longpo.errors import InputError
from lit_longpo.strategies.deepspeed_config import check_config, check_version, refuse_beside_config
from lit_longpo.strategies.gathering import gather_at_once, gather_unseen, gather_what_mixers_read
from lit_longpo.strategies.shared_rows import SharedRowsStrategy, form_groups


class AnyDeviceDeepSpeedStrategy(SharedRowsStrategy, DeepSpeedStrategy):
    """ZeRO stage 1, 2 or 3 with Lightning, on GPUs or CPUs.

    Args:
        stage: what is split: 1 optimizer states, 2 also gradients, 3 also parameters.
        offload_optimizer: keep optimizer states in host memory. torch's fused AdamW updates them there, as fast as
            DeepSpeed's own.
        offload_parameters: keep parameters in host memory (stage 3).
        exclude_frozen_parameters: leave frozen weights out of checkpoints, for LoRA. Random ones are always kept.
        sequence_parallel: number of ranks that share a row. It must divide the number of processes and of heads.
        head_chunks: in how many parts these ranks exchange their heads. More parts take less memory, and send more and
            smaller messages. "auto" takes the fewest that leave at most 256 MiB of queries in a part.
        **options: see Lightning's `DeepSpeedStrategy`. Your own `config` (a dictionary or a JSON file) states stage and
            offloading, and nothing about optimizer, precision and numbers of rows.

    Raises:
        MissingPackageError: DeepSpeed is too old to accumulate gradients correctly.
        InputError: no such stage; stage or offloading beside `config`, which would overrule them; or an optimizer,
            schedule or precision in it, which would replace ours.
    """

    def __init__(
        self,
        stage: int = 2,
        offload_optimizer: bool = False,
        offload_parameters: bool = False,
        exclude_frozen_parameters: bool = True,
        sequence_parallel: int = 1,
        head_chunks: HeadChunks = "auto",
        **options: Any,
    ) -> None:
        check_version()
        if stage not in (1, 2, 3):
            raise InputError(f"expected `trainer.strategy.init_args.stage` 1, 2 or 3, got {stage}")
        if options.get("config") is not None:
            refuse_beside_config(
                stage=stage != 2, offload_optimizer=offload_optimizer, offload_parameters=offload_parameters
            )
        super().__init__(
            stage=stage,
            offload_optimizer=offload_optimizer,
            offload_parameters=offload_parameters,
            exclude_frozen_parameters=exclude_frozen_parameters,
            logging_batch_size_per_gpu=1,
            **options,
        )
        self.sequence_parallel, self.head_chunks = sequence_parallel, head_chunks
        assert isinstance(self.config, dict)
        check_config(self.config)
        # The optimizer is ours (torch's), also when its states lie in host memory.
        self.config["zero_force_ds_cpu_optimizer"] = False
        self.config.setdefault("zero_allow_untested_optimizer", True)
        self.config.setdefault("train_micro_batch_size_per_gpu", 1)
        self._loss_scales: tuple[float, float] | None = None  # before a step whose gradients are multiplied, and in it
        self._transformers_config: object | None = None  # transformers holds it weakly, so it lives here

    @property
    def root_device(self) -> torch.device:
        """The rank's device; DeepSpeed wants an index even on a CPU."""
        device = super().root_device
        return torch.device("cpu", 0) if device.type == "cpu" else device

    def setup_environment(self) -> None:
        """Accept CPUs, and start the processes' communication, then that of groups which share rows.

        Raises:
            InputError: fp16 is wanted on CPUs, for which DeepSpeed has none.
        """
        if isinstance(self.accelerator, CPUAccelerator):
            if self.precision_plugin.precision == "16-true":
                raise InputError(
                    "expected a GPU with `trainer.precision: 16-true` under DeepSpeed, got CPUs, on which it has no "
                    "fp16; type --trainer.precision bf16-true --policy.dtype bfloat16"
                )
            _use_cpu()
            self._process_group_backend = self._process_group_backend or "gloo"
            super(DeepSpeedStrategy, self).setup_environment()
        else:
            super().setup_environment()
        form_groups(self.sequence_parallel, self.world_size, self.root_device, self.head_chunks)

    def setup_distributed(self) -> None:
        """On a CPU without DeepSpeed's compiled communication: plain gloo needs no compiler."""
        if self.root_device.type != "cpu":
            super().setup_distributed()
            return
        import deepspeed

        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        reset_seed()
        self.set_world_ranks()
        self._init_deepspeed_distributed()

    @property
    def handles_gradient_accumulation(self) -> bool:
        """Lightning says when to step, at the end of an epoch too.

        DeepSpeed left alone counts rows over the ends of epochs while Lightning's steps, and with them the schedule,
        begin anew: in epochs shorter than a step the learning rate would never leave 0.
        """
        return False

    @contextmanager
    def block_backward_sync(self) -> Iterator[None]:
        """DeepSpeed reduces where its stage has to, and keeps gradients until the step."""
        yield

    def training_step(self, *arguments: Any, **options: Any) -> Any:
        """Tell DeepSpeed whether the optimizer's step comes after this row."""
        assert self.lightning_module is not None
        steps = not self.lightning_module.trainer.fit_loop._should_accumulate()
        self.deepspeed_engine.set_gradient_accumulation_boundary(steps)
        return super().training_step(*arguments, **options)

    @contextmanager
    def model_sharded_context(self) -> Iterator[None]:
        """Split nothing here: what is loaded is split by transformers (`shard_while_loading`).

        Lightning would split adapters as soon as they are made, before PEFT sets their first values, which then go
        nowhere: the policy would not start as its reference. DeepSpeed splits them when it sets itself up.
        """
        self._init_config_if_needed()
        yield

    def shard_while_loading(self) -> None:
        """Let transformers split weights as it reads them (stage 3); call before `from_pretrained`.

        Only the first rank reads the checkpoint, all its files before the first weight is split: its host memory
        has to hold the whole checkpoint in its own precision. The others read names and shapes, and every rank
        keeps its share of each weight. (transformers 5, `modeling_utils._load_pretrained_model`.)
        """
        if self.zero_stage_3:
            from transformers.integrations.deepspeed import HfDeepSpeedConfig

            self._transformers_config = HfDeepSpeedConfig(self.config)

    @contextmanager
    def whole_loading(self) -> Iterator[None]:
        """What transformers loads inside of the block is whole on every rank, in any stage.

        For models beside the policy: DeepSpeed gathers the weights of the policy only.
        """
        if self._transformers_config is None:
            yield
            return
        from transformers.integrations.deepspeed import set_hf_deepspeed_config, unset_hf_deepspeed_config

        unset_hf_deepspeed_config()
        try:
            yield
        finally:
            set_hf_deepspeed_config(self._transformers_config)

    def multiply_next_gradients(self, factor: float) -> None:
        """Multiply the gradients of the step that comes next, before they are clipped.

        DeepSpeed keeps them to itself, and divides them by the loss scale when it steps.

        The factor is above 0, and the same on every rank.

        Raises:
            InputError: an optimizer of DeepSpeed that divides by nothing.
        """
        optimizer = self.deepspeed_engine.optimizer
        if not hasattr(optimizer, "loss_scale"):
            raise InputError(
                f"expected one of DeepSpeed's ZeRO optimizers with `trainer.accumulate_grad_batches`, got "
                f"{type(optimizer).__name__}; remove `data_types` from the DeepSpeed configuration"
            )
        self._loss_scales = (optimizer.loss_scale, optimizer.loss_scale / factor)
        optimizer.loss_scale = self._loss_scales[1]

    def optimizer_step(
        self, optimizer: Optimizer, closure: Callable[[], Any], model: Any = None, **options: Any
    ) -> Any:
        """Step, then put the loss scale back, changed as DeepSpeed has changed it in the meantime."""
        output = super().optimizer_step(optimizer, closure, model, **options)
        if self._loss_scales is not None:
            before, during = self._loss_scales
            stepped = self.deepspeed_engine.optimizer
            stepped.loss_scale = before * (stepped.loss_scale / during)
            self._loss_scales = None
        return output

    def gradient_norm(self) -> float | None:
        """Norm of all gradients of the last step, before clipping; infinite if one was not a number."""
        norm = self.deepspeed_engine.get_global_grad_norm()
        return None if norm is None else float(norm)

    def setup(self, trainer: Trainer) -> None:
        """Set DeepSpeed up and check that it clips as the trainer was told to.

        Raises:
            InputError: it does not.
        """
        if self.zero_stage_3 and self.lightning_module is not None:
            gather_at_once(self.lightning_module)
        super().setup(trainer)
        if self.zero_stage_3 and self.lightning_module is not None:
            gather_what_mixers_read(self.lightning_module)
            gather_unseen(self.deepspeed_engine.optimizer)
        wanted = float(trainer.gradient_clip_val or 0.0)
        actual = float(self.deepspeed_engine.gradient_clipping()) if trainer.optimizers else wanted
        if actual != wanted:
            raise InputError(
                f"expected DeepSpeed to clip gradients at {wanted} (`trainer.gradient_clip_val`), got {actual}; remove "
                "`gradient_clipping` from the DeepSpeed configuration"
            )


def is_deepspeed(strategy: object) -> bool:
    """Whether DeepSpeed holds the weights: it casts them, and divides losses itself."""
    return isinstance(strategy, AnyDeviceDeepSpeedStrategy)


def keep_frozen(strategy: object) -> None:
    """Let DeepSpeed's checkpoints hold frozen weights too, where nobody would find them again: random ones."""
    if isinstance(strategy, AnyDeviceDeepSpeedStrategy):
        strategy.exclude_frozen_parameters = False


def split_while_loading(strategy: object) -> None:
    """Let a strategy that can split weights while they are read do so, see `shard_while_loading`."""
    if isinstance(strategy, AnyDeviceDeepSpeedStrategy):
        strategy.shard_while_loading()


def whole_loading(strategy: object) -> AbstractContextManager[None]:
    """Models that are loaded inside of the block are whole on every rank, whatever the strategy does to the policy."""
    return strategy.whole_loading() if isinstance(strategy, AnyDeviceDeepSpeedStrategy) else nullcontext()


def _use_cpu() -> None:
    """DeepSpeed picks its device itself, and would take a GPU that is here although the trainer does not."""
    from deepspeed.accelerator import get_accelerator, set_accelerator
    from deepspeed.accelerator.cpu_accelerator import CPU_Accelerator

    if get_accelerator().device_name() != "cpu":
        set_accelerator(CPU_Accelerator())
