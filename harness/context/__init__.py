"""Does a turn need what was said before it? A filter for dialogues whose turns do."""
