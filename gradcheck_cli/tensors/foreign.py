"""Files that are recognised and not read, and what to do with each."""

from __future__ import annotations

from gradcheck_cli.tensors.source import Source

_CONVERT = "python -c \"import torch, numpy; numpy.save('x.npy', torch.load('x.pt').float().numpy())\""
PICKLE = f"a pickle, which is never loaded because loading runs code; convert it: {_CONVERT}"

_PICKLES = tuple(b"\x80" + bytes((protocol,)) for protocol in (2, 3, 4, 5))
_REFUSED = (
    *((magic, PICKLE) for magic in _PICKLES),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file, which is not read; save the array with numpy.save"),
    (b"PAR1", "a Parquet file, which is not read; save the array with numpy.save"),
    (b"ARROW1", "an Arrow file, which is not read; save the array with numpy.save"),
    (b"MATLAB 5.0", "a MATLAB file, which is not read; save the array with numpy.save"),
    (b"GGUF", "a GGUF file, which is not read; save the array with numpy.save"),
    (b"BZh", "compressed with bzip2; unpack it first"),
    (b"\xfd7zXZ", "compressed with xz; unpack it first"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd; unpack it first"),
)


def refuse_foreign(source: Source, head: bytes) -> None:
    """Refuse a file that begins as something known that is not read."""
    for magic, reason in _REFUSED:
        if head.startswith(magic):
            source.refuse(reason)
