"""Preference pairs built from raw text with a model."""

from data_modules.builders.chunk_scores import SpacyEntities, WordOverlap
from data_modules.builders.chunking import Chunking
from data_modules.builders.decontamination import Decontamination
from data_modules.builders.filters import Copy, Refusal, Repetition, TooShort
from data_modules.builders.judging import SubEM, TokenF1
from data_modules.builders.local import TransformersGenerator
from data_modules.builders.logo import LOGORecipe
from data_modules.builders.longpo import LongPORecipe
from data_modules.builders.questions import Cloze, SelfInstruct
from data_modules.builders.requests import Decoding, Prompt
from data_modules.builders.running import Build
from data_modules.builders.server import ServerGenerator
from data_modules.builders.solopo import SoLoPORecipe
from data_modules.builders.sources import DocumentFiles, QAFiles, WorldDocuments, WorldQuestions
from data_modules.builders.verifying import GoldAnswer, LogProbGap, ModelJudge
from data_modules.builders.vllm_engine import VLLMGenerator

__all__ = [
    "Build",
    "Chunking",
    "Cloze",
    "Copy",
    "Decoding",
    "Decontamination",
    "DocumentFiles",
    "GoldAnswer",
    "LOGORecipe",
    "LogProbGap",
    "LongPORecipe",
    "ModelJudge",
    "Prompt",
    "QAFiles",
    "Refusal",
    "Repetition",
    "SelfInstruct",
    "ServerGenerator",
    "SoLoPORecipe",
    "SpacyEntities",
    "SubEM",
    "TokenF1",
    "TooShort",
    "TransformersGenerator",
    "VLLMGenerator",
    "WordOverlap",
    "WorldDocuments",
    "WorldQuestions",
]
