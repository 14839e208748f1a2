"""Which container a file is, told by its content and never by its name."""

from __future__ import annotations

from collections.abc import Callable

from gradcheck_cli.tensors.npy import MAGIC as NPY_MAGIC
from gradcheck_cli.tensors.npy import open_npy
from gradcheck_cli.tensors.source import Source, open_source
from gradcheck_cli.tensors.tensor import Tensor

Opener = Callable[[Source, str], Tensor]

_CONVERT = "python -c \"import torch, numpy; numpy.save('x.npy', torch.load('x.pt').float().numpy())\""
_PICKLE = f"a pickle, which is never loaded because loading runs code; convert it: {_CONVERT}"
_REFUSED = (
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file, which is not read; save the array with numpy.save"),
    (b"PAR1", "a Parquet file, which is not read; save the array with numpy.save"),
    (b"ARROW1", "an Arrow file, which is not read; save the array with numpy.save"),
    (b"MATLAB 5.0", "a MATLAB file, which is not read; save the array with numpy.save"),
    (b"BZh", "compressed with bzip2; unpack it first"),
    (b"\xfd7zXZ", "compressed with xz; unpack it first"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd; unpack it first"),
)


def open_tensor(path: str, *, role: str) -> Tensor:
    """Open a tensor file for the part it plays (logits, labels, grad, ...) in a check."""
    source = open_source(path)
    try:
        return _opener(source)(source, role)
    except BaseException:
        source.close()
        raise


def _opener(source: Source) -> Opener:
    """Return what reads this content. A new container is one module and one line here."""
    head = source.head(512)
    if not head:
        source.refuse("is empty (0 bytes)")
    if head.startswith(NPY_MAGIC[: len(head)]):
        return open_npy
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        source.refuse(_zip_reason(head))
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        source.refuse(_PICKLE)
    if _is_safetensors(source, head):
        source.refuse("a safetensors file, which is not read yet; save each tensor with numpy.save")
    for magic, reason in _REFUSED:
        if head.startswith(magic):
            source.refuse(reason)
    if source.path.lower().endswith(".npy"):
        source.refuse(f"not an NPY file ({source.size} bytes): it does not begin with the NPY signature")
    from gradcheck_cli.tensors.text import open_text  # noqa: PLC0415 - slow to import, and most are NPY

    return open_text


def _zip_reason(head: bytes) -> str:
    name = head[30 : 30 + int.from_bytes(head[26:28], "little")]
    if name.endswith((b".npy", b".npz")):
        return "an NPZ archive, which is not read yet; save each array with numpy.save"
    if name.endswith((b".pkl", b"/version", b".format_version", b"/byteorder")):
        return f"a PyTorch file: {_PICKLE}"
    return "a zip archive; unpack it first"


def _is_safetensors(source: Source, head: bytes) -> bool:
    return 2 <= int.from_bytes(head[:8], "little") <= source.size - 8 and head[8:9] == b"{"
