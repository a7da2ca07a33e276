#!/bin/bash
# SPDX-License-Identifier: MIT
# A day of ordinary programs; ordinary.py compares what it prints and how it ends with and without the shim in
# LD_PRELOAD. Nothing here may depend on time, pids or the environment.
export LC_ALL=C
set -u

section() { printf '\n== %s\n' "$1"; }

section files
mkdir -p a/b/c
for i in 1 2 3 4 5; do echo "line $i of file $((i * i))" > "a/b/f$i"; done
ln -s b/f1 a/link
cp -r a copy && mv copy/b/f5 copy/b/g5
ls -R a copy
cat a/b/f*
find a copy -type f | sort | xargs wc -c
stat -c '%F %s %A' a/b/f1
diff -r a copy; echo "diff $?"
head -c 20000 /dev/zero | od -A d -t x1 | tail -2
dd if=/dev/zero bs=1k count=8 2> /dev/null | sha256sum

section text
seq 1 1000 | awk '{ s += $1 } END { print s, NR }'
seq 1 50 | sed -n '10,12p; s/^4\(.\)$/<\1>/p'
printf 'b 2\na 10\nc 1\n' | sort -k2,2n | tee sorted | tr a-z A-Z
grep -c 'file' a/b/* ; grep missing a/b/*; echo "grep $?"
cut -d' ' -f2 a/b/f3 | paste - sorted; uniq -c sorted; comm -12 sorted sorted
echo 'x=1; y=2; x+y' | tr ';' '\n' | sed 's/ //g' | awk -F= 'NF==2 { v[$1]=$2 } END { print v["x"] + v["y"] }'

section archives
tar cf - a | tar tf - | sort
tar czf a.tgz a && mkdir out && tar xzf a.tgz -C out && diff -r a out/a && echo same
gzip -c a/b/f1 | gunzip | cmp - a/b/f1 && echo equal

section processes
(cd a && pwd | sed 's|.*/||'; exit 3); echo "subshell $?"
false | true | false; echo "pipe ${PIPESTATUS[*]}"
{ echo one; echo two >&2; } 2>&1 | sort
diff <(seq 1 3) <(seq 1 4); echo "substitution $?"
jobs=; for i in 1 2 3; do (exit $i) & jobs="$jobs $!"; done; for job in $jobs; do wait "$job"; echo "job $?"; done
seq 1 20 | xargs -n 1 -P 4 sh -c 'test $1 -gt 0 && echo ok' sh | sort | uniq -c | sed 's/^ *//'
bash -c 'exec -a renamed sh -c "echo \$0; exec cat"' <<< 'through two execs'
env -i /bin/sh -c 'echo "empty environment: ${HOME-unset}"'
sh -c 'echo $((6 * 7)); exit 42'; echo "status $?"
(ulimit -n 64; ls a | wc -l)
coproc cat; echo to and from >&"${COPROC[1]}"; exec {COPROC[1]}>&-; cat <&"${COPROC[0]}"; wait

section signals
sh -c 'trap "echo caught; exit 7" TERM; kill -TERM $$; echo not reached'; echo "trap $?"
{ sh -c 'kill -KILL $$'; } 2> /dev/null; echo "kill $?"
(trap '' PIPE; yes 2> /dev/null | head -1); echo "yes $?"
{ sleep 60 & kill $!; wait $!; } 2> /dev/null; echo "background $?"
timeout -s INT 0.2 sleep 60; echo "timeout $?"
trap 'echo usr1' USR1; kill -USR1 $$; trap - USR1

section python
python3 - <<'END'
import ctypes, errno, os, signal, subprocess, sys, threading, multiprocessing
print(sum(i * i for i in range(1000)), sys.getrecursionlimit())
total = []
threads = [threading.Thread(target=lambda n=n: total.append(n)) for n in range(8)]
[t.start() for t in threads]; [t.join() for t in threads]
print(sorted(total))
print(subprocess.run(["sh", "-c", "cat; exit 5"], input=b"piped", capture_output=True))
pid = os.fork()
if pid == 0:
    os.execv("/bin/echo", ["echo", "forked"])
print(os.waitpid(pid, 0)[1])
libc = ctypes.CDLL("libc.so.6", use_errno=True)
print(libc.close(-1), errno.errorcode[ctypes.get_errno()])
libm = ctypes.CDLL("libm.so.6"); libm.cos.restype = ctypes.c_double; print(libm.cos(ctypes.c_double(0)))
try:
    ctypes.CDLL("/nonexistent/libfoo.so")
except OSError as error:
    print(error)
signal.signal(signal.SIGALRM, lambda *_: print("alarm")); signal.setitimer(signal.ITIMER_REAL, 0.05); signal.pause()
with multiprocessing.get_context("fork").Pool(2) as pool:
    print(pool.map(abs, [-1, -2, 3]))
import hashlib, json, sqlite3, ssl, zlib
print(json.dumps({"crc": zlib.crc32(b"x"), "md5": hashlib.md5(b"x").hexdigest()}))
print(sqlite3.connect(":memory:").execute("select 1+1").fetchone())
END
echo "python $?"
python3 -c 'import sys; sys.exit(9)'; echo "exit $?"
python3 -c 'raise ValueError("on purpose")' 2>&1 | tail -1

section others
perl -e 'print join(",", map { $_ ** 2 } 1 .. 5), "\n"; open(F, "-|", "echo from perl") or die; print <F>'
printf 'all: b\n\t@echo made $^\nb:\n\t@echo making b\n' > Makefile && make -s
printf '#include <stdio.h>\nint main(void) { puts("compiled"); return 4; }\n' > c.c && gcc c.c -o c && ./c; echo "gcc $?"
git init -q repository && cd repository && git config user.email a@b && git config user.name c && echo x > x &&
    git add x && git commit -q -m first && git log --format=%s && cd ..
date -u -d @0 +%F; expr 2 + 3; test -d a && echo folder; basename /x/y.z .z; id -u > /dev/null && echo id
exit 6
