"""Two or three command lines for each command, shown below its options where a terminal stops."""

EXAMPLES = {
    "fit": """
      python -m lit_longpo fit --config solopo
          the tiny embedded model on embedded data: offline, three minutes
      python -m lit_longpo fit --config dpo --data data/pairs --data.path my_pairs.jsonl \\
          --policy.source FOLDER_OR_HUB_NAME --optimization.optimizer.lr 1e-6
          your model on your pairs
      python -m lit_longpo fit --config my.yaml --config overlays/deepspeed_zero3 --trainer.devices 8
          your recipe, and an overlay of ours on top
    """,
    "validate": """
      python -m lit_longpo validate --config dpo --ckpt_path runs/lightning_logs/version_0/checkpoints/last.ckpt
          loss and rewards of a checkpoint
      python -m lit_longpo validate --config my.yaml --trainer.limit_val_batches 10
          of the untrained policy, on ten batches
    """,
    "test": """
      python -m lit_longpo test --config dpo --ckpt_path runs/lightning_logs/version_0/checkpoints/last.ckpt
          loss and rewards of a checkpoint
      python -m lit_longpo test --config my.yaml --ckpt_path last
          of the newest checkpoint of this objective and policy
    """,
    "build": """
      python -m lit_longpo build --config solopo
          SoLoPO's pairs from the embedded world: offline, under a minute
      python -m lit_longpo build --config build/solopo_smollm2 --source.paths '[my_questions.jsonl]' --dry_run
          three prompts of a real model, and what the build will cost
    """,
    "plan": """
      python -m lit_longpo plan --config paper/longpo_mistral7b_128k --trainer.devices 8
          memory of each device, FLOPs, the longest context, settings that cancel each other
      python -m lit_longpo plan --config my.yaml --device_memory_gib 24 --json plan.json
          your recipe on smaller devices, and the plan as a file
    """,
    "evaluate": """
      python -m lit_longpo evaluate --config needle --model FOLDER_OR_HUB_NAME --output runs/eval/needle
          needles in haystacks by length and depth
      python -m lit_longpo evaluate --benchmark my_file.MyBenchmark --model FOLDER --output runs/eval/mine
          a benchmark of your own
      python -m lit_longpo evaluate --compare before.json after.json
          two reports, with intervals
    """,
    "perplexity": """
      python -m lit_longpo perplexity --config perplexity --model FOLDER_OR_HUB_NAME --path books
          windows of 2K to 32K tokens over the .txt files of a folder
      python -m lit_longpo perplexity --model FOLDER --path book.txt --lengths '[1024, 4096]' --stride 1024 --output out
          every token of one book, at two lengths
    """,
    "ask": """
      python -m lit_longpo ask --model runs/lightning_logs/version_0 --document report.txt --question "Who signed it?"
          a run's model and what it started from, side by side
      python -m lit_longpo ask --model FOLDER --base HUB_NAME --document report.txt \\
          --question "Who signed it?" --answers "Ada Byron" "Max Born" --question "When?" --answers 1843 1926
          two models, and how much likelier each finds the first answer than the others
    """,
    "export": """
      python -m lit_longpo export --checkpoint runs/lightning_logs/version_0/checkpoints/last.ckpt --output my_model
          a folder that transformers loads, with a model card
      python -m lit_longpo export --checkpoint last.ckpt --output my_model --merge_adapters true
          LoRA adapters written into the weights
    """,
}
