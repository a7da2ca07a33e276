# SPDX-License-Identifier: MIT
# Training a small GPT: autograd's threads, fused and foreach AdamW, bf16 autocast, fp16 with a GradScaler.
# needs: torch
# variant fused: fused float32
# variant foreach: foreach float32
# variant bf16: fused bfloat16
# variant amp: fused float16
import sys

from support import deterministic_torch, show

torch = deterministic_torch()
from support.gpt import GPT, batches, loss_of  # noqa: E402

how, kind = sys.argv[1:]
model = GPT().cuda()
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, **{how: True})
scaler = torch.amp.GradScaler("cuda", enabled=kind == "float16")
for step, tokens in enumerate(batches(40)):
    tokens = tokens.cuda(non_blocking=True)
    with torch.autocast("cuda", dtype=getattr(torch, kind), enabled=kind != "float32"):
        loss = loss_of(model, tokens)
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad(set_to_none=True)
    show("step", step, loss.item(), norm.item(), scaler.get_scale())
for name, parameter in model.named_parameters():
    show(name, parameter)
