"""Preference pairs built from raw text with a model."""

from data_modules.builders.build import Build
from data_modules.builders.checks.decontamination import Decontamination
from data_modules.builders.checks.verifiers import GoldAnswer, LogProbGap, ModelJudge
from data_modules.builders.generators.requests import Decoding, RequestTemplate
from data_modules.builders.generators.server import ServerGenerator
from data_modules.builders.generators.transformers import TransformersGenerator
from data_modules.builders.generators.vllm import VLLMGenerator
from data_modules.builders.recipes.chunk_scores import SpacyEntities, WordOverlap
from data_modules.builders.recipes.filters import Copy, Refusal, Repetition, TooShort
from data_modules.builders.recipes.judges import ContainsGold, TokenF1
from data_modules.builders.recipes.logo import LOGORecipe
from data_modules.builders.recipes.longpo import LongPORecipe
from data_modules.builders.recipes.questions import Cloze, SelfInstruct
from data_modules.builders.recipes.solopo import SoLoPORecipe
from data_modules.builders.sources.chunking import Chunking
from data_modules.builders.sources.documents import DocumentFiles
from data_modules.builders.sources.qa_files import QAFiles
from data_modules.builders.sources.worlds import WorldDocuments, WorldQuestions

__all__ = [
    "Build",
    "Chunking",
    "Cloze",
    "ContainsGold",
    "Copy",
    "Decoding",
    "Decontamination",
    "DocumentFiles",
    "GoldAnswer",
    "LOGORecipe",
    "LogProbGap",
    "LongPORecipe",
    "ModelJudge",
    "QAFiles",
    "Refusal",
    "Repetition",
    "RequestTemplate",
    "SelfInstruct",
    "ServerGenerator",
    "SoLoPORecipe",
    "SpacyEntities",
    "TokenF1",
    "TooShort",
    "TransformersGenerator",
    "VLLMGenerator",
    "WordOverlap",
    "WorldDocuments",
    "WorldQuestions",
]
