"""The language model that is trained, its reference and its prompts."""

from lit_longpo.policy.adapters.lora import LoRA
from lit_longpo.policy.loading import PolicyConfig
from lit_longpo.policy.prompts.prompt_template import PromptTemplate
from lit_longpo.policy.prompts.prompting import PromptFormat
from lit_longpo.policy.reference.config import ReferenceConfig
from lit_longpo.policy.rope import RoPE
from lit_longpo.policy.weights import Quantization

__all__ = ["LoRA", "PolicyConfig", "PromptFormat", "PromptTemplate", "Quantization", "ReferenceConfig", "RoPE"]
