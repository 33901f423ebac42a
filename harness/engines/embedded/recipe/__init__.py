"""How the embedded surrogate was made: prompts, F's replies, pruning, distillation, figures."""
