"""The kinds of arrays that offline code passes around, each named once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BoolArray = NDArray[np.bool_]
Float64Array = NDArray[np.float64]
#: Floating point of any width.
Floating = NDArray[np.floating]
