"""Data that the embedded model was made with: short worlds with several questions each."""

from collections.abc import Sequence

from lightning.pytorch import LightningDataModule
from torch.utils.data import Dataset
from torchdata.stateful_dataloader import StatefulDataLoader

from data_modules.rows.dealing.dealer import collate, ranks_of
from data_modules.rows.dealing.pipes import Piped, check_room_for_workers
from data_modules.rows.dealing.sampling import TokenBudgetBatchSampler
from data_modules.rows.encoding import EncodedPair
from data_modules.rows.unfitted import encode_answers
from data_modules.worlds.world import WORDS_PER_FACT, Split, World, check_sizes, world_seed
from lit_longpo.batch import Group, Response, Views
from lit_longpo.errors import InputError
from lit_longpo.policy import PromptFormat
from lit_longpo.ranges import MOST, MOST_WORKERS, check_numbers


class WorldTexts(Dataset[EncodedPair]):
    """Worlds followed by questions with their answers, made when asked for.

    The number of facts is log-uniform and worlds have one, two or four kinds of facts only. Both make
    the model look names up: with one fact it learns to copy, with two to choose, and guessing by the
    kind of the fact does not pay.

    Args:
        split: whose worlds.
        size: number of examples.
        max_words: words of the context at most.
        max_questions: questions about one context at most.
        seed: of the worlds.
        prompt_format: tokenizer and template.
    """

    def __init__(
        self,
        split: Split,
        size: int,
        max_words: int,
        max_questions: int,
        seed: int,
        prompt_format: PromptFormat,
    ) -> None:
        self.split, self.size, self.max_words, self.max_questions = split, size, max_words, max_questions
        self.seed, self.prompt_format = seed, prompt_format

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> EncodedPair:
        world = World(self.split, world_seed(self.seed, index), num_attributes=(1, 2, 4)[index % 3])
        num_facts = int((self.max_words // WORDS_PER_FACT) ** world.random.random())
        questions = [world.question() for _ in range(min(num_facts, self.max_questions))]
        distractors = [world.fact() for _ in range(num_facts - len(questions))]
        context = world.arrange([question.supporting[0] for question in questions], distractors)
        prompt = self.prompt_format.encode_prompt(context, questions[0].text)
        conversation = tuple((question.text, question.answer) for question in questions)
        ids, mask, _ = encode_answers(self.prompt_format, conversation)
        response = Response("chosen", ids, mask)
        group = Group(f"{self.split}-{index}", "short", prompt.ids, (response,), score_sequence=True)
        return EncodedPair((group,), ())


class WorldTextDataModule(LightningDataModule):
    """Short worlds for `configs/pretrain_tiny.yaml`, with the SFT objective and its sequence term.

    Args:
        num_train: training examples; every one is new.
        num_val: validation examples.
        max_words: words of the context at most.
        max_questions: questions about one context at most.
        batch_size: examples in a row.
        seed: of the worlds.
        num_workers: processes that make and pack examples.
        views: what the objective wants scored; the command line fills it in.
        prompt_format: tokenizer and template; the command line fills it in.
    """

    def __init__(
        self,
        num_train: int = 96_000,
        num_val: int = 256,
        max_words: int = 96,
        max_questions: int = 12,
        batch_size: int = 32,
        seed: int = 0,
        num_workers: int = 0,
        views: Views | None = None,
        prompt_format: PromptFormat | None = None,
    ) -> None:
        super().__init__()
        self.sizes = check_sizes({"train": num_train, "val": num_val})
        self.max_words, self.max_questions, self.batch_size = max_words, max_questions, batch_size
        self.seed, self.num_workers = seed, num_workers
        check_numbers(self, "data.init_args.", max_words=(WORDS_PER_FACT, MOST), max_questions=(1, MOST))
        check_numbers(self, "data.init_args.", batch_size=(1, MOST), num_workers=(0, MOST_WORKERS))
        if views is not None and [str(view) for view in views.policy] != ["short.chosen"]:
            raise InputError(
                f"expected an objective that asks for short.chosen only, got {[str(v) for v in views.policy]}; "
                "use SFT with `context: short`"
            )
        self.prompt_format = prompt_format

    def train_dataloader(self) -> StatefulDataLoader:
        """New worlds in a fixed order."""
        return self._loader("train")

    def val_dataloader(self) -> StatefulDataLoader:
        """Worlds that training does not see."""
        return self._loader("val")

    def _loader(self, split: Split) -> StatefulDataLoader:
        if self.prompt_format is None:
            raise InputError(
                "WorldTextDataModule needs `prompt_format` (policy.prompt_format()); the command line fills it in, "
                "from Python pass it"
            )
        size = self.sizes[split]
        texts = WorldTexts(split, size, self.max_words, self.max_questions, self.seed, self.prompt_format)
        lengths: Sequence[int] = [1] * size  # rows hold a fixed number of examples, so length does not matter
        sampler = TokenBudgetBatchSampler(lengths, self.batch_size, **ranks_of(self.trainer))
        check_room_for_workers(self.num_workers)
        return StatefulDataLoader(texts, batch_sampler=sampler, collate_fn=Piped(collate), num_workers=self.num_workers)
