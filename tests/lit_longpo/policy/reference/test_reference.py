import dataclasses
import math
from functools import partial

import pytest
import torch
from filelock import FileLock
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from safetensors.torch import load_file, save_file
from support.groups import random_groups
from support.preference_data import RandomPairs, groups_for
from support.quiet_cpu import QUIET_CPU
from support.tiny_hybrids import tiny_hybrid
from support.tiny_models import tiny_model
from support.word_tokenizer import word_tokenizer
from transformers import AutoModelForCausalLM

from lit_longpo.batch import View, Views
from lit_longpo.callbacks import SavePretrained
from lit_longpo.engine import pack, score
from lit_longpo.objectives import DPO, IPO, SFT, SoLoPO
from lit_longpo.optimization import FusedAdamW, Optimization
from lit_longpo.policy import LoRA, PolicyConfig, ReferenceConfig, RoPE
from lit_longpo.policy.reference import cache as reference_cache
from lit_longpo.policy.reference import tables as reference_tables
from lit_longpo.policy.reference.cache import ReferenceCache, fill_cache
from lit_longpo.policy.reference.reference import Reference, frozen_copy, reference_mode

CPU = torch.device("cpu")
ROWS = [pack(random_groups([(5, [2, 3])], seed=seed)) for seed in range(4)]


@pytest.fixture
def model():
    return tiny_model("Llama")


def test_stored_scores_equal_the_models(model, tmp_path):
    cache = ReferenceCache(tmp_path / "model")
    assert fill_cache(cache, lambda: reference_mode(model), ROWS, CPU) == len(ROWS)
    again = ReferenceCache(tmp_path / "model")
    again.load()
    for row in ROWS:
        torch.testing.assert_close(again.scores(row).sums, score(model, row).sums)
        assert torch.equal(again.scores(row).counts, score(model, row).counts)


def test_the_next_run_scores_nothing_but_verifies_a_row_of_a_model_at_hand(model, tmp_path):
    fill_cache(ReferenceCache(tmp_path), lambda: reference_mode(model), ROWS, CPU)
    again = ReferenceCache(tmp_path)
    again.load()
    assert fill_cache(again, lambda: pytest.fail("the reference was loaded"), ROWS, CPU, verify=False) == 0
    assert fill_cache(again, lambda: reference_mode(model), ROWS, CPU) == 0
    with pytest.raises(ValueError, match="delete that folder"):
        fill_cache(again, lambda: reference_mode(tiny_model("Llama", seed=1)), ROWS, CPU)


def test_a_pass_says_how_many_pairs_it_scores(model, tmp_path, caplog, monkeypatch):
    """In a log that is no terminal, too; once a minute, here after every row."""
    caplog.set_level("INFO")
    monkeypatch.setattr(reference_cache, "_FLUSH_SECONDS", -1.0)
    cache = ReferenceCache(tmp_path)
    fill_cache(cache, lambda: reference_mode(model), ROWS, CPU)
    said = [record.message for record in caplog.records if " pairs scored" in record.message]
    assert [message.split(" pairs")[0] for message in said] == [f"reference: {n}" for n in (1, 2, 3, 4, 4)]
    caplog.clear()
    fill_cache(cache, lambda: reference_mode(model), ROWS, CPU)
    assert "pairs scored" not in caplog.text


def test_one_of_several_processes_says_that_the_pairs_are_its_share(model, tmp_path, caplog, monkeypatch):
    """The first one's share was read as the number of all pairs."""
    caplog.set_level("INFO")
    for name, value in (("is_initialized", True), ("get_world_size", 2)):
        monkeypatch.setattr(torch.distributed, name, lambda *_, value=value: value)
    fill_cache(ReferenceCache(tmp_path), lambda: reference_mode(model), ROWS, CPU)
    assert "reference: 4 pairs scored by one of 2 processes in" in caplog.text


def _stored(model, folder):
    fill_cache(ReferenceCache(folder), lambda: reference_mode(model), ROWS, CPU)
    [path] = folder.glob("*.safetensors")
    return path


def _flip(path):
    data = bytearray(path.read_bytes())
    data[-2] ^= 16
    path.write_bytes(data)


def _not_a_number(path):
    tensors = load_file(path)
    tensors["log_probs"][1] = torch.nan
    save_file(tensors, path, {"sha256": reference_tables._sha256(tensors)})


@pytest.mark.parametrize(
    "damage",
    [
        _flip,
        _not_a_number,
        lambda path: path.write_bytes(path.read_bytes()[:-5]),
        lambda path: path.write_bytes(b""),
        lambda path: save_file(load_file(path), path),  # no checksum
        lambda path: save_file({"keys": torch.zeros(1)}, path),
    ],
    ids=["flipped", "nan", "cut", "empty", "unchecked", "other"],
)
def test_damaged_values_are_scored_again_with_a_word(damage, model, tmp_path, caplog):
    path = _stored(model, tmp_path)
    damage(path)
    again = ReferenceCache(tmp_path)
    again.load()
    again.load()
    assert caplog.text.count(f"{path} is damaged") == 1
    assert fill_cache(again, lambda: reference_mode(model), ROWS, CPU) == len(ROWS)
    for row in ROWS:
        torch.testing.assert_close(again.scores(row).sums, score(model, row).sums)


def test_a_reference_that_gives_no_number_is_an_error(model, tmp_path):
    with torch.no_grad():
        model.lm_head.weight[5] = torch.inf
    with pytest.raises(ValueError, match=r"finite reference log-probabilities, got nan.* for record 'record-0'"):
        fill_cache(ReferenceCache(tmp_path), lambda: reference_mode(model), ROWS, CPU)


def test_an_interrupted_pass_resumes_where_it_stopped(model, tmp_path):
    def interrupted():
        yield from ROWS[:2]
        raise KeyboardInterrupt

    cache = ReferenceCache(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        fill_cache(cache, lambda: reference_mode(model), interrupted(), CPU)
    again = ReferenceCache(tmp_path)
    again.load()
    assert fill_cache(again, lambda: reference_mode(model), ROWS, CPU) == 2


def test_half_written_files_are_not_read_and_go_unless_somebody_writes(tmp_path):
    half = tmp_path / "0123.partial"
    half.write_bytes(b"half")
    cache = ReferenceCache(tmp_path)
    with FileLock(tmp_path / ".lock"):  # another process stores values
        cache.load()
    assert half.exists()
    cache.load()
    assert len(cache) == 0
    assert not half.exists()


def test_values_of_another_model_are_refused(model, tmp_path):
    fill_cache(ReferenceCache(tmp_path), lambda: reference_mode(model), ROWS[:2], CPU)
    again = ReferenceCache(tmp_path)
    again.load()
    with pytest.raises(ValueError, match="delete that folder"):
        fill_cache(again, lambda: reference_mode(tiny_model("Llama", seed=1)), ROWS, CPU)


def test_an_unknown_record_is_named(model, tmp_path):
    cache = ReferenceCache(tmp_path)
    with pytest.raises(ValueError, match="record-0"):
        cache.scores(ROWS[0])


def test_adapters_are_off_in_the_reference_and_on_again_after(policy_folder):
    policy = PolicyConfig(source=str(policy_folder), lora=LoRA(r=2))
    model = policy.load()
    untouched = score(model, ROWS[0]).sums.detach()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.add_(0.1)
    trained = score(model, ROWS[0]).sums.detach()
    with reference_mode(model):
        torch.testing.assert_close(score(model, ROWS[0]).sums, untouched)
        assert not model.training
    torch.testing.assert_close(score(model, ROWS[0]).sums.detach(), trained)
    assert model.training
    assert (trained - untouched).abs().max() > 1e-3


def test_slots_are_looked_up_by_content(model, tmp_path):
    cache = ReferenceCache(tmp_path)
    fill_cache(cache, lambda: reference_mode(model), ROWS, CPU)
    renamed = [dataclasses.replace(group, example="x") for group in random_groups([(5, [2, 3])], seed=2)]
    torch.testing.assert_close(cache.scores(pack(renamed)).sums, cache.scores(ROWS[2]).sums)


def test_a_frozen_copy_shares_what_is_not_trained_and_stays_as_it_is(policy_folder):
    model = PolicyConfig(source=str(policy_folder), lora=LoRA(r=2, also_train=["norm"])).load()
    before, copied = score(model, ROWS[0]).sums.detach(), frozen_copy(model)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1
    torch.testing.assert_close(score(copied, ROWS[0]).sums, before)
    pairs = list(zip(model.parameters(), copied.parameters(), strict=True))
    assert all((mine.data_ptr() == theirs.data_ptr()) != mine.requires_grad for mine, theirs in pairs)
    assert not any(theirs.requires_grad for _, theirs in pairs)


# Trainings: what the first loss of an untrained policy is, by every way to a reference.


class Kept(Callback):
    """Losses of the training, and the loss of the first row without dropout when it is over."""

    def on_fit_start(self, trainer, module):
        self.losses = []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.losses.append(module.step_loss.item())

    def on_train_end(self, trainer, module):
        batch = next(iter(trainer.datamodule.train_dataloader()))
        with torch.no_grad():
            self.last = module._per_example(batch)["loss"].mean().item()


def train(objective, folder, source, *, steps=3, reference=None, saved=None, ckpt_path=None, callbacks=(), **policy):
    seed_everything(0, verbose=False)
    optimization = Optimization(lambda params: FusedAdamW(params, lr=5e-3), schedule="constant", warmup_fraction=0.0)
    config = PolicyConfig(source=str(source), **policy)
    module = objective(policy=config, optimization=optimization, reference=reference or ReferenceConfig())
    kept = Kept()
    save = [SavePretrained(str(saved))] if saved else []
    trainer = Trainer(
        max_steps=steps,
        **QUIET_CPU,
        default_root_dir=folder,
        enable_checkpointing=bool(callbacks),
        num_sanity_val_steps=0,
        callbacks=[kept, *callbacks, *save],
    )
    trainer.fit(module, datamodule=RandomPairs(module.views), ckpt_path=ckpt_path)
    return kept


LOG_2 = pytest.approx(math.log(2), abs=2e-4)
SETTINGS = {"full": {}, "lora": {"lora": LoRA(r=2)}, "beside": {"lora": LoRA(r=2, also_train=["norm"])}}


@pytest.mark.parametrize("mode", ["cached", "online"])
@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("objective", [DPO, partial(SoLoPO, base=DPO(), alpha=1.0)], ids=["dpo", "solopo"])
def test_an_untrained_step_at_changed_positions_is_log_two(objective, setting, mode, policy_folder, tmp_path):
    rope = RoPE(theta=200.0)
    kept = train(
        objective, tmp_path, policy_folder, steps=1, reference=ReferenceConfig(mode), rope=rope, **SETTINGS[setting]
    )
    assert kept.losses[0] == LOG_2


def test_an_untrained_step_of_ipo_at_changed_positions_misses_the_whole_target(policy_folder, tmp_path):
    """Policy and reference are one, so the margin is 0: the loss is (0 - 1 / (2 beta))^2, with beta 0.1 25."""
    for setting in SETTINGS.values():
        kept = train(IPO, tmp_path, policy_folder, steps=1, rope=RoPE(theta=200.0), **setting)
        assert kept.losses[0] == pytest.approx(25.0, abs=0.02)


def test_what_only_the_reference_scores_is_at_the_original_positions(policy_folder):
    """LongPO's short views; a row of both kinds is scored twice and put together."""
    changed = PolicyConfig(source=str(policy_folder), rope=RoPE(theta=200.0))
    model = changed.load()
    short, long = (View(context, "chosen") for context in ("short", "long"))
    groups = [group for n in range(2) for group in groups_for(n, (short, long))]
    row = pack(groups)
    original, at_policys = score(PolicyConfig(source=str(policy_folder)).load(), row), score(model, row)
    fingerprints = set()
    for policy_views, wanted in (((short, long), {}), ((long,), {"short"}), ((), {"short", "long"})):
        reference = Reference(ReferenceConfig("online"), changed)
        reference.remember(model, Views(policy=policy_views, reference=(short, long)))
        fingerprints.add(reference._fingerprint)
        reference._model = model
        sums = reference.scores(model, row).sums
        for slot, value, first, second in zip(row.slots, sums, original.sums, at_policys.sums, strict=True):
            torch.testing.assert_close(value, (first if slot.context in wanted else second).detach())
    assert len(fingerprints) == 3


@pytest.mark.parametrize("how", ["continue", "merge", "merge_full"])
def test_round_two_starts_where_round_one_ended(how, policy_folder, tmp_path):
    first = train(SFT, tmp_path, policy_folder, saved=tmp_path / "one", lora=LoRA(r=2))
    assert first.last < first.losses[0] - 0.1
    policy = {"continue": {}, "merge": {"adapters": "merge", "lora": LoRA(r=4)}, "merge_full": {"adapters": "merge"}}[
        how
    ]
    second = train(SFT, tmp_path, tmp_path / "one", saved=tmp_path / "two", **policy)
    assert second.losses[0] == pytest.approx(first.last, rel=1e-5)
    assert second.last < first.last
    for mode in ("cached", "online"):
        options = {"reference": ReferenceConfig(mode), **policy}
        assert train(DPO, tmp_path, tmp_path / "one", steps=1, **options).losses[0] == LOG_2


def test_continued_adapters_have_their_start_as_reference_throughout(policy_folder, tmp_path):
    """Cached, online, from a folder and after a resume without the cache: the same losses."""
    train(SFT, tmp_path, policy_folder, saved=tmp_path / "one", lora=LoRA(r=2))
    save = ModelCheckpoint(tmp_path / "checkpoints", every_n_train_steps=2, save_top_k=-1, filename="{step}")
    whole = train(DPO, tmp_path, tmp_path / "one", steps=4, callbacks=[save]).losses
    assert whole[0] == LOG_2
    assert abs(whole[-1] - whole[0]) > 1e-3
    online = train(DPO, tmp_path, tmp_path / "one", steps=4, reference=ReferenceConfig("online")).losses
    other = ReferenceConfig(policy=PolicyConfig(source=str(tmp_path / "one")))
    folder = train(DPO, tmp_path, tmp_path / "one", steps=4, reference=other).losses
    for path in (tmp_path / "reference_cache").rglob("*.safetensors"):
        path.unlink()
    resumed = train(DPO, tmp_path, tmp_path / "one", steps=4, ckpt_path=tmp_path / "checkpoints/step=2.ckpt").losses
    assert online == pytest.approx(whole, rel=1e-4)
    assert folder == pytest.approx(whole, rel=1e-4)
    assert resumed == pytest.approx(whole[2:], rel=1e-4)


def test_an_adapter_folder_is_another_reference_than_its_base(policy_folder, tmp_path):
    """It once took the base's values: "0 rows scored now"."""
    train(SFT, tmp_path, policy_folder, saved=tmp_path / "one", lora=LoRA(r=2))
    losses = [
        train(DPO, tmp_path, policy_folder, steps=1, reference=ReferenceConfig(policy=PolicyConfig(source=str(source))))
        for source in (policy_folder, tmp_path / "one")
    ]
    assert losses[0].losses[0] == LOG_2
    assert abs(losses[1].losses[0] - math.log(2)) > 1e-3
    assert len(list((tmp_path / "reference_cache").iterdir())) == 2


def test_a_reference_with_another_tokenizer_is_refused(policy_folder, tmp_path):
    tiny_model("Llama").save_pretrained(tmp_path)
    words = [f"word{number}" for number in reversed(range(80))]
    reference = ReferenceConfig(policy=PolicyConfig(source=str(tmp_path)))
    with pytest.raises(ValueError, match=r"expected a tokenizer at `reference\.policy\.source"):
        train(DPO, tmp_path, policy_folder, reference=reference)
    word_tokenizer(words).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"80 tokens differ, for example 9, the policy's 'word0'; type --reference"):
        train(DPO, tmp_path, policy_folder, reference=reference)
    word_tokenizer().save_pretrained(tmp_path)
    assert train(DPO, tmp_path, policy_folder, steps=1, reference=reference).losses


# A model that no packed row scores; its values against transformers alone.


@pytest.fixture
def twin(policy_folder, tmp_path):
    """A StableLM with the tokenizer of `policy_folder`."""
    tokenizer = PolicyConfig(source=str(policy_folder)).tokenizer()
    folder = tmp_path / "twin"
    tiny_hybrid("StableLm", vocab_size=tiny_model("Llama").config.vocab_size).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


class Scored(Callback):
    """What the reference says of a row beside what transformers says of its sequences."""

    def __init__(self, source):
        self.source = source

    def on_train_end(self, trainer, module):
        groups = random_groups([(9, [3, 5]), (4, [2])])
        plain = AutoModelForCausalLM.from_pretrained(self.source).eval()
        self.expected = torch.stack([own_score(plain, group, one) for group in groups for one in group.responses])
        self.sums = module.reference.scores(module.model, pack(groups)).sums


@torch.no_grad()
def own_score(plain, group, response):
    logits = plain(torch.tensor([group.prompt_ids + response.token_ids])).logits[0, len(group.prompt_ids) - 1 : -1]
    log_probs = logits.log_softmax(-1).gather(1, torch.tensor(response.token_ids).unsqueeze(1)).squeeze(1)
    return log_probs[torch.tensor(response.mask)].sum()


def test_a_reference_that_is_not_packed_scores_what_transformers_does(policy_folder, twin, tmp_path, caplog):
    other, scored = PolicyConfig(source=str(twin)), Scored(twin)
    online = train(
        DPO, tmp_path, policy_folder, steps=2, reference=ReferenceConfig("online", policy=other), callbacks=[scored]
    )
    torch.testing.assert_close(scored.sums, scored.expected, rtol=1e-5, atol=1e-5)
    assert caplog.text.count("the reference is scored one sequence at a time") == 1
    cached = train(DPO, tmp_path, policy_folder, steps=2, reference=ReferenceConfig(policy=other))
    assert cached.losses == pytest.approx(online.losses, rel=1e-5)


def test_a_policy_that_is_not_packed_resumes_without_its_cache(twin, tmp_path):
    save = ModelCheckpoint(tmp_path / "checkpoints", every_n_train_steps=1, save_top_k=-1, filename="{step}")
    whole = train(DPO, tmp_path, twin, steps=2, callbacks=[save]).losses
    for path in (tmp_path / "reference_cache").rglob("*.safetensors"):
        path.unlink()
    resumed = train(DPO, tmp_path, twin, steps=2, ckpt_path=tmp_path / "checkpoints/step=1.ckpt").losses
    assert resumed == pytest.approx(whole[1:], rel=1e-5)
