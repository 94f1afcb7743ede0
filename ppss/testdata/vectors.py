#!/usr/bin/env python3
"""Writes the vectors of package ppss from an implementation of its own.

It shares no code with the package: Python's hmac, and the cryptography module
(46 or later) for AES-GCM, Ed25519 and Argon2id. The OPRF vectors are those of
RFC 9497, appendix A.3.1, copied.  Run it in this folder; what it writes must
not change, for records in the world depend on it.
"""

import hashlib
import hmac
import unicodedata

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

FLEET, ACCOUNT, EPOCH = bytes(range(16)), b"anna@example.org", bytes(range(0x40, 0x50))


def seed(name, size=32):
    return hashlib.shake_256(b"coffer ppss vectors: " + name.encode()).digest(size)


def frame(label, *fields):
    return b"".join(len(f).to_bytes(4, "big") + f for f in (label.encode(),) + fields)


def derive(secret, label, *fields):
    prk = hmac.digest(bytes(32), secret, "sha256")
    return hmac.digest(prk, frame(label, *fields) + b"\x01", "sha256")


def mul(a, b):
    p = 0
    while b:
        if b & 1:
            p ^= a
        a <<= 1
        if a & 0x100:
            a ^= 0x11B
        b >>= 1
    return p


def share(coeffs, x):
    out = bytearray(32)
    power = 1
    for c in coeffs:
        for j in range(32):
            out[j] ^= mul(c[j], power)
        power = mul(power, x)
    return bytes(out)


def xor(a, b):
    return bytes(x ^ y for x, y in zip(a, b))


def envelope(secret, key, header, nonce):
    head = b"\x01" + derive(secret, "coffer ppss 1 commit", header)
    k = derive(secret, "coffer ppss 1 encrypt", header)
    return head + nonce + AESGCM(k).encrypt(nonce, key, head + header)


def public(secret, header):
    k = Ed25519PrivateKey.from_private_bytes(derive(secret, "coffer ppss 1 sign", header))
    return k.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def stretch(password, salt, fleet, account, t, m, p):
    bound = hashlib.sha256(frame("coffer ppss 1 salt", salt, fleet, account)).digest()
    plain = unicodedata.normalize("NFKC", password).encode()
    return Argon2id(salt=bound, length=32, iterations=t, lanes=p, memory_cost=m).derive(plain)


def write(name, blocks):
    with open(f"vectors/{name}.txt", "w") as f:
        for n, block in enumerate(blocks):
            if n:
                f.write("\n")
            for k, v in block.items():
                f.write(f"{k}: {v.hex() if isinstance(v, bytes) else v}\n")


def main():
    pwh = seed("pwh")
    write("input", [
        dict(fleet=FLEET, account=ACCOUNT, epoch=EPOCH, pwh=pwh, input=frame("coffer ppss 1 input", FLEET, ACCOUNT, EPOCH, pwh)),
        dict(fleet=b"", account=b"", epoch=b"", pwh=bytes(32), input=frame("coffer ppss 1 input", b"", b"", b"", bytes(32))),
    ])

    rho = seed("rho")
    write("mask", [
        dict(rho=rho, node=n, epoch=e, mask=derive(rho, "coffer ppss 1 mask", n, e))
        for n, e in ((b"node-1", EPOCH), (b"node-2", EPOCH), (b"node-1", bytes(16)), (b"", b""))
    ])

    blocks = []
    for n, t in ((1, 1), (3, 2), (5, 3), (7, 4), (7, 7)):
        coeffs = [seed(f"coefficient {n} {t} {i}") for i in range(t)]
        b = dict(n=n, t=t, coefficients=b"".join(coeffs))
        b["shares"] = b"".join(share(coeffs, x) for x in range(1, n + 1))
        blocks.append(b)
    write("shamir", blocks)

    secret, key, header, nonce = seed("secret"), seed("key"), seed("header", 77), seed("nonce", 12)
    env = envelope(secret, key, header, nonce)

    def flip(b, i):
        return b[:i] + bytes([b[i] ^ 1]) + b[i + 1:]

    write("envelope", [
        dict(expect="ok", secret=secret, key=key, header=header, nonce=nonce, envelope=env),
        dict(expect="ok", secret=secret, key=key, header=b"", nonce=nonce, envelope=envelope(secret, key, b"", nonce)),
        dict(comment="another secret", expect="secret", secret=flip(secret, 0), header=header, envelope=env),
        dict(comment="another header", expect="secret", secret=secret, header=flip(header, 76), envelope=env),
        dict(comment="header cut", expect="secret", secret=secret, header=header[:-1], envelope=env),
        dict(comment="commitment changed", expect="secret", secret=secret, header=header, envelope=flip(env, 32)),
        dict(comment="nonce changed", expect="envelope", secret=secret, header=header, envelope=flip(env, 33)),
        dict(comment="ciphertext changed", expect="envelope", secret=secret, header=header, envelope=flip(env, 45)),
        dict(comment="tag changed", expect="envelope", secret=secret, header=header, envelope=flip(env, 92)),
        dict(comment="version 0", expect="envelope", secret=secret, header=header, envelope=flip(env, 0)),
        dict(comment="cut", expect="envelope", secret=secret, header=header, envelope=env[:-1]),
        dict(comment="longer", expect="envelope", secret=secret, header=header, envelope=env + b"\x00"),
        dict(comment="empty", expect="envelope", secret=secret, header=header, envelope=b""),
    ])
    write("sign", [dict(secret=secret, header=header, public=public(secret, header)), dict(secret=secret, header=b"", public=public(secret, b""))])

    salt = seed("salt", 16)
    cases = [("correct horse", 1, 64, 1), ("correct horse", 3, 65536, 4), ("\u017fuper \uff11\uff12\uff13 \u00e9", 2, 256, 2), ("super 123 e\u0301", 2, 256, 2)]
    write("stretch", [
        dict(password=pw.encode(), salt=salt, fleet=FLEET, account=ACCOUNT, time=t, memory=m, threads=p, pwh=stretch(pw, salt, FLEET, ACCOUNT, t, m, p))
        for pw, t, m, p in cases
    ])

    blocks = []
    for n, t, lies, missing, expect in (
        (1, 1, (), (), "ok"), (3, 2, (), (), "ok"), (3, 2, (), (1,), "ok"), (3, 2, (0,), (), "ok"), (5, 3, (0, 4), (), "ok"),
        (5, 3, (2,), (3,), "ok"), (7, 4, (0, 1, 2), (), "ok"), (7, 4, (6,), (0, 3), "ok"),
        (3, 2, (0, 1), (), "secret"), (5, 3, (0,), (1, 2), "secret"), (5, 3, (), (0, 1, 2), "secret"), (1, 1, (0,), (), "secret"),
    ):
        name = f"recover {n} {t} {lies} {missing}"
        coeffs = [seed(f"{name} {i}") for i in range(t)]
        b = dict(expect=expect, t=t, header=header, epoch=EPOCH, envelope=envelope(coeffs[0], key, header, nonce))
        for i in range(n):
            if i in missing:
                continue
            node, rho = f"node-{i}".encode(), seed(f"{name} rho {i}")
            masked = xor(share(coeffs, i + 1), derive(rho, "coffer ppss 1 mask", node, EPOCH))
            b[f"answer {i}"] = node + b"\x00" + masked + (flip(rho, 31) if i in lies else rho)
        if expect == "ok":
            b.update(key=key, public=public(coeffs[0], header), lied=" ".join(str(i) for i in lies))
        blocks.append(b)
    write("recover", blocks)


main()
