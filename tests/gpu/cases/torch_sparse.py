# SPDX-License-Identifier: MIT
# Sparse matrices in COO, CSR and BSR through cuSPARSE. The values are small integers, so that sums are exact in any order.
# needs: torch
import warnings

from support import deterministic_torch, show

torch = deterministic_torch()
torch.use_deterministic_algorithms(False)
warnings.simplefilter("ignore")
generator = torch.Generator().manual_seed(12)
for kind in (torch.float32, torch.float64):
    dense = torch.randint(-3, 4, (200, 300), generator=generator).to(kind) * (torch.rand(200, 300, generator=generator) < 0.1)
    right = torch.randint(-3, 4, (300, 64), generator=generator).to(kind).cuda()
    coo = dense.cuda().to_sparse()
    csr = dense.cuda().to_sparse_csr()
    show(f"{kind} nonzeros", coo._nnz(), coo.coalesce().indices(), csr.crow_indices(), csr.col_indices())
    show(f"{kind} mm", torch.sparse.mm(coo, right), csr @ right, csr @ right[:, 0])
    show(f"{kind} product", (coo @ coo.t()).to_dense(), (csr @ csr.t().to_sparse_csr()).to_dense())
    show(f"{kind} sum", torch.sparse.sum(coo, dim=0).to_dense(), (coo + coo).to_dense())
    show(f"{kind} addmm", torch.sparse.addmm(torch.ones(200, 64, device="cuda", dtype=kind), coo, right))
    bsr = dense[:, :288].cuda().to_sparse_bsr((8, 8))
    show(f"{kind} bsr", bsr.values(), bsr.col_indices(), bsr.to_dense())
    weight = dense.cuda().to_sparse().requires_grad_()
    torch.sparse.mm(weight, right).sum().backward()
    show(f"{kind} gradient", weight.grad.to_dense())
embedding = torch.nn.EmbeddingBag(50, 8, mode="sum", sparse=True).cuda()
with torch.no_grad():
    embedding.weight.copy_(torch.arange(400).reshape(50, 8))
embedding(torch.tensor([[1, 2, 3], [4, 4, 9]], device="cuda")).sum().backward()
show("embedding", embedding.weight.grad.coalesce().indices(), embedding.weight.grad.to_dense())
