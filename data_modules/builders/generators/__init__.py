"""Text generators that answer a build's requests: a model in this process, a server, vLLM."""
