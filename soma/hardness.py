"""Hardness r_t of the warm turns, and the weights omega_t that localization gives them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from soma.mining import Mined

Fidelity = Literal["paper", "released"]


def hardness(mined: Mined, fidelity: Fidelity) -> list[float]:
    """r_t of each warm turn, averaged over the kept prompts.

    "paper": mean token NLL of F's reply under G with the mined prompt, large where G fails to
    produce what F said. (The paper asks for that reading in words; the quantity is our choice.)
    "released": the final mining loss, mean_i w_i l_i, as the released code has it. That is large
    where G still gives mass to F's tokens, so it favors the turns on which G agrees with F.
    """
    values = mined.turn_nll if fidelity == "paper" else mined.turn_losses
    return [float(v) for v in values.mean(0)]


def turn_weights(hardnesses: Sequence[float]) -> list[float]:
    """omega_t proportional to r_t with mean 1; all 1 where no turn is hard."""
    total = sum(hardnesses)
    if total <= 0:
        return [1.0] * len(hardnesses)
    return [len(hardnesses) * value / total for value in hardnesses]
