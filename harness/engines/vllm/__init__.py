"""The `vllm` engine: vLLM in this process, with an adapter for each session."""
