import hashlib
import io
import json
import zipfile

import pytest
from huggingface_hub import constants
from support import official_layout
from support.web_server import Site, serve

from evaluation import LongBench, LongBenchV2, LVEval
from evaluation.benchmarks import downloads, longbench, longbench_v2
from evaluation.benchmarks.downloads import DownloadError, RemoteFile, cache_folder, fetch, prepare_data
from evaluation.benchmarks.lveval import benchmark as lveval

TEXT = b"what the official file says\n" * 4000


@pytest.fixture(autouse=True)
def _online(monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv(downloads.CACHE_VARIABLE, str(tmp_path / "cache"))


@pytest.fixture
def site():
    with serve(Site({"/prompts/a.txt": TEXT})) as running:
        yield running


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def remote(site, *, content=TEXT, path="/prompts/a.txt", **options):
    return RemoteFile(path[1:], site.url + path, sha256(content), **options)


def names(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


def archive(members):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as out:
        for name, content in members.items():
            out.writestr(name, content)
    return packed.getvalue()


def test_a_name_that_no_file_can_have_is_not_there(site, tmp_path):
    prepare_data("bench", [remote(site)], tmp_path)
    known = json.loads((tmp_path / "downloads.json").read_text())
    known["prompts/a.txt"]["sizes"]["x" * 5000] = 1
    (tmp_path / "downloads.json").write_text(json.dumps(known))
    prepare_data("bench", [remote(site)], tmp_path)
    assert len(site.requests) == 2


def test_the_right_file_is_kept_and_not_asked_for_again(site, tmp_path):
    assert prepare_data("bench", [remote(site)], tmp_path) == tmp_path
    assert (tmp_path / "prompts" / "a.txt").read_bytes() == TEXT
    prepare_data("bench", [remote(site)], tmp_path)
    assert len(site.requests) == 1


@pytest.mark.parametrize("content", [None, b"short", b"W" + TEXT[1:]], ids=["deleted", "cut", "changed"])
def test_a_file_that_is_no_longer_whole_is_downloaded_again(site, tmp_path, content):
    path = prepare_data("bench", [remote(site)], tmp_path) / "prompts" / "a.txt"
    path.unlink() if content is None else path.write_bytes(content)
    prepare_data("bench", [remote(site)], tmp_path)
    assert path.read_bytes() == TEXT


def test_a_newer_pin_is_downloaded_again(site, tmp_path):
    prepare_data("bench", [remote(site)], tmp_path)
    site.files["/new/a.txt"] = b"new"
    prepare_data("bench", [RemoteFile("prompts/a.txt", f"{site.url}/new/a.txt", sha256(b"new"))], tmp_path)
    assert (tmp_path / "prompts" / "a.txt").read_bytes() == b"new"


def test_another_content_is_refused_and_nothing_stays(site, tmp_path):
    with pytest.raises(
        DownloadError, match=rf"expected .*a\.txt to have sha256 {sha256(b'other')}, got {sha256(TEXT)}"
    ):
        prepare_data("bench", [remote(site, content=b"other")], tmp_path)
    assert names(tmp_path) == set()


def test_an_interrupted_download_is_continued(site, tmp_path):
    site.cut_after = 30_000
    with pytest.raises(DownloadError, match="run the same command again to go on"):
        prepare_data("bench", [remote(site)], tmp_path)
    assert names(tmp_path) == {"prompts/a.txt.partial"}
    site.cut_after = None
    before = len(site.requests)
    prepare_data("bench", [remote(site)], tmp_path)
    assert (tmp_path / "prompts" / "a.txt").read_bytes() == TEXT
    [(_, asked)] = site.requests[before:]
    assert asked == "bytes=30000-"
    assert names(tmp_path) == {"prompts/a.txt", "downloads.json"}


def test_a_whole_draft_is_only_checked(site, tmp_path):
    """Killed between the last byte and the check."""
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "a.txt.partial").write_bytes(TEXT)
    prepare_data("bench", [remote(site)], tmp_path)
    assert names(tmp_path) == {"prompts/a.txt", "downloads.json"}


def test_without_network_the_message_names_the_folder_option(tmp_path):
    file = RemoteFile("a.txt", "http://127.0.0.1:9/a.txt", sha256(TEXT))  # nobody listens there
    with pytest.raises(DownloadError, match=r"could not download http://127.0.0.1:9/a.txt .*set `folder` to a copy"):
        prepare_data("bench", [file], tmp_path)


def test_offline_mode_is_respected(site, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(DownloadError, match="set `folder`"):
        prepare_data("bench", [remote(site)], tmp_path)
    assert not site.requests


def test_a_missing_file_is_said(site, tmp_path):
    with pytest.raises(DownloadError, match="404"):
        fetch(RemoteFile("b.txt", f"{site.url}/b.txt", sha256(TEXT)), tmp_path)


def test_archives_are_unpacked_into_data_and_nowhere_else(site, tmp_path):
    members = {"data/one.jsonl": "1\n", "../../evil.jsonl": "2\n", "note.txt": "3", "__MACOSX/data/one.jsonl": "4"}
    content = archive(members)
    site.files["/all.zip"] = content
    prepare_data("bench", [remote(site, content=content, path="/all.zip", is_archive=True)], tmp_path / "x" / "y")
    assert names(tmp_path) == {"x/y/data/one.jsonl", "x/y/data/evil.jsonl", "x/y/downloads.json"}
    unpacked = tmp_path / "x" / "y" / "data" / "one.jsonl"
    assert unpacked.read_text() == "1\n"
    unpacked.unlink()
    prepare_data("bench", [remote(site, content=content, path="/all.zip", is_archive=True)], tmp_path / "x" / "y")
    assert unpacked.exists()


def test_a_member_of_an_archive_that_changed_is_unpacked_again(site, tmp_path, caplog):
    packed = archive({"a.jsonl": b"1 is 1"})
    site.files["/all.zip"] = packed
    file = remote(site, content=packed, path="/all.zip", is_archive=True)
    member = prepare_data("bench", [file], tmp_path) / "data" / "a.jsonl"
    member.write_bytes(b"1 is 2")
    prepare_data("bench", [file], tmp_path)
    assert member.read_bytes() == b"1 is 1"
    assert "all.zip in" in caplog.text
    assert "is not what was downloaded: it is fetched again" in caplog.text


def test_without_a_pinned_hash_the_hubs_own_is_checked(site, tmp_path):
    file = RemoteFile("prompts/a.txt", f"{site.url}/prompts/a.txt", None)
    with pytest.raises(DownloadError, match="expected a sha256 as the tag"):
        fetch(file, tmp_path)
    site.tags["/prompts/a.txt"] = sha256(b"other")
    with pytest.raises(DownloadError, match=r"expected .* to have sha256"):
        fetch(file, tmp_path)
    site.tags["/prompts/a.txt"] = sha256(TEXT)
    assert fetch(file, tmp_path) == sha256(TEXT)


def test_a_data_set_is_followed_to_its_new_name(site, tmp_path):
    """The hub sends on from earlier names, as from THUDM's to zai-org's, without a word on the file itself."""
    site.moved["/old/a.txt"] = "/prompts/a.txt"
    site.tags["/prompts/a.txt"] = sha256(TEXT)
    assert fetch(RemoteFile("a.txt", f"{site.url}/old/a.txt", None), tmp_path) == sha256(TEXT)
    assert (tmp_path / "a.txt").read_bytes() == TEXT


def test_an_archive_that_nobody_pinned_stays_what_it_was(site, tmp_path):
    file = RemoteFile("all.zip", f"{site.url}/all.zip", None, is_archive=True)
    site.files["/all.zip"] = archive({"a.jsonl": "{}\n"})
    site.tags["/all.zip"] = first = sha256(site.files["/all.zip"])
    prepare_data("bench", [file], tmp_path)
    assert json.loads((tmp_path / "downloads.json").read_text())["all.zip"]["sha256"] == first
    site.files["/all.zip"] = archive({"a.jsonl": '{"other": 1}\n'})
    site.tags["/all.zip"] = sha256(site.files["/all.zip"])
    (tmp_path / "data" / "a.jsonl").unlink()
    with pytest.raises(DownloadError, match=f"have sha256 {first} as when it was fetched before, got"):
        prepare_data("bench", [file], tmp_path)


def test_the_cache_folder_follows_the_environment(tmp_path, monkeypatch):
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv(downloads.CACHE_VARIABLE)
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "hub"))
    assert cache_folder() == tmp_path / "hub" / "lit_longpo"


def served(site, folder, files):
    """The files of a benchmark's folder under the site, its data in every archive."""
    for file in files:
        content = (folder / file.path).read_bytes() if not file.is_archive else None
        if content is None:
            content = archive({f"data/{path.name}": path.read_text() for path in (folder / "data").iterdir()})
        path = "/" + file.url.split("/", 3)[3]
        site.files[path], site.tags[path] = content, sha256(content)
        yield RemoteFile(file.path, site.url + path, sha256(content), file.is_archive)


@pytest.mark.parametrize("name", ["longbench", "longbench_v2", "lveval"])
def test_benchmarks_without_a_folder_download_theirs(name, site, tmp_path, monkeypatch):
    module, make = {
        "longbench": (longbench, lambda: LongBench()),
        "longbench_v2": (longbench_v2, lambda: LongBenchV2()),
        "lveval": (lveval, lambda: LVEval(datasets=["factrecall_en"])),
    }[name]
    layout = {
        "longbench": lambda folder: official_layout.longbench(folder, {"trec": 2, "hotpotqa": 1}),
        "longbench_v2": lambda folder: official_layout.longbench_v2(folder, 2),
        "lveval": lambda folder: official_layout.lveval(folder, 2),
    }[name]
    folder = layout(tmp_path / "published")
    if name == "longbench_v2":
        rows = (folder / "data.jsonl").read_text().splitlines()
        (folder / "data.json").write_text(f"[{','.join(rows)}]")
    pinned, arguments = module._remote, []
    monkeypatch.setattr(
        module, "_remote", lambda *given: arguments.extend(given) or list(served(site, folder, pinned(*given)))
    )
    bench = make()
    assert bench.folder == tmp_path / "cache" / "benchmarks" / name
    assert [len(list(bench.examples(task))) for task in bench.tasks][-1] == 2
    assert arguments == ([["factrecall_en"]] if name == "lveval" else [])
    asked = len(site.requests)
    make()
    assert len(site.requests) == asked


def test_pins_are_full_commits():
    for file in [*longbench._remote(), *longbench_v2._remote(), *lveval._remote(["cmrc_mixup"])]:
        assert any(len(part) == 40 for part in file.url.split("/"))
        assert file.url.startswith("https://")
        assert file.sha256 is None or len(file.sha256) == 64
