# SPDX-License-Identifier: MIT
# Dense linear algebra: cuSOLVER, cuBLAS and MAGMA-less batches.
# needs: torch
from support import deterministic_torch, show

torch = deterministic_torch()
generator = torch.Generator().manual_seed(9)
for kind in (torch.float32, torch.float64, torch.complex64):
    a = torch.randn(96, 96, generator=generator, dtype=kind).cuda()
    b = torch.randn(96, 7, generator=generator, dtype=kind).cuda()
    definite = a @ a.mH + 96 * torch.eye(96, device="cuda", dtype=kind)
    show(f"{kind} matmul", a @ a)
    show(f"{kind} solve", torch.linalg.solve(a, b))
    show(f"{kind} cholesky", torch.linalg.cholesky(definite), torch.cholesky_solve(b, torch.linalg.cholesky(definite)))
    show(f"{kind} qr", *torch.linalg.qr(a))
    show(f"{kind} svd", *torch.linalg.svd(a))
    show(f"{kind} eigh", *torch.linalg.eigh(definite))
    show(f"{kind} lu", *torch.linalg.lu(a))
    show(f"{kind} inverse", torch.linalg.inv(a), torch.linalg.det(a))
    show(f"{kind} lstsq", torch.linalg.lstsq(a, b).solution)
    show(f"{kind} triangular", torch.linalg.solve_triangular(a.tril(), b, upper=False))
    batch = torch.randn(20, 12, 12, generator=generator, dtype=kind).cuda()
    show(f"{kind} batched", torch.linalg.solve(batch, batch.flip(0)), torch.linalg.svdvals(batch), torch.bmm(batch, batch))
    show(f"{kind} matrix_exp", torch.linalg.matrix_exp(a / 50))
show("half", (a.real.half() @ a.real.half()), (a.real.bfloat16() @ a.real.bfloat16()))
show("int8", torch._int_mm(torch.arange(64 * 64, device="cuda").reshape(64, 64).to(torch.int8),
                           torch.arange(64 * 64, device="cuda").reshape(64, 64).to(torch.int8)))
