"""Scorers: one file each. The class is the file's name in CamelCase; `base` is their interface."""
