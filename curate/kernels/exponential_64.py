"""The exponential of a float64, for kernels of laws; curate.kernels.exponential says how and why.

In a file of its own, since a change of that one trains proxies again.
"""

from __future__ import annotations

import math
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from curate.kernels.compiled import contracted

LOWEST, HIGHEST = -700.0, 700.0
_LOG2E = 1 / math.log(2)
_WHOLE = 1.5 * 2**52  # added to a small number, rounds it to a whole one, which then is in the last bits
_LN2_HIGH = round(math.log(2) * 2**32) / 2**32  # few digits, so that its multiples are exact
_LN2_LOW = float.fromhex("-0x1.718432a1b0e26p-35")  # log 2 less that, to 53 bits of its own
_C2, _C3, _C4, _C5, _C6, _C7, _C8, _C9, _C10, _C11, _C12, _C13 = (1 / math.factorial(n) for n in range(2, 14))


def _code_of_power(_context: Any, _whole: Any) -> Any:
    """Give numba a function of a float64: 2 to the power of the number that stands in its last bits."""

    def code(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        bits = builder.bitcast(arguments[0], ir.IntType(64))
        exponent = builder.shl(bits, ir.Constant(ir.IntType(64), 52))
        return builder.bitcast(builder.add(exponent, ir.Constant(ir.IntType(64), 1023 << 52)), ir.DoubleType())

    return types.float64(types.float64), code


_power_of_two: Any = intrinsic(_code_of_power)


@contracted
def exponential_64(x: Any) -> Any:
    """Return e to the power of `x`, float64; of what is below LOWEST or above HIGHEST, that of these."""
    x = min(max(x, LOWEST), HIGHEST)
    whole = x * _LOG2E + _WHOLE
    octaves = whole - _WHOLE
    r = x - octaves * _LN2_HIGH - octaves * _LN2_LOW
    high = (((((_C13 * r + _C12) * r + _C11) * r + _C10) * r + _C9) * r + _C8) * r + _C7
    series = ((((high * r + _C6) * r + _C5) * r + _C4) * r + _C3) * r + _C2
    return (series * r * r + r + 1.0) * _power_of_two(whole)
