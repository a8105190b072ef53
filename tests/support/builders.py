"""What builder tests share: a record, a scripted generator, a workbench, a way to drive one coroutine."""

from dataclasses import dataclass, field

from support.word_tokenizer import word_tokenizer

from data_modules.builders.build import Build
from data_modules.builders.checks.verifiers import GoldAnswer, ModelJudge
from data_modules.builders.generators.base import TextGenerator
from data_modules.builders.generators.requests import Completion, Decoding, RequestTemplate, seed_of
from data_modules.builders.recipes.base import Workbench
from data_modules.builders.recipes.judges import Judge
from data_modules.builders.recipes.solopo import SoLoPORecipe
from data_modules.builders.sources.tokens import TextTokens
from data_modules.builders.sources.worlds import WorldQuestions
from data_modules.records import Passage, QARecord
from lit_longpo.policy import PolicyConfig, PromptFormat, PromptTemplate

TEMPLATE = PromptTemplate("{context} Complete: {question}", chat=False)
FACT = Passage("Ada", "Ada lives in Oslo today.", True)
NOISE = tuple(Passage(f"Place {n}", f"Nothing number {n} happens here at all.") for n in range(12))
RECORD = QARecord("q1", "Where does Ada live?", ("Oslo",), (NOISE[0], FACT, *NOISE[1:]))


def text_tokens():
    """Tokens that are words and punctuation marks."""
    return TextTokens(PromptFormat(word_tokenizer(), PromptTemplate()))


def bench(item="record", pool=(), template="{context}\n\n{question}", *, opened=False):
    return Workbench(item, text_tokens(), PromptTemplate(template), pool=pool, opened=opened)


def drive(steps, answer):
    """Run a coroutine, each request answered by `answer(request)`; returns its result and all requests."""
    asked, replies = [], None
    while True:
        try:
            requests = steps.send(replies)
        except StopIteration as done:
            return done.value, asked
        asked += requests
        replies = [reply if isinstance(reply := answer(r), Completion) else Completion(r.id, reply) for r in requests]


@dataclass
class Scripted(TextGenerator):
    """Answers that depend on the request alone; requests whose id holds a part of `fail` get an error."""

    name: str = "scripted"
    fail: tuple[str, ...] = field(default=(), metadata={"runtime": True})

    def __post_init__(self):
        self.asked = []

    def open(self, policy):
        return self.name

    def answer(self, batches):
        for batch in batches:
            for request in batch:
                self.asked.append(request.id)
                if any(part in request.id for part in self.fail):
                    yield Completion(request.id, "", error="it refused")
                else:
                    yield Completion(request.id, f"word{seed_of(request.text, request.seed) % 7}", True, 5, 1)


class FirstWords(Judge):
    """word0 to word2 are right."""

    def score(self, prediction, answers):
        return float(prediction in ("word0", "word1", "word2"))


def world_build(folder, **options):
    """A build over eleven questions of the synthetic world, its answers scripted."""
    recipe = SoLoPORecipe(
        RequestTemplate("{question}"), Decoding(1.0), 4, FirstWords(), short_tokens=40, long_tokens=100
    )
    settings = {
        "source": WorldQuestions(count=11, facts=30),
        "recipe": recipe,
        "generator": Scripted(),
        "verifiers": (GoldAnswer(FirstWords()), ModelJudge()),
        "window": 4,
    }
    return Build(policy=PolicyConfig(template=TEMPLATE), output=folder, **{**settings, **options})
