"""The engine room of the benchmark. It knows no method and no dataset by name."""

__version__ = "0.1.0"
