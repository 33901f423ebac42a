"""Models that install from the package index: where they are, how the pair is built from them."""
