"""Ways to serve a long conversation that SOMA is compared with; one file per baseline."""
