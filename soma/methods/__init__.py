"""SOMA and the baselines that are made of its parts; one file per method."""
