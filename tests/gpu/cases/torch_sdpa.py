# SPDX-License-Identifier: MIT
# Every backend of scaled_dot_product_attention, forwards and backwards; what a backend refuses natively it says so.
# needs: torch
import warnings

from support import deterministic_torch, show

torch = deterministic_torch()
from torch.nn.attention import SDPBackend, sdpa_kernel  # noqa: E402
from torch.nn.functional import scaled_dot_product_attention  # noqa: E402

warnings.simplefilter("ignore")
for backend in (SDPBackend.MATH, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.CUDNN_ATTENTION):
    for kind in (torch.float16, torch.bfloat16, torch.float32):
        for causal in (False, True):
            generator = torch.Generator().manual_seed(3)
            q, k, v = (torch.randn(2, 8, 256, 64, generator=generator).to("cuda", kind).requires_grad_() for _ in "qkv")
            label = f"{backend.name} {kind} {'causal' if causal else 'full'}"
            try:
                with sdpa_kernel(backend):
                    y = scaled_dot_product_attention(q, k, v, is_causal=causal)
                    y.sum().backward()
                show(label, y, q.grad, k.grad, v.grad)
            except RuntimeError as error:
                show(label, str(error).splitlines()[0])
torch.manual_seed(5)
q = torch.randn(1, 4, 64, 32, device="cuda", dtype=torch.bfloat16)
show("dropout", scaled_dot_product_attention(q, q, q, dropout_p=0.25))
