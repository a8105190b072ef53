"""What answers requests: a model in this process, a server, vLLM."""
