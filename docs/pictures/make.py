r"""Pictures of what a run leaves: heat maps of its reports; report page and TensorBoard from headless Chromium.

`python docs/pictures/make.py` trains the demo first (two minutes on 2 idle cores); `--run FOLDER` takes a finished run.
`--run FOLDER --heat_map NAME.png` draws the last report's heat map alone, with the report page's own colours:

    python -m lit_longpo fit --config configs/logo.yaml --trainer.default_root_dir runs/logo
    python -m lit_longpo fit --config configs/logo.yaml --data.init_args.positions.scheme none \
        --trainer.default_root_dir runs/none
    python docs/pictures/make.py --run runs/logo/lightning_logs/version_0 --heat_map logo_synthesised.png
    python docs/pictures/make.py --run runs/none/lightning_logs/version_0 --heat_map logo_true_positions.png
"""

import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from evaluation.reports.figures import heat_map
from evaluation.reports.reading import read_report

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
HERE = Path(__file__).parent
MAX_BYTES = 200_000
_COLOURS = 128
_STRIP = 150  # at a window's lower end, which a headless Chromium does not draw
_DARK = "--blink-settings=preferredColorScheme=0"


@dataclass(frozen=True)
class Picture:
    """What is photographed.

    Args:
        dark: whether the browser asks for the dark scheme.
        place: behind the address.
    """

    name: str
    width: int
    height: int
    dark: bool = False
    place: str = ""


REPORT = (Picture("report.png", 1000, 1880), Picture("report_dark_narrow.png", 420, 1900, dark=True))
# The older page of curves: the newer one draws them outside of the page's time, and a photograph shows none.
_CURVES = "#scalars&_smoothingWeight=0&tagFilter=train%2Frewards%2Fmargins%7Ctrain%2Fsolo_ra%7Cneedle%2F(256%7C512)$"
TENSORBOARD = (Picture("tensorboard.png", 1250, 750, place=_CURVES),)
PICTURES = (*REPORT, *TENSORBOARD)
HEAT_MAPS = {"needle_before.png": 0, "needle_after.png": -1}  # which of a run's reports, by step


def browser() -> str:
    """The first browser that is installed.

    Raises:
        SystemExit: there is none.
    """
    found = next(filter(shutil.which, BROWSERS), None)
    return found or sys.exit(f"expected one of {', '.join(BROWSERS)}, found none; type: apt-get install chromium")


def photograph(picture: Picture, address: str, folder: Path) -> Path:
    """Write the picture, in few colours so that it stays small.

    Raises:
        SystemExit: it is too large all the same.
    """
    path = folder / picture.name
    with tempfile.TemporaryDirectory() as profile:
        command = [browser(), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
        command += ["--hide-scrollbars", "--virtual-time-budget=30000", *([_DARK] if picture.dark else [])]
        command += [f"--window-size={picture.width},{picture.height + _STRIP}"]
        command += [f"--screenshot={path}", address + picture.place]
        subprocess.run(command, check=True, capture_output=True, timeout=300)
    shown = Image.open(path).convert("RGB").crop((0, 0, picture.width, picture.height))
    shown.quantize(_COLOURS).save(path, optimize=True)
    if path.stat().st_size > MAX_BYTES:
        sys.exit(f"expected {path} below {MAX_BYTES:,} bytes, got {path.stat().st_size:,}; make its window smaller")
    return path


@contextmanager
def tensorboard(logs: Path) -> Iterator[str]:
    """Address of a TensorBoard that has read the logs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "tensorboard.main",
        "--logdir",
        logs.name,
        "--port",
        str(port),
    ]  # it shows the path
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen(command, cwd=logs.parent, **quiet)
    try:
        _wait_for_runs(f"http://127.0.0.1:{port}/data/runs", server)
        yield f"http://127.0.0.1:{port}/"
    finally:
        server.terminate()
        server.wait()


def _wait_for_runs(address: str, server: subprocess.Popen[bytes]) -> None:
    for _ in range(240):
        with suppress(OSError), urllib.request.urlopen(address, timeout=10) as answer:  # its own address
            if answer.read().strip() != b"[]":
                return
        if server.poll() is not None:
            break
        time.sleep(0.5)
    sys.exit("expected TensorBoard to show a run, got none; is there an events file in the run's folder?")


def train(folder: Path) -> Path:
    """The demo's run."""
    command = [sys.executable, "-m", "lit_longpo", "fit", "--config", "solopo", "--trainer.default_root_dir=runs"]
    found = {**os.environ, "PYTHONPATH": str(HERE.parents[1])}
    subprocess.run(command, check=True, cwd=folder, env=found)  # from there, as its page shows the command
    return max((folder / "runs/lightning_logs").glob("version_*"))


def reports(run: Path) -> list[Path]:
    """The run's reports by step.

    Raises:
        SystemExit: it has none.
    """
    found = sorted((run / "benchmarks").glob("*-step*.json"), key=lambda path: int(path.stem.rpartition("step")[2]))
    return found or sys.exit(f"expected a report in {run / 'benchmarks'}, found none; set --run")


def draw(report: Path, path: Path) -> Path:
    """A report's heat map as its page shows it."""
    heat_map(read_report(report)[0]).savefig(path, dpi=100)
    return path


def main() -> None:
    """All pictures of a run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--run", type=Path, help="folder of a finished run; without it the demo is trained")
    parser.add_argument("--output", type=Path, default=HERE, help="folder of the pictures")
    parser.add_argument("--heat_map", help="name of a picture: the last heat map of --run, and nothing else")
    options = parser.parse_args()
    if options.heat_map:
        run = options.run or sys.exit("expected --run FOLDER beside --heat_map, got none; type it")
        sys.stdout.write(f"{draw(reports(run)[-1], options.output / options.heat_map)}\n")
        return
    browser()  # before two minutes of training
    with tempfile.TemporaryDirectory() as folder:
        run = options.run or train(Path(folder))
        for name, number in HEAT_MAPS.items():
            sys.stdout.write(f"{draw(reports(run)[number], options.output / name)}\n")
        page = reports(run)[-1].with_suffix(".html").resolve().as_uri()
        for picture in REPORT:
            sys.stdout.write(f"{photograph(picture, page, options.output)}\n")
        with tensorboard(run.parent) as address:
            for picture in TENSORBOARD:
                sys.stdout.write(f"{photograph(picture, address, options.output)}\n")


if __name__ == "__main__":
    main()
