"""The exponential of a float32, for kernels that take one for every number of a large array.

numba calls the mathematics library once per number, and has vectors only where another library is installed. This is the usual reduction to half
an octave and a polynomial, all of it arithmetic that LLVM puts into lanes, to 2 units in the last place. Beyond where a float32 ends, the ends are
returned, so that nothing becomes infinite; what is not a number stays so.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from curate.kernels.compiled import contracted

LOWEST, HIGHEST = np.float32(-87.0), np.float32(88.0)
_LOG2E, _ONE = np.float32(1 / math.log(2)), np.float32(1)
_WHOLE = np.float32(1.5 * 2**23)  # added to a small number, rounds it to a whole one, which then is in the last bits
_LN2_HIGH = np.float32(round(math.log(2) * 2**12) / 2**12)  # few digits, so that its multiples are exact
_LN2_LOW = np.float32(math.log(2) - float(_LN2_HIGH))
_C2, _C3, _C4, _C5, _C6, _C7 = (np.float32(1 / math.factorial(n)) for n in range(2, 8))


def _code_of_power(_context: Any, _whole: Any) -> Any:
    """Give numba a function of a float32: 2 to the power of the number that stands in its last bits."""

    def code(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        bits = builder.bitcast(arguments[0], ir.IntType(32))
        exponent = builder.shl(bits, ir.Constant(ir.IntType(32), 23))
        return builder.bitcast(builder.add(exponent, ir.Constant(ir.IntType(32), 127 << 23)), ir.FloatType())

    return types.float32(types.float32), code


_power_of_two: Any = intrinsic(_code_of_power)


@contracted
def exponential(x: Any) -> Any:
    """Return e to the power of `x`, float32; of what is below LOWEST or above HIGHEST, that of these."""
    x = min(max(x, LOWEST), HIGHEST)
    whole = x * _LOG2E + _WHOLE
    octaves = whole - _WHOLE
    r = x - octaves * _LN2_HIGH - octaves * _LN2_LOW
    series = (((((_C7 * r + _C6) * r + _C5) * r + _C4) * r + _C3) * r + _C2) * r * r + r + _ONE
    return series * _power_of_two(whole)
