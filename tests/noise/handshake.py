#!/usr/bin/env python3
"""Speaks syncd's handshake, frames and relay words with other people's code, and writes down every byte.

Noise comes from dissononce, X25519, Ed25519 and ChaCha20-Poly1305 from cryptography (OpenSSL), ML-KEM-768 from kyber-py:
nothing is shared with the Rust implementation but the specification (protocol/SPEC.md). The transcript is committed as
protocol/tests/data/handshake.json and replayed byte for byte by protocol/tests/transcript.rs.

To run it again, from the top of the repository:

    python3 -m venv /tmp/noise && /tmp/noise/bin/pip install -r tests/noise/requirements.txt
    /tmp/noise/bin/python tests/noise/handshake.py            # compares with the committed transcript
    /tmp/noise/bin/python tests/noise/handshake.py --write    # writes it
"""

import json
import pathlib
import struct
import sys

from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from dissononce.cipher.chachapoly import ChaChaPolyCipher
from dissononce.dh.x25519.private import PrivateKey
from dissononce.dh.x25519.public import PublicKey
from dissononce.dh.x25519.x25519 import X25519DH
from dissononce.hash.blake2s import Blake2sHash
from dissononce.processing.handshakepatterns.interactive.NK import NKHandshakePattern
from dissononce.processing.handshakepatterns.interactive.XX import XXHandshakePattern
from dissononce.processing.impl.cipherstate import CipherState
from dissononce.processing.impl.handshakestate import HandshakeState
from dissononce.processing.impl.symmetricstate import SymmetricState
from dissononce.processing.modifiers.psk import PSKPatternModifier
from kyber_py.ml_kem import ML_KEM_768

TRANSCRIPT = pathlib.Path(__file__).parents[2] / "protocol/tests/data/handshake.json"
NOW = 1_761_600_017
REKEY_NONCES = 65_536


def kdf(label, *parts):
    data = b"".join(struct.pack("<I", len(part)) + part for part in parts)
    return blake3(data, derive_key_context="syncd v1 " + label).digest()


def rtag(key, salt, window, extra, length):
    return blake3(salt + struct.pack(">Q", window) + extra, key=key).digest(length)


def raw(public_key):
    return public_key.public_bytes(Encoding.Raw, PublicFormat.Raw)


class Device:
    def __init__(self, seed):
        self.x_secret = kdf("id x25519", seed)
        self.x = raw(X25519PrivateKey.from_private_bytes(self.x_secret).public_key())
        self.ed = raw(Ed25519PrivateKey.from_private_bytes(kdf("id ed25519", seed)).public_key())
        self.id = kdf("device id", self.ed, self.x)


def pair_secret(own, their, shared):
    agreed = X25519PrivateKey.from_private_bytes(own.x_secret).exchange(X25519PublicKey.from_public_bytes(their.x))
    return kdf("pair", agreed, shared, min(own.id, their.id), max(own.id, their.id))


class FixedDH(X25519DH):
    """X25519 whose next ephemeral is given."""

    def __init__(self, ephemeral):
        super().__init__()
        self.ephemeral = ephemeral

    def generate_keypair(self, privatekey=None):
        return super().generate_keypair(privatekey or PrivateKey(self.ephemeral))


def noise_state(ephemeral):
    symmetric = SymmetricState(CipherState(ChaChaPolyCipher()), Blake2sHash())
    return HandshakeState(symmetric, FixedDH(ephemeral))


def xx(ephemeral, initiator, prologue, device, psk):
    # dissononce takes pre-shared keys in the order of use; the second is replaced once it is known.
    state = noise_state(ephemeral)
    pattern = PSKPatternModifier(3).modify(PSKPatternModifier(0).modify(XXHandshakePattern()))
    static = X25519DH().generate_keypair(PrivateKey(device.x_secret))
    state.initialize(pattern, initiator, prologue, s=static, psks=[psk, bytes(32)])
    assert state.protocol_name == "Noise_XXpsk0+psk3_25519_ChaChaPoly_BLAKE2s", state.protocol_name
    return state


def write(state, payload):
    message = bytearray()
    return state.write_message(payload, message), bytes(message)


def read(state, message):
    payload = bytearray()
    return state.read_message(message, payload), bytes(payload)


class Sealer:
    """Frames of one direction."""

    def __init__(self, cipher):
        self.cipher = cipher
        self.nonce = 0

    def encrypt(self, plain):
        if self.nonce > 0 and self.nonce % REKEY_NONCES == 0:
            # Noise, section 4.2. dissononce's own rekey keeps the tag in the key and resets the nonce.
            key = self.cipher.cipher.encrypt(self.cipher._key, 2**64 - 1, b"", bytes(32))[:32]
            self.cipher.initialize_key(key)
            self.cipher.set_nonce(self.nonce)
        self.nonce += 1
        return self.cipher.encrypt_with_ad(b"", plain)

    def seal(self, kind, flags, req, payload):
        size = 8 + len(payload)
        body_len = next(c for c in (256, 1024, 4096, 16_384, 65_519) if c >= size)
        padding = body_len - size
        body = struct.pack(">BBHI", kind, flags, padding, req) + payload + bytes(padding)
        return self.encrypt(struct.pack(">H", body_len)) + self.encrypt(body)


def counted(first, length):
    return bytes((first + 7 * i) % 256 for i in range(length))


def handshake(name, context, seed_a, seed_b, shared, random_i, random_r):
    a, b = Device(seed_a), Device(seed_b)
    if context == 0:
        secret = pair_secret(a, b, shared)
        assert secret == pair_secret(b, a, shared)
        direction = 0 if a.id < b.id else 1
    else:
        secret, direction = shared, 1  # the joiner dials
    salt = counted(0x90, 8)
    knock = salt + rtag(kdf("knock", secret, bytes([direction])), salt, NOW // 600, bytes([context]), 16)
    prologue = b"syncd/1\0" + bytes([context]) + knock + bytes(32)
    psk = kdf("noise psk0", secret)
    initiator = xx(random_i[:32], True, prologue, a, psk)
    responder = xx(random_r[:32], False, prologue, b, psk)

    ek, dk = ML_KEM_768._keygen_internal(random_i[32:64], random_i[64:96])
    nonce_i, nonce_r = random_i[96:], random_r[64:]
    commit = kdf("sas commit", nonce_i, a.id)
    _, message_1 = write(initiator, bytes([1, 1, 0, 0]) + ek + commit)
    _, payload_1 = read(responder, message_1)
    got_ek = payload_1[4:1188]
    kem_secret, ct = ML_KEM_768._encaps_internal(got_ek, random_r[32:64])
    _, message_2 = write(responder, bytes([1, 0, 0, 0]) + ct + nonce_r)
    h2 = responder._symmetricstate.get_handshake_hash()

    _, payload_2 = read(initiator, message_2)
    assert initiator.rs.data == b.x
    assert initiator._symmetricstate.get_handshake_hash() == h2
    got_ct = payload_2[4:1092]
    assert ML_KEM_768.decaps(dk, got_ct) == kem_secret
    psk3 = kdf("mlkem psk3", kem_secret, blake3(ek).digest(), blake3(ct).digest())
    initiator._psks, responder._psks = [psk3], [psk3]
    hello = counted(0x21, 16) + counted(0x42, 8) + struct.pack(">I", 2)
    to_b, message_3 = write(initiator, nonce_i + a.ed + hello + bytes(256 - 64 - 28))
    to_a, payload_3 = read(responder, message_3)
    assert responder.rs.data == a.x and payload_3[32:64] == a.ed
    assert kdf("sas commit", payload_3[:32], a.id) == payload_1[1188:]
    sas = struct.unpack(">Q", kdf("sas", h2, nonce_i, nonce_r, a.id)[:8])[0] % 1_000_000

    frames = []
    sealers = {"initiator": Sealer(to_b[0]), "responder": Sealer(to_a[1])}
    for sender, kind, flags, req, length in [
        ("initiator", 0x01, 0, 0, 90),
        ("responder", 0x01, 0, 0, 248),
        ("initiator", 0x12, 1, 7, 249),
        ("initiator", 0x12, 0, 7, 1016),
        ("responder", 0x02, 0, 0xFFFFFFFF, 0),
        ("responder", 0x30, 2, 9, 1017),
    ]:
        payload = counted(kind, length)
        wire = sealers[sender].seal(kind, flags, req, payload)
        frames.append({"sender": sender, "kind": kind, "flags": flags, "req": req, "payload": payload.hex(), "wire": wire.hex()})
    # Enough pings to pass the first change of keys.
    pings = blake3()
    for req in range(REKEY_NONCES // 2 + 10):
        pings.update(sealers["initiator"].seal(0x02, 0, req, b""))
    return {
        "name": name,
        "context": context,
        "now": NOW,
        "seed_initiator": seed_a.hex(),
        "seed_responder": seed_b.hex(),
        "shared": shared.hex(),
        "pair_secret": secret.hex(),
        "knock": knock.hex(),
        "random_initiator": random_i.hex(),
        "random_responder": random_r.hex(),
        "hello": hello.hex(),
        "message_1": message_1.hex(),
        "message_2": message_2.hex(),
        "message_3": message_3.hex(),
        "check_number": sas,
        "frames": frames,
        "pings": REKEY_NONCES // 2 + 10,
        "pings_blake3": pings.hexdigest(),
    }


def relay():
    seed, access_key, token = counted(1, 32), counted(2, 32), counted(3, 32)
    static = X25519DH().generate_keypair(PrivateKey(kdf("relay x25519", seed)))
    random_client, random_relay = counted(4, 40), counted(5, 32)
    salt = random_client[:8]
    knock = salt + rtag(kdf("knock", access_key, b"\x01"), salt, NOW // 600, b"\x02", 16)
    prologue = b"syncd/1\0\x02" + knock + bytes(32)
    psk = kdf("noise psk0", access_key)
    client, server = noise_state(random_client[8:]), noise_state(random_relay)
    pattern = PSKPatternModifier(0).modify(NKHandshakePattern())
    client.initialize(pattern, True, prologue, rs=PublicKey(static.public.data), psks=[psk])
    server.initialize(pattern, False, prologue, s=static, psks=[psk])
    assert client.protocol_name == "Noise_NKpsk0_25519_ChaChaPoly_BLAKE2s", client.protocol_name
    _, join = write(client, bytes([1, 1, 0, 0]) + token + bytes(60))
    read(server, join)
    address = bytes(10) + b"\xff\xff" + bytes([203, 0, 113, 5])
    reply = bytes([0, 0]) + address + struct.pack(">HHI", 4711, 150, 10_000_000)
    at_relay, message_2 = write(server, reply + bytes(64 - len(reply)))
    at_client, _ = read(client, message_2)
    to_client = [at_relay[1].encrypt_with_ad(b"", bytes([word]) + bytes(31)).hex() for word in (1, 3, 5)]
    to_relay = [at_client[0].encrypt_with_ad(b"", bytes([word]) + bytes(31)).hex() for word in (2, 4)]
    return {
        "now": NOW,
        "seed": seed.hex(),
        "access_key": access_key.hex(),
        "token": token.hex(),
        "random_client": random_client.hex(),
        "random_relay": random_relay.hex(),
        "join": (knock + join).hex(),
        "reply": message_2.hex(),
        "to_client": to_client,
        "to_relay": to_relay,
    }


def main():
    run = lambda first: bytes(range(first, first + 32))
    transcript = {
        "handshakes": [
            handshake("session", 0, run(0x00), run(0x20), run(0x40), counted(0x50, 128), counted(0x51, 96)),
            handshake("session, larger id dials", 0, run(0x20), run(0x00), run(0x40), counted(0x60, 128), counted(0x61, 96)),
            handshake("pairing", 1, run(0x20), run(0x00), run(0x80), counted(0x70, 128), counted(0x71, 96)),
        ],
        "relay": relay(),
    }
    text = json.dumps(transcript, indent=1) + "\n"
    if "--write" in sys.argv[1:]:
        TRANSCRIPT.parent.mkdir(parents=True, exist_ok=True)
        TRANSCRIPT.write_text(text)
    elif TRANSCRIPT.read_text() != text:
        sys.exit("the committed transcript differs")


if __name__ == "__main__":
    main()
