"""The model that a plan is for: its architecture, how it is built, and the sizes of parameters and optimizer states.

An architecture is the model's own configuration, or a shape that is built in. Sizes are counted on the meta device.
"""

import copy
import json
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from math import prod
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from lit_longpo.engine import PREFIX_SHARED, base_model
from lit_longpo.engine.attention import exact_attention
from lit_longpo.engine.decoder import decoder_layers, decoder_of
from lit_longpo.engine.layers import STATE_LAYERS, layer_kinds, model_class
from lit_longpo.engine.own_logits import use_own_logits
from lit_longpo.engine.routers import routers
from lit_longpo.engine.sequential import score_sequentially
from lit_longpo.engine.tiled_layers import TileTokens, auto_tile, mlp_sizes, tile_layers
from lit_longpo.errors import InputError, MissingFileError
from lit_longpo.optimizer_kinds import OptimizerFactory, check_countable, optimizer_of
from lit_longpo.planning.flash_stand_in import PLANNED_FLASH, register
from lit_longpo.planning.live_bytes import LiveBytes
from lit_longpo.policy import LoRA, PolicyConfig, Quantization
from lit_longpo.policy.adapters import add_adapters
from lit_longpo.policy.checkpointing import Checkpointing, enable_checkpointing, recomputes_all
from lit_longpo.policy.weights import freeze_weights
from lit_longpo.policy.weights.dropout import turn_off
from lit_longpo.policy.weights.quantization import quantizable
from lit_longpo.quantized_optimizers import SMALLEST_PAGED, is_paged, is_quantized, prepare

Depth = int | tuple[str, ...]  # how many layers, or of which kinds

_SHAPES = Path(__file__).parent / "shapes"
_VECTOR, _MATRIX = (2**20,), (2**10, 2**10)  # what an optimizer is tried on

register()


def shape_names() -> list[str]:
    """Built-in shapes; they bear the names of the fragments in `configs/model`."""
    return sorted(path.stem for path in _SHAPES.glob("*.json"))


def built_in(name: str) -> dict[str, Any]:
    """A built-in shape: `source` (hub name), `parameters` (its published number) and `config`."""
    return json.loads((_SHAPES / f"{name}.json").read_text())


def find_config(policy: PolicyConfig, shape: str | None) -> tuple[PretrainedConfig, str]:
    """The policy's configuration, its rotary changes applied, and where it came from.

    Args:
        policy: what is trained.
        shape: a built-in shape's name or a `config.json`, used in place of the policy's; `None` reads the source,
            except that the hub is not asked for models whose shape is built in.

    Raises:
        ValueError: the source is not there and its shape is unknown; or there is no such shape.
    """
    known = {built_in(name)["source"]: name for name in shape_names()}
    if shape is None and policy.source in known:
        shape = known[policy.source]
    config, where = _read(policy) if shape is None else _shaped(shape)
    turn_off(config)  # as where the policy is loaded
    if policy.rope is not None:
        policy.rope.apply(config)
    text = config.get_text_config()
    text.vocab_size = max(text.vocab_size, _rows_for_tokens(policy, text.vocab_size))
    return config, where


def _rows_for_tokens(policy: PolicyConfig, rows: int) -> int:
    """What `added_tokens` need; the most that they can, where no tokenizer is at hand."""
    asked = len(policy.added_tokens) + len(policy.added_special_tokens)
    try:
        return max(policy.new_tokens().values(), default=-1) + 1
    except MissingFileError:
        return rows + asked


def _read(policy: PolicyConfig) -> tuple[PretrainedConfig, str]:
    try:
        return policy.original_config(), policy.source
    except OSError as error:
        raise InputError(
            f"expected a configuration at `policy.source: {policy.source}`, got: {str(error).splitlines()[0]} Name its "
            f"architecture with --shape: a config.json, or one of {', '.join(shape_names())}"
        ) from error


def _shaped(shape: str) -> tuple[PretrainedConfig, str]:
    if shape in shape_names():
        return AutoConfig.for_model(**built_in(shape)["config"]), f"built-in shape {shape}"
    path = Path(shape).expanduser()
    if not path.exists():
        raise InputError(
            f"expected `--shape` to be a config.json or one of {', '.join(shape_names())}, got {shape!r}, which is "
            "neither"
        )
    return AutoConfig.from_pretrained(str(path), trust_remote_code=False), str(path)  # `None` asks at a terminal


@dataclass(frozen=True)
class ModelPlan:
    """How the policy is built.

    Args:
        config: its architecture.
        dtype: precision of the weights.
        lora: adapters.
        flash: whether a flash kernel attends (GPU, half precision), or torch's sdpa.
        autocast: precision of the products where it differs from the weights' ("bf16-mixed").
        converted: whether a plugin casts the finished model, adapters included, to `dtype` ("bf16-true").
        quantization: how linear maps are quantised; their products are traced whole.
        router_loss: whether the loss of routed experts is trained too.
        train_only: names of what is trained without adapters; counted, and traced as if everything were.
        frozen: names of what is not.
        sequential: whether rows are scored one sequence at a time.
        own_logits: whether that is by whole logits, as the head is one that the engine does not know.
        tile_tokens: `policy.tile_tokens`; traces are of a number or of whole rows.
        gathers: whether shared keys are copied for every segment: on a GPU without a flash kernel.
    """

    config: PretrainedConfig
    dtype: torch.dtype
    lora: LoRA | None = None
    flash: bool = False
    autocast: torch.dtype | None = None
    converted: bool = False
    quantization: Quantization | None = None
    router_loss: bool = False
    train_only: tuple[str, ...] = ()
    frozen: tuple[str, ...] = ()
    sequential: bool = False
    own_logits: bool = False
    tile_tokens: TileTokens = None
    gathers: bool = False

    def tile_of(self, num_tokens: int, checkpointing: Checkpointing) -> int | None:
        """Tokens of a tile in a row of so many; `None` if its layers are run whole.

        Args:
            num_tokens: of the row, or of the sequence that is scored alone.
            checkpointing: what is recomputed; `True` where there is no backward.
        """
        if self.tile_tokens != "auto":
            return self.tile_tokens
        return auto_tile(num_tokens, *mlp_sizes(self.config)) if recomputes_all(checkpointing) else None

    def build(self, layers: Depth | None = None, *, checkpointing: Checkpointing = False) -> nn.Module:
        """The policy with as many layers (all by default) or with these kinds of layers, on the meta device."""
        config = shallow(self.config, layers) if isinstance(layers, int) else self.config
        attention = PLANNED_FLASH if self.flash else PREFIX_SHARED
        if (self.sequential or layers is None) and (found := model_class(config)) is not None:
            attention = exact_attention(found, config)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, dtype=self.dtype, attn_implementation=attention)
            if self.sequential:
                score_sequentially(model, PREFIX_SHARED)
                use_own_logits(model, self.own_logits)
            if isinstance(layers, tuple):
                _keep_kinds(model, layers)
            if layers is not None:
                tile_layers(model, self.tile_tokens, recomputed=recomputes_all(checkpointing))
            if layers is None:
                freeze_weights(model, self.train_only, self.frozen)
            if checkpointing:
                enable_checkpointing(model, checkpointing)
            for linear in quantizable(model) if self.quantization else ():
                cast(Any, linear.weight).quantized_as = self.quantization
            wrapped: nn.Module = model if self.lora is None else add_adapters(model, self.lora)
        return (wrapped.to(self.dtype) if self.converted else wrapped).train()


def _keep_kinds(model: PreTrainedModel, kinds: tuple[str, ...]) -> None:
    """Leave one layer of each of the kinds, in this order; the configurations of hybrids cannot say that."""
    decoder = decoder_of(model)
    layers, all_kinds = decoder_layers(decoder), layer_kinds(model.config.get_text_config())
    left = list(zip(all_kinds, layers, strict=True))
    chosen = [left.pop(next(i for i, (kind, _) in enumerate(left) if kind == wanted))[1] for wanted in kinds]
    name = next(name for name, child in decoder.named_children() if child is layers)
    setattr(decoder, name, nn.ModuleList(chosen))


def hybrid_kinds(config: PretrainedConfig) -> Counter[str]:
    """How many layers of each kind, the most common first; empty for models whose layers carry no state."""
    kinds = Counter(layer_kinds(config.get_text_config()))
    return Counter(dict(kinds.most_common())) if set(kinds) & STATE_LAYERS else Counter()


def shallow(config: PretrainedConfig, layers: int) -> PretrainedConfig:
    """The configuration with fewer layers; of several kinds, those with full attention first.

    A model of one layer gets a second one like its first: what a further layer takes is asked of all models.
    """
    small = copy.deepcopy(config)
    text = small.get_text_config()
    for name, values in list(vars(text).items()):
        if "layer" in name and isinstance(values, list) and len(values) == text.num_hidden_layers < layers:
            setattr(text, name, values + values[-1:] * (layers - len(values)))
    kinds = getattr(text, "layer_types", None)
    text.num_hidden_layers = layers
    if kinds:
        text.layer_types = sorted(kinds, key=lambda kind: kind != "full_attention")[:layers]
    return small


class TrainedTensor(NamedTuple):
    """What an optimizer's states go by.

    Args:
        dtype: of the tensor.
        shape: its sizes.
        embedding: whether its states are never quantised.
    """

    dtype: torch.dtype
    shape: tuple[int, ...]
    embedding: bool

    @property
    def numel(self) -> int:
        """Its numbers."""
        return prod(self.shape)


@dataclass(frozen=True)
class ModelSizes:
    """Parameters of the whole model.

    Args:
        total: their number.
        total_bytes: their bytes.
        trained: number of trained ones, by dtype.
        largest_layer_bytes: of the largest decoder layer.
        outside_bytes: of what is in no decoder layer: embeddings, final norm, untied head.
        untied_head_bytes: the head's gradient if it is trained and not the embeddings' as well.
        frozen_linear: weights of the layers' linear maps that stay as they are; of routed experts, those that one
            token meets.
        trained_linear: of those that are trained, adapters included.
        head_weights: the head's weights.
        head_trained: whether the head is.
        dequantized_bytes: of the largest 4-bit weight while its product is computed; 0 if there are none.
        trained_tensors: how many there are of each kind.
    """

    total: int
    total_bytes: int
    trained: Counter[torch.dtype]
    largest_layer_bytes: int
    outside_bytes: int
    untied_head_bytes: int
    frozen_linear: int
    trained_linear: int
    head_weights: int
    head_trained: bool
    dequantized_bytes: int = 0
    trained_tensors: Counter[TrainedTensor] = field(default_factory=Counter)

    @property
    def num_trained(self) -> int:
        """Number of trained parameters."""
        return sum(self.trained.values())

    @property
    def trained_bytes(self) -> int:
        """Bytes of the trained parameters, and so of all gradients."""
        return sum(number * dtype.itemsize for dtype, number in self.trained.items())


def count(plan: ModelPlan) -> ModelSizes:
    """Sizes of the planned policy; nothing is allocated."""
    model = plan.build()
    base = base_model(model)
    layers: list[nn.Module] = list(decoder_layers(decoder_of(base)))
    head = base.get_output_embeddings().weight
    tied = head is base.get_input_embeddings().weight
    parameters = list(model.parameters())
    in_layers = [_bytes(layer.parameters()) for layer in layers]
    linear = [module.weight for layer in layers for module in layer.modules() if isinstance(module, nn.Linear)]
    met = _met_by_a_token(base, layers)
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    trained = Counter[torch.dtype]()
    for parameter in parameters:
        trained[parameter.dtype] += parameter.numel() * parameter.requires_grad
    return ModelSizes(
        total=sum(parameter.numel() for parameter in parameters),
        total_bytes=_bytes(parameters),
        trained=+trained,
        largest_layer_bytes=max(in_layers),
        outside_bytes=_bytes(parameters) - sum(in_layers),
        untied_head_bytes=_bytes([head]) if head.requires_grad and not tied else 0,
        frozen_linear=sum(number for number, trained in met if not trained),
        trained_linear=sum(number for number, trained in met if trained),
        head_weights=head.numel(),
        head_trained=head.requires_grad,
        dequantized_bytes=max((weight.nbytes for weight in linear if _quantization(weight)), default=0),
        trained_tensors=Counter(
            TrainedTensor(parameter.dtype, tuple(parameter.shape), id(parameter) in embeddings)
            for parameter in parameters
            if parameter.requires_grad
        ),
    )


def _met_by_a_token(model: PreTrainedModel, layers: list[nn.Module]) -> list[tuple[int, bool]]:
    """Sizes of the weights that one token is multiplied by, and whether they are trained."""
    chosen = getattr(model.config.get_text_config(), "num_experts_per_tok", 1)
    found, choosing = list[tuple[int, bool]](), set(map(id, routers(model)))
    for module in (module for layer in layers for module in layer.modules()):
        if isinstance(module, nn.Linear) or id(module) in choosing:
            weight = cast(nn.Parameter, module.weight)
            found.append((weight.numel(), weight.requires_grad))
        elif not isinstance(module, nn.Conv1d):  # all experts of a layer are one tensor, (E, in, out) or (E, out, in)
            experts = [parameter for parameter in module.parameters(recurse=False) if parameter.ndim == 3]
            found += [(chosen * part[0].numel(), part.requires_grad) for part in experts]
    return found


@dataclass(frozen=True)
class OptimizerBytes:
    """What an optimizer takes.

    Args:
        states: kept between steps.
        borrowed: peak inside a step.
        paged: part of the states that may lie in host memory.
    """

    states: float
    borrowed: float
    paged: float = 0.0


class _AssumedNumbers(TorchDispatchMode):
    """A fake tensor's value, where an optimizer goes by it: 1. No size follows from it."""

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        try:
            return func(*args, **(kwargs or {}))
        except DataDependentOutputException:
            return 1.0


def optimizer_bytes(
    make: OptimizerFactory, dtype: torch.dtype, shape: tuple[int, ...] = _VECTOR, *, embedding: bool = False
) -> OptimizerBytes:
    """Bytes per parameter, from two steps on a fake tensor.

    Args:
        make: of parameters.
        dtype: of the tensor.
        shape: its sizes.
        embedding: whether its states are never quantised.

    Raises:
        InputError: the optimizer does not take such a tensor, or its states go on growing.
    """
    mode = FakeTensorMode(allow_non_fake_inputs=True)  # the optimizer's own tables, made outside of it, are real
    with mode:
        parameter = nn.Parameter(torch.empty(shape, dtype=dtype))
        parameter.grad = torch.empty_like(parameter)
    optimizer, numel = optimizer_of(make, [parameter]), parameter.numel()
    check_countable(optimizer)
    prepare(optimizer, [parameter] if embedding else [])
    with mode, _AssumedNumbers(), LiveBytes() as memory, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Paged optimizers are not supported on CPU")
        for tensor in (parameter, parameter.grad):
            memory.add(tensor)
        start = memory.live
        for tensor in tree_leaves(dict(optimizer.state)):  # Adagrad makes its own before the first step
            if isinstance(tensor, Tensor):
                memory.add(tensor)
        optimizer.step()
        states = memory.live - start
        memory.restart()
        optimizer.step()
        borrowed = memory.peak - start - states
    paged = states if is_paged(optimizer) and numel >= SMALLEST_PAGED else 0
    return OptimizerBytes(states / numel, borrowed / numel, paged / numel)


def optimizer_states(sizes: ModelSizes, make: OptimizerFactory) -> OptimizerBytes:
    """Bytes of a whole model's states, and those that a step borrows.

    An optimizer that treats numbers alike is tried on a vector, and may borrow for all of them at once (`foreach`);
    another one on each tensor, and borrows for one of them at a time, paged states too.

    Raises:
        InputError: as `optimizer_bytes`.
    """
    optimizer = make([nn.Parameter(torch.zeros(1, 1))])
    if not is_quantized(optimizer) and all(_treats_numbers_alike(make, dtype) for dtype in sizes.trained):
        taken = [(number, optimizer_bytes(make, dtype)) for dtype, number in sizes.trained.items()]
        return OptimizerBytes(*(sum(n * getattr(each, name) for n, each in taken) for name in ("states", "borrowed")))
    kinds = [
        (count * kind.numel, kind.numel, optimizer_bytes(make, kind.dtype, kind.shape, embedding=kind.embedding))
        for kind, count in sizes.trained_tensors.items()
    ]
    together = sum if optimizer.defaults.get("foreach") else partial(max, default=0.0)
    return OptimizerBytes(
        states=sum(number * each.states for number, _, each in kinds),
        borrowed=together(numel * (each.borrowed + each.paged) for _, numel, each in kinds),
        paged=sum(number * each.paged for number, _, each in kinds),
    )


def _treats_numbers_alike(make: OptimizerFactory, dtype: torch.dtype) -> bool:
    """Whether a matrix has as many bytes of states as a vector of as many numbers."""
    try:
        vector = optimizer_bytes(make, dtype)
    except InputError:  # it takes matrices alone
        return False
    return vector.states == optimizer_bytes(make, dtype, _MATRIX).states


def _bytes(parameters: Iterable[Tensor]) -> int:
    return round(sum(parameter.numel() * _bytes_each(parameter) for parameter in parameters))


def _bytes_each(parameter: Tensor) -> float:
    quantization = _quantization(parameter)
    return parameter.dtype.itemsize if quantization is None else quantization.bytes_per_weight


def _quantization(parameter: Tensor) -> Quantization | None:
    return getattr(parameter, "quantized_as", None)
