"""Dropout in adapters, on several ranks."""

from functools import partial

import torch
from lightning.pytorch import Callback, seed_everything
from support.preference_data import RandomPairs
from support.ranks import run_ranks
from support.small_fit import STRATEGIES

from lit_longpo.checkpoints import ResumableTrainer
from lit_longpo.objectives import ORPO
from lit_longpo.optimization import Optimization
from lit_longpo.policy import LoRA, PolicyConfig


class Masks(Callback):
    """What a mask of each row would be, and a weight at the end."""

    def __init__(self):
        self.drawn = []

    def on_train_batch_start(self, *_):
        state = torch.get_rng_state()
        self.drawn.append(torch.rand(4))
        torch.set_rng_state(state)


def train(strategy, policy_folder, folder):
    seed_everything(0, verbose=False)
    policy = PolicyConfig(source=str(policy_folder), lora=LoRA(r=2, dropout=0.5))
    sgd = Optimization(partial(torch.optim.SGD, lr=0.1), schedule="constant", warmup_fraction=0.0)
    module, masks = ORPO(policy=policy, optimization=sgd), Masks()
    trainer = ResumableTrainer(
        max_steps=2, accelerator="cpu", devices=1 if strategy == "one" else 2, strategy=STRATEGIES[strategy](),
        logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        use_distributed_sampler=False, num_sanity_val_steps=0, limit_val_batches=0, callbacks=[masks],
        default_root_dir=folder,
    )  # fmt: skip
    trainer.fit(module, datamodule=RandomPairs(module.views))
    trained = [p.detach() for p in module.parameters() if p.requires_grad]
    torch.save((torch.stack(masks.drawn), trained), folder / f"{strategy}{trainer.global_rank}")


def test_ranks_draw_masks_of_their_own(policy_folder, tmp_path):
    """The same ones on all ranks would be as good as those of one rank; weights stay the same."""
    train("one", policy_folder, tmp_path)
    run_ranks(train, "ddp", policy_folder, tmp_path)
    alone, first, second = (torch.load(tmp_path / name, weights_only=True) for name in ("one0", "ddp0", "ddp1"))
    assert torch.equal(first[0][0], alone[0][0])
    assert (first[0] != second[0]).all()
    for mine, other in zip(first[1], second[1], strict=True):
        assert torch.equal(mine, other)
    assert any(not torch.equal(mine, other) for mine, other in zip(first[1], alone[1], strict=True))
