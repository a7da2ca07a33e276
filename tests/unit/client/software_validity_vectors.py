#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# A second implementation of the software-validity digest, written from its description (66-byte state, byte offsets
# as given there) and not from client/software_validity.cpp. Prints the vectors of software_validity_test.cpp; the test
# runs it and compares.
import struct

S = bytes.fromhex("""
292e43c9a2d87c013d3654a1ecf00613 62a705f3c0c7738c98932bd9bc4c82ca 1e9b573cfdd4e01667426f188a17e512
be4ec4d6da9ede49a0fbf58ebb2fee7a a968799115b2073f94c210890b225f21 807f5d9a5a903227353ecce7bff79703
ff1930b348a5b5d1d75e922aac56aac6 4fb838d296a47db676fc6be29c7404f1 459d705964718720865bcf65e62da802
1b6025adaeb0b9f61c46616934407e0f 5547a323dd51af3ac35cf9cebac5ea26 2c530d6e85288409d3dfcdf441814d52
6adc37c86cc1abfa24e17b080cbdb14a 7888958be363e86de9cbd5fe3b001d39 f2efb70e6658d0e4a67772f8eb754b0a
314450b48fed1f1adb998d339f118314""".replace("\n", " "))
K = bytes.fromhex("146addae53a9a752aa0841360bf55a9f")


def mix(st):
    t = 0x29
    for r in range(18):
        for k in range(48):
            t = (t ^ st[0]) if k == 0 else (st[k] ^ S[t])
            st[k] = t
        t = (t + r) & 0xff
        if r != 17:
            t = S[t]


def feed(st, data):
    for b in data:
        i = st[64]
        st[16 + i] = b
        st[32 + i] = st[i] ^ b
        c = S[b ^ st[65]] ^ st[48 + i]
        st[48 + i] = st[65] = c
        st[64] = (i + 1) % 16
        if st[64] == 0:
            mix(st)


def finish(st):
    p = 16 - st[64]
    feed(st, bytes([p]) * p)
    for i in range(48, 64):
        feed(st, bytes([st[i]]))
    return bytes(st[0:16])


def digest(record, devices):
    st = bytearray(66)
    feed(st, bytes(k ^ 0x36 for k in K))
    feed(st, record)
    for device in devices:
        feed(st, device)
    inner = finish(st)
    st[0:16] = bytes(16)
    st[48:66] = bytes(18)
    feed(st, bytes(k ^ 0x5c for k in K))
    feed(st, inner)
    return finish(st)


# driver version, version, pid, thread, three addresses, seconds; devices by number
CASES = [
    ((13000, 13002, 4242, 0xf7d8a740, 0x7f0012345000, 0x7f0012346080, 0x7f0012340010, 1764000000), 1),
    ((13000, 12089, 1, 0, 0, 0, 0, 0), 0),
    ((12090, 2, 0xffffffff, 0xffffffff, 2**64 - 1, 2**64 - 8, 0x5555, 2**63 + 5), 8),
    ((13000, 13003, 77777, 0x12345678, 0x7fffdeadbeef, 0x55550000cafe, 0x7fffdead0000, 1), 3),
]


def device(n):
    return bytes((17 * n + 3 * i) & 0xff for i in range(16)) + struct.pack("<iii", n // 4, 0x40 + n, -n)


for numbers, count in CASES:
    answer = struct.unpack("<QQ", digest(struct.pack("<IIIIQQQQ", *numbers), [device(n) for n in range(count)]))
    print(*(f"{value:x}" for value in numbers), count, *(f"{word:016x}" for word in answer))
