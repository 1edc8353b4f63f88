"""How samples are dealt out: in shards whose size depends on nothing but the samples, with seeds of their own, so that
the number of workers does not show in the result."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

#: Samples a shard, at least and at most, and how many numbers are in them if that lets it choose. The last bits of a
#: matrix product depend on how many rows are in it, so this is no option.
_LEAST, _MOST, _NUMBERS = 8, 64, 1 << 20


@dataclass(frozen=True)
class Shard:
    """The samples start <= index < stop."""

    number: int
    start: int
    stop: int

    @property
    def samples(self) -> range:
        """The indices of its samples in the data."""
        return range(self.start, self.stop)


def shards(shape: tuple[int, ...]) -> tuple[Shard, ...]:
    """All samples in shards, in order; `shape` is [N, ...]."""
    size = min(_MOST, max(_LEAST, _NUMBERS // math.prod(shape[1:])))
    starts = range(0, shape[0], size)
    return tuple(Shard(number, start, min(start + size, shape[0])) for number, start in enumerate(starts))


def sample_seeds(seed: int, stream: int, samples: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """A seed for each sample, which depends on nothing but the arguments.

    Args:
        seed: the user's, >= 0.
        stream: tells apart what else draws numbers for the same sample: the attack, >= 0. It draws the same numbers at
            every eps.
        samples: indices of samples in the whole data, [n].

    Returns:
        [n] uint64, by NumPy's SeedSequence, which keeps streams of neighbouring numbers apart.
    """
    drawn = [np.random.SeedSequence((seed, stream, int(sample))).generate_state(1, np.uint64)[0] for sample in samples]
    return np.array(drawn, np.uint64)
