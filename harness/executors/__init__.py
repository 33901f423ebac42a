"""Where the units of a plan are served: by this process (`harness.runner`), or by a cluster's."""
