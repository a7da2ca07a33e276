# SPDX-License-Identifier: MIT
"""What every case prints with: exact values in a line each, and the skip."""
import hashlib
import importlib
import os
import sys


def skip(reason):
    print(reason, flush=True)
    os._exit(77)


def need_modules():
    """Before anything else is imported: the modules of the case's `# needs:` line."""
    for name in filter(None, os.environ.get("CASE_NEEDS", "").split(",")):
        try:
            importlib.import_module(name)
        except ImportError as error:
            if name.split(".")[0] in str(error):
                skip(f"there is no {name} here ({error})")
            raise


def raw_bytes(value):
    """(description, bytes) of an array of any library."""
    if hasattr(value, "detach"):  # torch
        import torch
        tensor = value.detach()
        if tensor.layout != torch.strided:
            tensor = tensor.to_dense()
        tensor = tensor.cpu().contiguous()
        described = f"{str(tensor.dtype)[6:]}{list(tensor.shape)}"
        if tensor.is_complex():
            tensor = torch.view_as_real(tensor.resolve_conj()).contiguous()
        return described, tensor.reshape(-1).view(torch.uint8).numpy().tobytes()
    if hasattr(value, "get") and hasattr(value, "dtype"):  # cupy
        value = value.get()
    import numpy
    array = numpy.ascontiguousarray(numpy.asarray(value))
    return f"{array.dtype}{list(array.shape)}", array.tobytes()


def text(value):
    if isinstance(value, float):
        return value.hex()
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        described, data = raw_bytes(value)
        return f"{described}:{hashlib.sha256(data).hexdigest()[:16]}"
    return str(value)


def show(name, *values):
    print(name, *(text(value) for value in values), flush=True)


def deterministic_torch(seed=0):
    """torch with every nondeterministic operation refused, so that two native runs are identical to the bit."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import torch
    if not torch.cuda.is_available():
        print("torch.cuda.is_available() is False:", torch.cuda.device_count(), "devices", file=sys.stderr)
        sys.exit(1)
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    return torch


need_modules()
