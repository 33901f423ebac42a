"""Tasks: one file per dataset. `data/` holds the small ones written for this project."""
