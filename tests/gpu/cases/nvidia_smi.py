# SPDX-License-Identifier: MIT
# nvidia-smi by its own word: the table, the list, queries. Clocks, loads, temperatures, times and processes vary.
# exclusive
# variant list: -L
# variant query: --query-gpu=index,name,uuid,pci.bus_id,driver_version,vbios_version,memory.total,compute_cap,pcie.link.width.max,power.max_limit,ecc.mode.current,mig.mode.current,persistence_mode,compute_mode,serial,gpu_bus_id,clocks.max.sm,clocks.max.memory --format=csv
# variant volatile: --query-gpu=temperature.gpu,utilization.gpu,memory.used,memory.free,power.draw,clocks.sm,fan.speed,pstate --format=csv,noheader,nounits
# variant apps: --query-compute-apps=pid,used_memory --format=csv
# variant table:
# variant full: -q
# variant version: --version
# variant topo: topo -m
# variant p2p: topo -p2p r
# variant near: topo -C -i 0
import re
import shutil
import subprocess
import sys

from support import show, skip

if not shutil.which("nvidia-smi"):
    skip("there is no nvidia-smi here")
words = sys.argv[1:]
answer = subprocess.run(["nvidia-smi", *words], capture_output=True, text=True)
text = answer.stdout
if words == ["-q"]:
    # The shape of the report: names of sections and fields; what they hold changes while one looks.
    text = "\n".join(line.split(":")[0].rstrip() for line in text.splitlines() if not re.match(r"\s+(Process|GPU instance|Compute instance|Type|Name|Used GPU Memory)\b", line))
elif not words:
    text = text.split("Processes:")[0]
    text = re.sub(r"\d{2}:\d{2}:\d{2}|\w{3} \w{3} +\d+ |\d+(C|W|MiB|%)|P\d\b", "#", text)
    text = re.sub(r"[ ]+", " ", text)
elif "temperature.gpu" in " ".join(words):
    text = re.sub(r"[\d.]+", "#", text)
elif "compute-apps" in words[0]:
    text = text.splitlines()[0] if text else ""
print(text)
print(re.sub(r"\b\d+\b", "#", answer.stderr) if answer.returncode else "")
show("status", answer.returncode)
