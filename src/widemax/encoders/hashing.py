"""64-bit hashes that are the same in every process, on every machine and in every release.

All arithmetic is modulo 2^64 on unsigned NumPy integers, which wrap silently.
"""

from functools import lru_cache
from hashlib import blake2b

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

UInt64 = npt.NDArray[np.uint64]

BASE = 0x9E3779B97F4A7C15
_MODULUS = 1 << 64


@lru_cache(maxsize=256)
def salt(*words: str) -> int:
    """A 64-bit number for the given words, so that what differs in meaning differs in hash.

    Example:
        >>> hex(salt("title", "word"))
        '0x87e1c57d49daf85e'
    """
    text = "\0".join(words).encode()
    return int.from_bytes(blake2b(text, digest_size=8, person=b"widemax").digest(), "little")


def mix(keys: UInt64) -> UInt64:
    """The finisher of splitmix64, a bijection in which every input bit moves every output bit.

    Overwrites and returns ``keys``.

    Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014, Figure 16.
    """
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        keys ^= keys >> np.uint64(shift)
        keys *= np.uint64(factor)
    keys ^= keys >> np.uint64(31)
    return keys


@lru_cache(maxsize=8)
def _powers(base: int, length: int) -> UInt64:
    factors = np.full(length, base, dtype=np.uint64)
    factors[0] = 1
    return np.cumprod(factors, dtype=np.uint64)


def hash_spans(
    codes: npt.NDArray[np.integer], starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]
) -> UInt64:
    """One hash for each span ``codes[start:end]``; equal spans have equal hashes wherever they stand.

    h(c_0 … c_{n−1}) = mix(Σ_j c_j · BASE^(−j) + n) modulo 2^64. One prefix sum serves all spans; BASE is odd,
    hence has an inverse.

    Args:
        codes: non-negative integers, such as code points or bytes.
        starts: first position of each span.
        ends: position after the last of each span.

    Example:
        >>> codes = np.array([5, 7, 5, 7, 7])
        >>> first, second, third = hash_spans(codes, np.array([0, 2, 3]), np.array([2, 4, 5]))
        >>> bool(first == second), bool(second == third)
        (True, False)
    """
    # Tables of a few sizes only, so that the cache serves the next call as well.
    length = 1 << len(codes).bit_length()
    prefix = np.zeros(len(codes) + 1, dtype=np.uint64)
    prefix[1:] = codes
    prefix[1:] *= _powers(pow(BASE, -1, _MODULUS), length)[: len(codes)]
    np.cumsum(prefix, out=prefix)
    hashes = (prefix[ends] - prefix[starts]) * _powers(BASE, length)[starts]
    hashes += (ends - starts).astype(np.uint64)
    return mix(hashes)


def joined(strings: pa.Array, separator: str = "") -> bytes:
    """All strings (large_string, no null) as one, in UTF-8."""
    one_list = pa.LargeListArray.from_arrays(pa.array([0, len(strings)], pa.int64()), strings)
    return bytes(pc.binary_join(one_list, pa.scalar(separator, pa.large_string()))[0].as_buffer())


def _raw_keys(values: pa.Array) -> UInt64:
    if pa.types.is_integer(values.type):
        integers = values.fill_null(0).to_numpy(zero_copy_only=False)
        return np.asarray(integers, dtype=np.int64 if integers.dtype.kind == "i" else np.uint64).view(
            np.uint64
        )
    strings = values.cast(pa.large_string()).fill_null("")
    ends = np.cumsum(pc.binary_length(strings).to_numpy(zero_copy_only=False), dtype=np.int64)
    starts = np.concatenate(([0], ends[:-1])) if len(ends) else ends
    return hash_spans(np.frombuffer(joined(strings), dtype=np.uint8), starts, ends)


def stable_keys(values: pa.Array, *, salt: int) -> npt.NDArray[np.int64]:
    """One 64-bit key for each scalar; different integers never share one, strings practically never.

    Args:
        values: integers, Booleans, strings, or what else Arrow can write as a string. Null has its own key.
        salt: keys under different salts have nothing in common.

    Returns:
        Keys as int64, one for each value.

    Example:
        >>> stable_keys(pa.array(["red", "blue", "red"]), salt=1) % 1000
        array([401, 483, 401])
    """
    keys = mix(_raw_keys(values) ^ np.uint64(salt)).view(np.int64)
    if values.null_count:
        keys[pc.is_null(values).to_numpy(zero_copy_only=False)] = np.int64(-1)
    return keys
