"""The pictures in docs/pictures are small, linked and made by a script that works."""

import importlib.util
from dataclasses import replace

import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.image import imread
from support import pages, reports
from support.pages import PAGES, ROOT
from torch.utils.tensorboard import SummaryWriter

from evaluation.reports.pages import Pages

FOLDER = ROOT / "docs/pictures"


def script():
    spec = importlib.util.spec_from_file_location("make_pictures", FOLDER / "make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


make = script()


@pytest.mark.parametrize("picture", sorted(FOLDER.glob("*.png")), ids=lambda path: path.name)
def test_every_picture_is_small_and_on_a_page(picture):
    assert picture.stat().st_size <= make.MAX_BYTES
    shown = {(page.parent / link).resolve() for page in PAGES for link in pages.links(page) if "://" not in link}
    assert picture in shown


def test_what_the_script_makes_is_there_in_the_size_it_says():
    for picture in make.PICTURES:
        height, width, _ = imread(FOLDER / picture.name).shape
        assert (width, height) == (picture.width, picture.height)


def test_a_run_without_a_report_is_refused(tmp_path):
    with pytest.raises(SystemExit, match=r"expected a report in .*set --run"):
        make.reports(tmp_path)


def colours(path):
    """Shades of an image that fill more than a hundredth of it, without greys."""
    image = (imread(path)[..., :3] * 255).round().astype(int).reshape(-1, 3)
    shades, counts = np.unique(image, axis=0, return_counts=True)
    return shades[(counts > len(image) / 100) & (np.ptp(shades, axis=1) > 20)]


@pytest.mark.parametrize(
    "name",
    [
        *make.HEAT_MAPS,
        "logo_synthesised.png",
        "logo_true_positions.png",
        pytest.param("report.png", marks=pytest.mark.slow),
    ],
)
def test_heat_maps_are_in_the_colours_of_the_report_page(name):
    """Those get lighter in grey, too, so that every kind of colour blindness sees which is better."""
    known = colormaps["viridis"](np.linspace(0, 1, 256))[:, :3] * 255
    found = colours(FOLDER / name)
    assert len(found)
    assert all(np.abs(known - shade).sum(axis=1).min() < 12 for shade in found)  # pages have few colours


def test_heat_maps_are_drawn_from_a_runs_reports(tmp_path, monkeypatch):
    run = tmp_path / "version_0"
    for step in (0, 10):
        Pages(replace(reports.needle(), step=step)).write(run / "benchmarks")
    assert [path.name for path in make.reports(run)] == ["needle-step0.json", "needle-step10.json"]
    monkeypatch.setattr("sys.argv", ["make.py", "--run", str(run), "--output", str(tmp_path), "--heat_map", "one.png"])
    make.main()
    assert len(colours(tmp_path / "one.png"))


@pytest.mark.slow
def test_the_script_photographs_page_and_curves(tmp_path, monkeypatch):
    if not any(map(make.shutil.which, make.BROWSERS)):
        pytest.skip("no browser; apt-get install chromium")
    run = tmp_path / "logs/version_0"
    Pages(reports.needle()).write(run / "benchmarks")
    with SummaryWriter(str(run)) as writer:
        for step in range(20):
            writer.add_scalar("train/loss", 1 / (1 + step), step)
    monkeypatch.setattr("sys.argv", ["make.py", "--run", str(run), "--output", str(tmp_path)])
    make.main()
    for picture in make.PICTURES:
        image = imread(tmp_path / picture.name)[..., :3]
        assert image.std() > 0.05
        assert (image.mean() < 0.5) == picture.dark
        assert (tmp_path / picture.name).stat().st_size <= make.MAX_BYTES
