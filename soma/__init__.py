"""The SOMA pipeline (arXiv 2605.11317), one stage a file; `methods/` strings the stages together.

In the order of the paper: `warm_start`, `soft_prompt`, `neighbours`, `objective`, `mining`,
`hardness`, `localization`, `gate`, `prefix`, `drift`.
"""
