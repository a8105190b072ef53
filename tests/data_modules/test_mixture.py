"""Several sources in one training: exact shares, names, resume, reports, validation by source."""

import json
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import Trainer
from support.recorded_fit import fit
from support.word_pairs import FORMAT, LONGPO, SOLOPO_DPO, pair

from data_modules import MixtureDataModule, PairDataModule, PreferenceDataModule, SyntheticDataModule
from lit_longpo.errors import UserError
from lit_longpo.objectives import SFT, SimPO
from lit_longpo.policy import PolicyConfig


class Pairs(PairDataModule):
    def __init__(self, train=12, val=3, long=10, **options):
        super().__init__(**options)
        self.sizes, self.long = {"train": train, "val": val, "test": 0}, long

    def pairs(self, split):
        start = {"train": 0, "val": 500, "test": 900}[split]
        return [pair(start + n, long=self.long + n % 5) for n in range(self.sizes[split])]


def mixture(weights=None, long=12, short=5, **options):
    sources = {"long": Pairs(long, 3), "short": Pairs(short, 2, long=4)}
    settings = {"views": SOLOPO_DPO, "prompt_format": FORMAT, "max_tokens": 80, **options}
    return MixtureDataModule(sources, weights, **settings)


def ready(data):
    data.setup("fit")
    return data


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"weights": {"long": 1.0}}, r"weights` for the sources long, short, got some for long"),
        ({"weights": {"long": 1.0, "short": 0.0}}, r"weights.short` above 0"),
        ({"weights": {"long": 1.0, "short": float("nan")}}, r"weights.short`"),
        ({"smaller": "never"}, r"smaller` of repeat or stop"),
    ],
)
def test_settings_that_mean_nothing_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        mixture(**options)
    with pytest.raises(ValueError, match="at least one data module"):
        MixtureDataModule({})


def test_settings_of_a_source_without_effect_are_told(caplog):
    mixture()
    assert not caplog.text
    MixtureDataModule({"long": Pairs(max_tokens=99, num_workers=2)})
    assert "long: max_tokens and num_workers of a source have no effect" in caplog.text


def test_a_source_without_examples_is_refused_by_name():
    with pytest.raises(ValueError, match=r"every source of the mixture, got none in short"):
        ready(mixture({"long": 1, "short": 1}, short=0))
    with pytest.raises(ValueError, match=r"gives 'short' an example of every epoch of 12, got 0.001 of 1.001"):
        ready(mixture({"long": 1, "short": 0.001}, smaller="stop"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"val_fraction": 0.5}, r"lower `data\.init_args\.sources\.notes\.init_args\.val_fraction`"),
        ({"val_fraction": 0, "max_length": 4}, r"set `data\.init_args\.sources\.notes\.init_args\.on_overlength` to"),
        ({"path": "none.jsonl"}, r"`data\.init_args\.sources\.notes\.init_args\.path`.*`--data\.sources\.notes\.path`"),
    ],
)
def test_what_a_source_refuses_names_the_setting_that_the_command_line_takes(tmp_path, options, said):
    (tmp_path / "pairs.jsonl").write_text(json.dumps({"prompt": "x y z", "chosen": "a", "rejected": "b"}))
    notes = PreferenceDataModule(**({"path": str(tmp_path / "pairs.jsonl")} | options))
    data = MixtureDataModule({"books": Pairs(), "notes": notes}, views=SimPO().views, prompt_format=FORMAT)
    with pytest.raises(UserError, match=said):
        data.setup("fit")


def names_of(data):
    return [name for batch in data.train_dataloader() for name in batch.policy.examples]


def test_an_epoch_has_every_source_by_its_weight_and_ids_may_be_the_same():
    seen = Counter(name.split(" (")[0] for name in names_of(ready(mixture({"long": 0.5, "short": 0.5}))))
    assert {name for name, times in seen.items() if name.startswith("long/")} == {f"long/r{n}" for n in range(12)}
    assert sum(times for name, times in seen.items() if name.startswith("short/")) == 12
    assert {seen[f"short/r{n}"] for n in range(5)} == {2, 3}
    assert sorted(names_of(ready(mixture()))) == sorted(
        [f"long/r{n}" for n in range(12)] + [f"short/r{n}" for n in range(5)]
    )
    stopped = names_of(ready(mixture({"long": 0.5, "short": 0.5}, smaller="stop")))
    assert Counter(name.split("/")[0] for name in stopped) == {"long": 5, "short": 5}


def test_examples_are_those_of_their_source_and_validation_has_all_once():
    data = ready(mixture({"long": 0.5, "short": 0.5}, views=LONGPO))
    alone = Pairs(5, 2, long=4, views=LONGPO, prompt_format=FORMAT)
    alone.setup("fit")
    ours, theirs = data._encoded["train"][12 + 3 + 17], alone._encoded["train"][3]
    assert ours.policy[0].example == "short/r3 (2)"
    assert [replace(group, example="r3") for group in ours.policy] == list(theirs.policy)
    assert [replace(group, example="r3") for group in ours.reference] == list(theirs.reference)
    val = [name for batch in data.val_dataloader() for name in batch.policy.examples]
    assert val == ["long/r500", "long/r501", "long/r502", "short/r500", "short/r501"]
    wanted = {
        f
        for loader in (data.train_dataloader(), data.val_dataloader())
        for b in loader
        for f in b.reference.fingerprints
    }
    assert {f for row in data.reference_dataloader() for f in row.fingerprints} == wanted


class Swapped(Pairs):
    """Rejects what `Pairs` prefers, in some of its pairs."""

    def pairs(self, split):
        pairs = super().pairs(split)
        return [
            replace(each, chosen=each.rejected[0], rejected=(each.chosen,)) if number < 2 else each
            for number, each in enumerate(pairs)
        ]


@pytest.mark.parametrize("views", [SOLOPO_DPO, SFT().views], ids=["pairs", "answers"])
def test_pairs_that_another_source_undoes_are_told(views, caplog):
    """Two raters of the same answers; each source alone is of one mind."""
    sources = {"one": Pairs(6, 2), "two": Swapped(5, 2), "three": Pairs(3, 2, long=30)}
    data = ready(MixtureDataModule(sources, views=views, prompt_format=FORMAT, max_tokens=80))
    undone = views is SOLOPO_DPO
    assert data.reports()["opposed_across_sources"] == (6 if undone else None)  # two of each source
    assert (
        "train: 6 of 14 pairs prefer, in the same context, the answer that a pair of another" in caplog.text
    ) == undone
    assert ready(mixture()).opposed == 0


def test_report_has_the_counts(tmp_path):
    data = ready(mixture({"long": 3, "short": 1}, smaller="stop"))
    report = json.loads(json.dumps(data.reports()))
    assert report["mixture"] == {
        "long": {"examples": 12, "per_epoch": 12, "weight": 0.75},
        "short": {"examples": 5, "per_epoch": 4, "weight": 0.25},
    }
    assert report["truncation"]["val of short"]["examples"] == 2
    assert data.reach == max(group.reach for example in data._encoded["train"] for group in example.policy)
    assert data.fingerprint() != ready(mixture({"long": 1, "short": 1})).fingerprint()


@pytest.mark.parametrize("num_replicas", [2, 3, 5])
def test_ranks_share_an_epoch(num_replicas):
    """24 examples in rows of one: of 5 ranks one has no row of its own left for the last step, so one row repeats."""
    seen, first = [], []
    for rank in range(num_replicas):
        data = mixture({"long": 0.5, "short": 0.5}, max_examples=1)
        data.trainer = SimpleNamespace(
            distributed_sampler_kwargs={"num_replicas": num_replicas, "rank": rank},
            strategy=SimpleNamespace(root_device=torch.device("cpu")),
            default_root_dir="",
            is_global_zero=rank == 0,
            loggers=[],
        )
        names = names_of(ready(data))
        assert len(names) == -(-24 // num_replicas)
        seen += names
        first.append(names[0])
    assert len(set(seen)) == 24
    repeated = Counter(seen) - Counter(set(seen))
    assert list(repeated) == first[: -24 % num_replicas]
    assert Counter(name.split("/")[0] for name in set(seen)) == {"long": 12, "short": 12}


def test_weights_with_overfit_batches_are_refused():
    for weights in (None, {"long": 0.5, "short": 0.5}):
        data = mixture(weights)
        data.trainer = SimpleNamespace(
            distributed_sampler_kwargs=None,
            strategy=SimpleNamespace(root_device=torch.device("cpu")),
            default_root_dir="",
            is_global_zero=True,
            loggers=[],
            overfit_batches=1,
        )
        ready(data)
        if weights is None:
            assert names_of(data)[0] == "long/r0"
            continue
        with pytest.raises(ValueError, match=r"no `data.init_args.weights` with `trainer.overfit_batches`"):
            data.train_dataloader()


def test_a_mixture_inside_a_mixture_is_refused():
    with pytest.raises(ValueError, match=r"sources that are not mixtures, got a mixture as 'inner'"):
        MixtureDataModule({"short": Pairs(), "inner": mixture()})


@pytest.mark.parametrize("whole", [False, True])
def test_no_source_trains_on_what_another_one_holds_out(tmp_path, caplog, whole):
    """One file twice: each source holds out documents of its own, which the other leaves out of its training."""
    world = SyntheticDataModule(num_train=20, num_val=0, short_words=16, long_words=(40, 60)).pairs("train")
    rows = [{"prompt": f"{one.long_context}\n{one.question}", "completion": one.chosen} for one in world]
    apart = [{"question": one.question, "long_context": one.long_context, "chosen": one.chosen} for one in world]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in (rows if whole else apart)))
    for seeds in ((0, 0), (0, 1)):
        caplog.clear()
        sources = {str(n): PreferenceDataModule(str(path), val_fraction=0.2, seed=seed) for n, seed in enumerate(seeds)}
        policy = PolicyConfig()
        data = MixtureDataModule(sources, views=SFT(policy=policy).views, prompt_format=policy.prompt_format())
        ready(data)
        about = {f"{source}/a.jsonl:{n}": one.long_context for source in sources for n, one in enumerate(world, 1)}
        train, val = ([about[name] for name in data._encoded[split].names] for split in ("train", "val"))
        held = {source: {about[f"{source}/{one.id}"] for one in sources[source].pairs("val")} for source in sources}
        assert not {*train} & {*val}
        left_out = {
            source: sum(about[f"{source}/{one.id}"] in held[other] for one in sources[source].pairs("train"))
            for source, other in (("0", "1"), ("1", "0"))
        }
        assert data.reports()["held_out_elsewhere"] == {name: count for name, count in left_out.items() if count}
        assert sum(left_out.values()) == 2 * 16 - len(train)
        assert data.documents["train and val"] == 0
        assert ("left out: another source validates on their documents" in caplog.text) == (seeds == (0, 1))


def test_no_source_trains_on_what_another_one_holds_out_in_another_layout(tmp_path):
    world = SyntheticDataModule(num_train=10, num_val=0, short_words=16, long_words=(40, 60)).pairs("train")
    said = [{"prompt": f"{one.long_context}\n{one.question}", "completion": one.chosen} for one in world]
    apart = [{"question": one.question, "long_context": one.long_context, "chosen": one.chosen} for one in world]
    headed = [{**row, "long_context": f"Chapter\n{row['long_context']}"} for row in apart]
    sources = {}
    for name, rows in {"said": said, "apart": apart, "headed": headed}.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        fraction = 0.2 if name == "apart" else 0
        sources[name] = PreferenceDataModule(str(tmp_path / f"{name}.jsonl"), val_fraction=fraction)
    policy = PolicyConfig()
    data = ready(MixtureDataModule(sources, views=SFT(policy=policy).views, prompt_format=policy.prompt_format()))
    train, val = ({name.split(":")[1] for name in data._encoded[split].names} for split in ("train", "val"))
    assert not train & val
    assert data.left_out == {"said": 2, "headed": 2}
    assert data.documents["train and val"] == 0


def test_pairs_have_the_names_of_their_rows():
    """Sources share ids here; a callback that asks about the pairs tells answers apart by them."""
    data = ready(mixture())
    names = [one.id for one in data.pairs("val")]
    assert names == list(data._encoded["val"].names)
    assert len(set(names)) == len(names) == 5


def seen(folder, ckpt_path=None):
    data = mixture({"long": 0.6, "short": 0.4}, smaller="stop")
    return [examples for _, examples in fit(folder, data, 2, ckpt_path).seen]


def test_a_resumed_run_sees_what_an_uninterrupted_one_does(tmp_path):
    whole = seen(tmp_path)
    assert len(set(whole)) == len(whole)
    for step in (1, len(whole) // 2, len(whole) - 1):
        assert seen(tmp_path, tmp_path / f"step={step}.ckpt") == whole[step:]


def test_validation_says_each_sources_means():
    policy = PolicyConfig()
    module = SimPO(policy=policy)
    rows = {"views": module.views, "prompt_format": policy.prompt_format(), "max_tokens": 400}
    worlds = {
        "long": {"num_train": 1, "num_val": 3, "short_words": 16, "long_words": (64, 96)},
        "short": {"num_train": 1, "num_val": 2, "short_words": 16, "long_words": (24, 32), "seed": 3},
    }

    def validated(data):
        trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False)
        [metrics] = trainer.validate(module, datamodule=data, verbose=False)
        return metrics

    together = validated(MixtureDataModule({n: SyntheticDataModule(**w) for n, w in worlds.items()}, **rows))
    alone = [validated(SyntheticDataModule(**world, **rows)) for world in worlds.values()]
    for name in ("loss", "rewards/margins", "nll"):
        long, short = (metrics[f"val/{name}"] for metrics in alone)
        assert together[f"val/long/{name}"] == pytest.approx(long, rel=1e-4)
        assert together[f"val/short/{name}"] == pytest.approx(short, rel=1e-4)
        assert together[f"val/{name}"] == pytest.approx((3 * long + 2 * short) / 5, rel=1e-4)
    assert not any("short" in name for name in alone[0])


class Alike(Pairs):
    """Chosen and rejected are the same."""

    def pairs(self, split):
        return [replace(one, rejected=(one.chosen,) * 2) for one in super().pairs(split)]


def test_a_source_that_teaches_nothing_is_refused_by_name():
    data = mixture()
    data.sources["short"] = Alike()
    with pytest.raises(ValueError, match=r"train of short: expected answers that differ"):
        ready(data)
