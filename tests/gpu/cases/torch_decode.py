# SPDX-License-Identifier: MIT
# Greedy decoding, one .item() a token: thousands of small launches and copies back.
# needs: torch
from support import deterministic_torch, show

torch = deterministic_torch()
from support.gpt import GPT  # noqa: E402

model = GPT(layers=4).cuda().eval()
tokens = [1, 2, 3]
with torch.inference_mode():
    while len(tokens) < 120:
        logits = model(torch.tensor([tokens], device="cuda"))[0, -1]
        tokens.append(int(logits.argmax().item()))
        if len(tokens) % 20 == 0:
            show("logits", len(tokens), logits, logits.max().item())
show("tokens", tokens)
