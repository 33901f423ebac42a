"""The in-process engine on torch and transformers: loading, batching, decoding."""
