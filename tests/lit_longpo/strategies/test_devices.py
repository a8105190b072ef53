"""Devices that are asked for against those there are, as Lightning counts them, in every command."""

import pytest
import torch
from lightning.fabric import Fabric
from support.command_line import CONFIGS

from lit_longpo import __main__ as command
from lit_longpo.errors import UserError
from lit_longpo.policy import PolicyConfig
from lit_longpo.strategies import check_accelerator, check_devices, check_torch_device, num_devices

NO_NUMBER = "expected `trainer.devices` to be a number from 1"


@pytest.fixture
def gpus(monkeypatch):
    """As if torch could use so many."""

    def there_are(count):
        monkeypatch.setattr("lightning.fabric.accelerators.cuda.num_cuda_devices", lambda: count)
        monkeypatch.setattr("lightning.fabric.accelerators.mps._get_all_available_mps_gpus", list)
        kind = torch.device("cuda") if count else None
        monkeypatch.setattr("torch.accelerator.current_accelerator", lambda check_available=False: kind)
        monkeypatch.setattr("torch.accelerator.device_count", lambda: count)

    return there_are


@pytest.mark.parametrize(
    ("accelerator", "devices", "expected"),
    [
        *(("cpu", 3, 3), ("cpu", "2", 2), ("cpu", "auto", 1), ("auto", "auto", 2), ("gpu", -1, 2), ("gpu", "-1", 2)),
        *(("cuda", [1], 1), ("cuda", "0,1", 2), ("cuda", "1,", 1), ("gpu", 1, 1), ("gpu", "2", 2)),
    ],
)
def test_devices_that_are_here_are_counted_as_lightning_does(accelerator, devices, expected, gpus, monkeypatch):
    gpus(2)
    assert check_devices(accelerator, devices) == expected
    monkeypatch.setattr("torch.cuda.set_device", lambda device: None)
    fabric = Fabric(accelerator=accelerator, devices=devices)
    assert len(fabric._connector._parallel_devices) == expected


@pytest.mark.parametrize(
    ("here", "accelerator", "devices", "expected"),
    [
        (0, "gpu", 1, "expected a GPU for `trainer.accelerator: gpu`, found none .* type --trainer.accelerator cpu"),
        (0, "cuda", 1, "expected a GPU"),
        (0, "mps", 1, "expected an Apple GPU"),
        (0, "tpu", 8, "expected a TPU"),
        (2, "gpu", 4, "of this machine for `trainer.devices: 4`, which has 2; type --trainer.devices 2"),
        (2, "auto", "4", "which has 2"),
        (2, "gpu", [2], "which has 2"),
        (2, "gpu", "1,1", "a number from 1, a list of different devices or auto, got 1,1"),
        (0, "auto", -1, "a number from 1 or auto, got -1"),
        *((2, "gpu", wrong, f"{NO_NUMBER}, a list") for wrong in (0, -2, "", "x", "1.5", [])),
        *((2, "cpu", wrong, f"{NO_NUMBER} or auto") for wrong in (0, -1, "0,1", [1], "x")),
        (2, "CUDA", 1, "to be one of auto, gpu, .*, got CUDA; type --trainer.accelerator cuda"),
    ],
)
def test_other_devices_are_one_line(here, accelerator, devices, expected, gpus):
    gpus(here)
    with pytest.raises(UserError, match=expected):
        check_devices(accelerator, devices, "trainer.")


def test_a_plan_takes_devices_of_other_machines(gpus):
    gpus(0)
    check_accelerator("tpu")
    assert [num_devices("gpu", devices) for devices in (8, "8", "0,1", [0, 1, 5], "auto")] == [8, 8, 2, 3, None]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gpu", "another name of torch's, got gpu; type --device cuda"),
        ("nonsense", "got nonsense; type --device cpu"),
        ("cuda:2", "expected a device here for `device: cuda:2`, found 2 of its kind; type --device null"),
        ("meta", "found none that torch can use"),
        ("mps", "found none that torch can use"),
    ],
)
def test_a_device_of_torch_that_is_not_here_is_one_line(name, expected, gpus):
    gpus(2)
    check_torch_device("cuda:1", "device")
    check_torch_device("cpu", "device")
    with pytest.raises(UserError, match=expected):
        check_torch_device(name, "device")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["evaluate", "--config", "eval/qa", "--benchmark.path", "qa.jsonl", "--accelerator", "gpu"], "a GPU"),
        (["evaluate", "--config", "eval/needle", "--accelerator", "cpu", "--devices", "0"], "`devices` to be a number"),
        (["ask", "--model", "embedded", "--document", "qa.jsonl", "--question", "Who?", "--accelerator", "tpu"], "TPU"),
        (["perplexity", "--path", "qa.jsonl", "--lengths", "[8]", "--accelerator", "gpus"], "got gpus; type"),
        (["build", "--config", "build/solopo", "--generator.device", "cuda"], "`generator.init_args.device: cuda`"),
        (["plan", "--config", "solopo", "--trainer.accelerator", "gpus"], "`trainer.accelerator` to be one of"),
        (["plan", "--config", "solopo", "--trainer.num_nodes", "0"], "trainer.num_nodes"),
        (["plan", "--config", "solopo", "--trainer.devices", "x"], "`trainer.devices` to be a number"),
    ],
    ids=lambda words: words[0] if isinstance(words, list) else "",
)
def test_every_command_says_so_before_a_model_is_loaded(words, expected, gpus, tmp_path, monkeypatch):
    def load(policy):
        raise AssertionError("a model is being loaded")

    gpus(0)
    monkeypatch.setattr(PolicyConfig, "load_base", load)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "qa.jsonl").write_text('{"question": "Who?", "answers": ["Ada"], "context": "Ada ."}\n')
    named = [str(CONFIGS / f"{word}.yaml") if (CONFIGS / f"{word}.yaml").exists() else word for word in words]
    output = [] if words[0] in ("ask", "plan") else ["--output", "out"]
    with pytest.raises(SystemExit) as stopped:
        command.main([*named, *output])
    message = str(stopped.value)
    assert message.startswith("error: expected")
    assert expected in message
    assert len(message.splitlines()) == 1
