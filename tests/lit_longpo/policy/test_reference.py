import dataclasses

import pytest
import torch
from support.groups import random_groups
from support.tiny_models import tiny_model

from lit_longpo.engine import pack, score
from lit_longpo.policy import LoRA, PolicyConfig
from lit_longpo.policy.reference import reference_mode
from lit_longpo.policy.reference_cache import ReferenceCache, fill

CPU = torch.device("cpu")
ROWS = [pack(random_groups([(5, [2, 3])], seed=seed)) for seed in range(4)]


@pytest.fixture
def model():
    return tiny_model("Llama")


def test_stored_scores_equal_the_models(model, tmp_path):
    cache = ReferenceCache(tmp_path / "model")
    assert fill(cache, lambda: reference_mode(model), ROWS, CPU) == len(ROWS)
    again = ReferenceCache(tmp_path / "model")
    again.load()
    for row in ROWS:
        torch.testing.assert_close(again.scores(row).sums, score(model, row).sums)
        assert torch.equal(again.scores(row).counts, score(model, row).counts)


def test_the_next_run_scores_nothing_and_does_not_even_load(model, tmp_path):
    fill(ReferenceCache(tmp_path), lambda: reference_mode(model), ROWS, CPU)
    again = ReferenceCache(tmp_path)
    again.load()
    assert fill(again, lambda: pytest.fail("the reference was loaded"), ROWS, CPU) == 0


def test_an_interrupted_pass_resumes_where_it_stopped(model, tmp_path):
    def interrupted():
        yield from ROWS[:2]
        raise KeyboardInterrupt

    cache = ReferenceCache(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        fill(cache, lambda: reference_mode(model), interrupted(), CPU)
    again = ReferenceCache(tmp_path)
    again.load()
    assert fill(again, lambda: reference_mode(model), ROWS, CPU) == 2


def test_half_written_files_are_not_read(model, tmp_path):
    (tmp_path / "0123.partial").write_bytes(b"half")
    cache = ReferenceCache(tmp_path)
    cache.load()
    assert len(cache) == 0


def test_values_of_another_model_are_refused(model, tmp_path):
    fill(ReferenceCache(tmp_path), lambda: reference_mode(model), ROWS[:2], CPU)
    again = ReferenceCache(tmp_path)
    again.load()
    with pytest.raises(ValueError, match="delete that folder"):
        fill(again, lambda: reference_mode(tiny_model("Llama", seed=1)), ROWS, CPU)


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
    fill(cache, lambda: reference_mode(model), ROWS, CPU)
    renamed = [dataclasses.replace(group, example="x") for group in random_groups([(5, [2, 3])], seed=2)]
    torch.testing.assert_close(cache.scores(pack(renamed)).sums, cache.scores(ROWS[2]).sums)
