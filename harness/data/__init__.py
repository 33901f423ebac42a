"""Reading datasets as published: compressed files, records with their places, dialogues."""
