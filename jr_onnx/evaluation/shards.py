"""How samples are dealt out: in shards of a fixed size, with seeds of their own, so that the number of workers does not
show in the result."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

#: Samples a shard. The last bits of a matrix product depend on how many rows are in it, so this is no option.
SIZE = 32


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


def shards(samples: int) -> tuple[Shard, ...]:
    """All samples in shards, in order."""
    starts = range(0, samples, SIZE)
    return tuple(Shard(number, start, min(start + SIZE, samples)) for number, start in enumerate(starts))


def sample_seeds(seed: int, stream: int, samples: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """A seed for each sample, which depends on nothing but the arguments.

    Args:
        seed: the user's, >= 0.
        stream: tells apart what else draws numbers for the same sample (the attack and the eps), >= 0.
        samples: indices of samples in the whole data, [n].

    Returns:
        [n] uint64, by NumPy's SeedSequence, which keeps streams of neighbouring numbers apart.
    """
    drawn = [np.random.SeedSequence((seed, stream, int(sample))).generate_state(1, np.uint64)[0] for sample in samples]
    return np.array(drawn, np.uint64)
