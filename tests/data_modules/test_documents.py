"""Data modules that build on the fly: once, from a cache by content, labels respected."""

import json
import threading
import time

import pytest
from filelock import FileLock
from support.builders import Scripted
from support.byte_tokenizer import byte_model

from data_modules import DocumentDataModule, MixtureDataModule, QADataModule
from data_modules.builders.generators.requests import Decoding, RequestTemplate, digest
from data_modules.builders.generators.server import ServerGenerator
from data_modules.builders.on_the_fly import OnTheFly
from data_modules.builders.recipes.longpo import LongPORecipe
from data_modules.builders.recipes.questions import Cloze
from data_modules.builders.recipes.solopo import SoLoPORecipe
from data_modules.builders.sources.chunking import Chunking
from data_modules.builders.sources.worlds import WorldDocuments
from data_modules.files.record_files import read_records
from lit_longpo.batch import View, Views
from lit_longpo.errors import InputError
from lit_longpo.policy import PolicyConfig, PromptTemplate

POLICY = PolicyConfig(template=PromptTemplate("{context} Complete: {question}", chat=False))
VIEWS = Views((View("long", "chosen"), View("long", "rejected")))


def longpo(cache, generator, **options):
    recipe = LongPORecipe(
        Chunking(24), 2, questions=Cloze(prompt=RequestTemplate("{sentence}")), max_new_tokens=4, long_tokens=80
    )
    return OnTheFly(recipe, generator, POLICY, cache=str(cache), **options)


def module(cache, generator, **options):
    build = longpo(cache, generator)
    data = DocumentDataModule(
        WorldDocuments(9, 20), build, views=VIEWS, prompt_format=POLICY.prompt_format(), **options
    )
    data.prepare_data()
    return data


def test_documents_become_batches_and_the_second_time_nothing_is_asked(tmp_path):
    data = module(tmp_path, first := Scripted(), val_fraction=0.2)
    data.setup("fit")
    names = {name for batch in data.train_dataloader() for name in batch.policy.examples}
    held = {name for batch in data.val_dataloader() for name in batch.policy.examples}
    assert names
    assert held
    assert not names & held
    assert first.asked
    again = module(tmp_path, second := Scripted(), val_fraction=0.2)
    assert again.pairs("train") == data.pairs("train")
    assert second.asked == []
    assert len(list(tmp_path.iterdir())) == 1


def test_documents_are_one_of_several_sources(tmp_path):
    sources = {name: module(tmp_path, Scripted(), val_fraction=0.2) for name in ("books", "papers")}
    alone = [pair.id for pair in sources["books"].pairs("train")]
    mixed = MixtureDataModule(sources, views=VIEWS, prompt_format=POLICY.prompt_format())
    mixed.setup("fit")
    names = {name for batch in mixed.train_dataloader() for name in batch.policy.examples}
    assert {name for name in names if name.startswith("books")} == {f"books/{name}" for name in alone}


def test_a_servers_pairs_of_before_are_found_again():
    """The policy's files have no part in them; another folder would ask the server for everything once more."""
    build = OnTheFly(LongPORecipe(), ServerGenerator("m"), POLICY)._build(WorldDocuments(9, 20))
    assert build.output.name == digest([build.settings(), str(POLICY)])


def test_other_weights_in_the_policys_folder_build_other_pairs(tmp_path):
    """A finished build would be read as if the model that lies there now had made it."""
    outputs = []
    for seed in (1, 1, 2):
        policy = PolicyConfig(source=str(byte_model(tmp_path / "policy", seed=seed)))
        outputs.append(OnTheFly(LongPORecipe(), policy=policy)._build(WorldDocuments(9, 20)).output)
    assert outputs[0] == outputs[1] != outputs[2]


def test_a_damaged_file_of_a_build_is_made_again_from_its_answers(tmp_path, caplog):
    pairs = module(tmp_path, Scripted()).pairs("train")
    (built,) = tmp_path.glob("*/pairs.jsonl")
    whole = built.read_bytes()
    built.write_bytes(whole.replace(b"word", b"wore", 1))
    with pytest.raises(InputError, match=r"pairs\.jsonl as it was written, but its checksum .* is another"):
        longpo(tmp_path, Scripted()).pairs(WorldDocuments(9, 20))
    with pytest.raises(InputError, match="rename the file if you changed it"):
        next(read_records(str(built), "train", "data.path"))
    again = module(tmp_path, second := Scripted())
    assert "pairs.jsonl in" in caplog.text
    assert second.asked == []
    assert built.read_bytes() == whole
    assert again.pairs("train") == pairs
    (built.parent / "checksums.json").unlink()  # as of folders of before
    assert module(tmp_path, Scripted()).pairs("train") == pairs


def test_a_run_that_needs_the_pairs_of_another_waits_for_it(tmp_path, caplog):
    caplog.set_level("INFO")
    module(tmp_path, Scripted())
    (built,) = tmp_path.glob("*/pairs.jsonl")
    built.unlink()
    with FileLock(built.parent / ".lock", thread_local=False) as held:
        waiting = threading.Thread(target=module, args=(tmp_path, Scripted()))
        waiting.start()
        while "waiting until it is done" not in caplog.text and waiting.is_alive():
            time.sleep(0.01)
        assert not built.exists()
        held.release()
    waiting.join()
    assert built.exists()


def test_other_settings_have_another_folder(tmp_path):
    module(tmp_path, Scripted())
    build = longpo(tmp_path, Scripted(), seed=5)
    DocumentDataModule(WorldDocuments(9, 20), build).prepare_data()
    assert len(list(tmp_path.iterdir())) == 2


def test_questions_are_answered_by_the_model_if_asked_for(tmp_path):
    rows = [
        {
            "id": f"r{n}",
            "question": f"word{n}",
            "answer": "word0",
            "paragraphs": [
                {"title": "T", "paragraph_text": f"word0 word{n}", "is_supporting": True},
                {"title": "U", "paragraph_text": f"word5 word{n}", "is_supporting": False},
            ],
        }
        for n in range(12)
    ]
    (tmp_path / "qa.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = SoLoPORecipe(RequestTemplate("{question}"), Decoding(1.0), 12, short_tokens=20, long_tokens=40)
    build = OnTheFly(recipe, Scripted(), POLICY, cache=str(tmp_path / "cache"))
    data = QADataModule(str(tmp_path / "qa.jsonl"), build=build, val_fraction=0.1)
    data.prepare_data()
    pairs = data.pairs("train")
    assert pairs
    assert {pair.chosen for pair in pairs} == {"word0"}
    assert len(data.pairs("val")) >= 1
    assert data.pairs("test") == []
