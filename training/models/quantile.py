"""The polynomials of the inverse normal distribution function; it needs no torch.

Source: Giles 2011, "Approximating the erfinv function", GPU Computing Gems vol. 2, table 1 (single
precision).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

TAIL_FROM: Final = 5.0
"""The least -log(4 u (1 - u)) of a uniform u for which `TAIL` holds."""
# fmt: off
CENTRAL: Final = (
    2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087, -0.00125372503,
    -0.00417768164, 0.246640727, 1.50140941,
)
TAIL: Final = (
    -0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773, -0.0076224613,
    0.00943887047, 1.00167406, 2.83297682,
)
# fmt: on


def polynomial(values: Any, coefficients: Sequence[float]) -> Any:
    """Evaluate a polynomial of tensors by Horner's scheme; the coefficient of the highest power is first."""
    result: Any = coefficients[0]
    for coefficient in coefficients[1:]:
        result = coefficient + result * values
    return result
