import numpy as np
from numpy.typing import NDArray

def mfcc(signal: NDArray[np.int16], samplerate: int = ...) -> NDArray[np.float64]: ...
