"""The word-level tokenizer of the embedded model, made from the world's vocabulary.

`python -m data_modules.worlds.tokenizer FOLDER` writes it; the package ships the result.
"""

import string
import sys

from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from data_modules.worlds.world import vocabulary

_SPECIAL = ["<pad>", "<bos>", "<eos>", "<unk>"]


def build_tokenizer() -> PreTrainedTokenizerFast:
    """One token for every word of the world, every digit and every ASCII punctuation mark; texts begin with <bos>."""
    words = [*_SPECIAL, *string.punctuation, *string.digits, *vocabulary()]
    vocab = {word: number for number, word in enumerate(dict.fromkeys(words))}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Punctuation(),
            pre_tokenizers.Digits(individual_digits=True),
        ]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", vocab["<bos>"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>", unk_token="<unk>"
    )


if __name__ == "__main__":
    build_tokenizer().save_pretrained(sys.argv[1])
