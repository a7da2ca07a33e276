# SPDX-License-Identifier: MIT
# transformers: a randomly initialized Llama generates greedily, with a growing cache and in a batch with padding.
# needs: torch, transformers
# limit: 180
# variant float32: float32
# variant bf16: bfloat16
import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"
from support import deterministic_torch, show

torch = deterministic_torch()
from transformers import LlamaConfig, LlamaForCausalLM  # noqa: E402

config = LlamaConfig(vocab_size=1000, hidden_size=256, intermediate_size=688, num_hidden_layers=4, num_attention_heads=8,
                     num_key_value_heads=4, max_position_embeddings=512, pad_token_id=0, bos_token_id=1, eos_token_id=None)
model = LlamaForCausalLM(config).to("cuda", getattr(torch, sys.argv[1])).eval()
generator = torch.Generator().manual_seed(8)
prompt = torch.randint(2, 1000, (1, 12), generator=generator).cuda()
with torch.inference_mode():
    show("logits", model(prompt).logits)
    show("greedy", model.generate(prompt, max_new_tokens=60, do_sample=False).tolist())
    batch = torch.randint(2, 1000, (3, 9), generator=generator).cuda()
    mask = torch.ones_like(batch)
    mask[0, :4] = 0
    show("batch", model.generate(batch, attention_mask=mask, max_new_tokens=30, do_sample=False).tolist())
    torch.manual_seed(1)
    show("sampled", model.generate(prompt, max_new_tokens=30, do_sample=True, top_k=20, temperature=0.9).tolist())
model.train()
loss = model(prompt, labels=prompt).loss
loss.backward()
show("loss", loss.item(), model.model.embed_tokens.weight.grad)
