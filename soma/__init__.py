"""The SOMA pipeline: soft-prompt mining, localization, gate, drift and rollback."""
