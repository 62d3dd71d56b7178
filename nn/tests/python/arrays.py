"""Writes arrays of all number types, as npy files and as one safetensors file, into a directory.

    python arrays.py DIRECTORY

It needs the packages numpy and safetensors. The elements are those of ARRAYS in `tests/python.rs`.
"""

import json
import struct
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save

ARRAYS = {
    "bool": [1, 0, 1, 0, 1, 0],
    "uint8": [0, 1, 2, 3, 254, 255],
    "int8": [-128, -1, 0, 1, 126, 127],
    "uint16": [0, 1, 255, 256, 65534, 65535],
    "int16": [-32768, -256, -1, 0, 255, 32767],
    "uint32": [0, 1, 256, 65536, 4294967294, 4294967295],
    "int32": [-2147483648, -65536, -1, 0, 1, 2147483647],
    "uint64": [0, 1, 256, 65536, 4294967296, 4503599627370496],
    "int64": [-4503599627370496, -65536, -1, 0, 1, 4294967296],
    "float16": [-65504, -0.5, 0, 6e-8, 0.1, 65504],
    "float32": [np.finfo(np.float32).min, -0.5, 0, 1e-45, 0.1, 16777216],
    "float64": [np.finfo(np.float64).min, -0.5, 0, 5e-324, 0.1, 1e300],
}
# NumPy has no bfloat16: it is the upper half of a float32
BFLOAT16 = [-1.0, -0.5, 0.0, 0.10009765625, 3.3895313892515355e38, 2.0]


def with_bfloat16(file):
    """A safetensors file with one more tensor."""
    (length,) = struct.unpack("<Q", file[:8])
    header, data = json.loads(file[8 : 8 + length]), file[8 + length :]
    half = (np.array(BFLOAT16, dtype="<f4").view("<u4") >> 16).astype("<u2").tobytes()
    offsets = [len(data), len(data) + len(half)]
    header["bfloat16"] = {"dtype": "BF16", "shape": [2, 3], "data_offsets": offsets}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data + half


def main(directory):
    arrays = {name: np.array(values, dtype=name).reshape(2, 3) for name, values in ARRAYS.items()}
    (directory / "arrays.safetensors").write_bytes(with_bfloat16(save(arrays)))
    arrays["float32_fortran"] = np.asfortranarray(np.arange(6, dtype="<f4").reshape(2, 3))
    arrays["int32_big_endian"] = np.array([[0, -1, 2], [-3, 4, -5]], dtype=">i4")
    arrays["scalar"] = np.array(7, dtype="i2")
    for name, array in arrays.items():
        np.save(directory / f"{name}.npy", array)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
