"""Summaries, tables and figures: pure functions of a run folder."""
