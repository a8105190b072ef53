import json
import re
import shutil
import subprocess
from collections import Counter
from dataclasses import replace
from functools import lru_cache
from html.parser import HTMLParser

import pytest
from matplotlib.image import imread
from support import reports

from evaluation.reports import figures, intervals, pages
from evaluation.reports.pages import Pages
from evaluation.reports.reading import load_report
from evaluation.reports.samples import samples


class Page(HTMLParser):
    """Tags with their attributes, and text."""

    def __init__(self, source):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def count(self, name):
        return sum(tag == name for tag, _ in self.tags)


@pytest.fixture(scope="module", params=reports.EVERY, ids=lambda make: make.__name__)
def report(request):
    return request.param()


@pytest.fixture(scope="module")
def page(report):
    return Page(Pages(report).page.html())


@pytest.mark.usefixtures("blank_pictures")
def test_three_files_are_written_and_the_json_comes_back(report, tmp_path):
    paths = Pages(report).write(tmp_path / "deep")
    assert [path.name for path in paths] == [f"{report.name}-step20.{suffix}" for suffix in ("json", "md", "html")]
    assert all(path.is_file() for path in paths)
    back = load_report(paths[0])
    assert back.predictions == report.predictions
    assert json.dumps(dict(back.tables)) == json.dumps(dict(report.tables))  # NaN too
    json.loads(paths[0].read_text(encoding="utf-8"), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


@pytest.mark.usefixtures("blank_pictures")
def test_a_label_is_part_of_the_files_names(report, tmp_path):
    paths = Pages(report).write(tmp_path, "prose")
    assert [path.stem for path in paths] == [f"{report.name}-prose-step20"] * 3
    assert load_report(paths[0]).name == report.name


def test_pages_ask_nothing_of_the_network_and_run_nothing(page):
    sources = [value for _, attrs in page.tags for name, value in attrs.items() if name in {"src", "href", "srcset"}]
    assert sources
    assert all(source.startswith("data:image/svg+xml;base64,") for source in sources)
    assert not page.count("script") + page.count("link") + page.count("iframe")
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]
    assert any("default-src 'none'" in attrs.get("content", "") for _, attrs in page.tags)


def test_pages_show_tables_pictures_and_what_the_model_wrote(report, page):
    assert page.count("table") >= 3
    assert page.count("img") == (3 if report.name == "needle" else 1)
    written = [text for sample in samples(report) for text in sample.texts.values()]
    assert any(mark in text for text in written for mark in ("<script>", "</script>"))
    assert all(text in page.text for text in [report.model, *written])
    assert "2,000 resamples" in page.text


@pytest.mark.usefixtures("blank_pictures")
def test_pages_have_colours_for_a_dark_scheme_and_no_others():
    """One that is stated for the light scheme alone would be unreadable in the dark one, or the other way round."""
    style = Pages(reports.needle(tasks=("needle",))).page.html().partition("<style>")[2].partition("</style>")[0]
    light, dark = (re.findall(r"(--[a-z]+): #", part) for part in re.findall(r":root \{(.*?)\}", style))
    assert light == dark
    assert set(re.findall(r"var\((--[a-z]+)\)", style)) == set(light)
    rules = re.sub(r":root \{.*?\}", "", style)
    assert re.findall(r"#[0-9a-f]{3,6}\b", rules) == ["#fff"]  # behind pictures


def test_pages_are_the_same_bytes_for_the_same_report():
    report = reports.needle(tasks=("needle",))
    assert Pages(report).page.html() == Pages(report).page.html()


def test_markdown_has_every_table_and_no_markup_of_the_models(report):
    text = Pages(report).page.markdown()
    assert "## Scores" in text
    assert "## Truncation" in text
    assert "<script>" not in text
    assert "](javascript" not in text.replace("\\](javascript", "")


@pytest.mark.usefixtures("blank_pictures")
def test_tables_pictures_and_draws_are_made_once(monkeypatch, tmp_path):
    """Files, TensorBoard's pictures and intervals that a table and a curve share."""
    counts = Counter()

    def counted(module, name):
        made = getattr(module, name)

        def make(*arguments):
            counts[name] += 1
            return made(*arguments)

        monkeypatch.setattr(module, name, make)

    counted(pages, "sections")
    counted(pages, "samples")
    counted(figures, "figures")
    monkeypatch.setattr(intervals, "_draws", lru_cache(None)(intervals._draws.__wrapped__))
    shown = Pages(reports.needle())
    shown.write(tmp_path)
    assert shown.figures is shown.figures
    assert counts == {"sections": 1, "samples": 1, "figures": 1}
    draws = intervals._draws.cache_info()
    assert draws.hits > 0
    shown.write(tmp_path)
    assert intervals._draws.cache_info() == draws


def test_a_report_of_nothing_is_refused(tmp_path):
    empty = replace(reports.needle(), predictions=())
    with pytest.raises(ValueError, match="at least one prediction of needle"):
        Pages(empty).write(tmp_path)


BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
PROBE = """<script>
const sizes = Array.from(document.images, image => image.naturalWidth);
document.title = document.images.length + " pictures, smallest " + Math.min(...sizes);
</script></body>"""


def in_browser(source, folder, *options):
    """The page as a headless browser has it, and what it said on its console."""
    name = next(filter(shutil.which, BROWSERS), None)
    if name is None:
        pytest.skip("no browser; apt-get install chromium")
    page = folder / "page.html"
    page.write_text(source, encoding="utf-8")
    command = [name, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
    command += ["--enable-logging=stderr", "--virtual-time-budget=5000", *(options or ["--dump-dom"]), page.as_uri()]
    run = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=True)
    return run.stdout, [line for line in run.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.slow
def test_a_browser_shows_the_page_without_an_error(report, tmp_path):
    source = Pages(report).page.html()
    shown, console = in_browser(source, tmp_path)
    assert not console
    seen, sent = Page(shown), Page(source)
    assert seen.count("table") >= 3
    for tag in ("table", "tr", "td", "img", "details", "script"):
        assert seen.count(tag) == sent.count(tag)
    picture = tmp_path / "page.png"
    in_browser(source, tmp_path, f"--screenshot={picture}", "--window-size=1000,1600")
    assert imread(picture)[..., :3].std() > 0.05


@pytest.mark.slow
def test_a_browser_draws_every_picture(report, tmp_path):
    """Asked by a script, which needs the page's policy lifted."""
    source = (
        Pages(report).page.html().replace("default-src 'none'", "script-src 'unsafe-inline'").replace("</body>", PROBE)
    )
    title = re.search("<title>(.*)</title>", in_browser(source, tmp_path)[0])[1]
    count, smallest = re.match(r"(\d+) pictures, smallest (\d+)", title).groups()
    assert int(count) == Page(source).count("img")
    assert int(smallest) > 100


@pytest.mark.slow
def test_a_script_that_slipped_in_would_be_stopped_and_seen(tmp_path):
    """What the tests above look for does appear when there is something."""
    source = Pages(reports.needle()).page.html().replace("</body>", "<script>document.title = 'ran'</script></body>")
    shown, console = in_browser(source, tmp_path)
    assert "<title>ran" not in shown
    assert "Content Security Policy" in "".join(console)
