"""What trainers of tests have in common: they run on the CPU, and show and log nothing."""

QUIET_CPU = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}
