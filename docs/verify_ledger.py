#!/usr/bin/env python3
"""Verifies a ledger of Daylight. Written from docs/ledger.md alone.

    verify_ledger.py POLICY LEDGER [OLDER-CHECKPOINT]
    verify_ledger.py POLICY --proof FILE.tlog-proof ENTRY-FILE

LEDGER is a directory or an http(s) address. It needs nothing but Python 3.9, and ends with code 1 and
one sentence when something is wrong. Cosignatures by ML-DSA-44 do not count here.
"""
import base64, hashlib, json, os, sys, urllib.error, urllib.request

def need(condition, sentence):
    if not condition:
        raise ValueError(sentence)

# Ed25519 (RFC 8032, section 5.1)
P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
def add(a, b):
    (x1, y1), (x2, y2) = a, b
    t = D * x1 * x2 * y1 * y2 % P
    return (x1 * y2 + x2 * y1) * pow(1 + t, -1, P) % P, (y1 * y2 + x1 * x2) * pow(1 - t, -1, P) % P

def times(n, point):
    total = (0, 1)
    while n:
        total, point, n = add(total, point) if n & 1 else total, add(point, point), n >> 1
    return total

def decompress(text):
    y = int.from_bytes(text, "little")
    sign, y = y >> 255, y & (1 << 255) - 1
    x2 = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(x2, (P + 3) // 8, P)
    x = x if x * x % P == x2 else x * pow(2, (P - 1) // 4, P) % P
    need(y < P and x * x % P == x2 and (x or not sign), "a key or a signature is not a point")
    return (x if x & 1 == sign else P - x), y

def ed25519(public, message, signature):
    r, s = signature[:32], int.from_bytes(signature[32:], "little")
    k = int.from_bytes(hashlib.sha512(r + public + message).digest(), "little") % L
    base = decompress((4 * pow(5, -1, P) % P).to_bytes(32, "little"))
    sides = times(s, base), add(decompress(r), times(k, decompress(public)))
    return len(signature) == 64 and s < L and sides[0] == sides[1]

# Notes, checkpoints and the policy
def decode(text):
    return base64.b64decode(text, validate=True)

def parse_key(text):
    name, number, key = text.split("+", 2)
    key = decode(key)
    expected = hashlib.sha256(name.encode() + b"\n" + key).hexdigest()[:8]
    need(number == expected, f"the key {name} was changed")
    return name, bytes.fromhex(number), key[0], key[1:]

def parse_policy(text):
    logs, witnesses, groups, quorum = [], {}, {}, None
    for line in text.split("\n"):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if words[0] == "log":
            logs.append(parse_key(words[1]))
        elif words[0] == "witness":
            witnesses[words[1]] = parse_key(words[2])
        elif words[0] == "group":
            count = {"any": 1, "all": len(words) - 3}.get(words[2]) or int(words[2])
            groups[words[1]] = count, words[3:]
        else:
            need(words[0] == "quorum" and quorum is None, f"the policy has the line {line!r}")
            quorum = words[1]
    need(quorum is not None, "the policy has no quorum")
    return logs, witnesses, groups, quorum

def parse_checkpoint(note, policy):
    """Returns origin, size and root of a checkpoint that the policy accepts."""
    logs, witnesses, groups, quorum = policy
    text, _, lines = note.rpartition("\n\n")
    text += "\n"
    origin, size, root, *_ = text.split("\n")
    need(size.isdecimal() and str(int(size)) == size, "the checkpoint's size is not a number")
    valid = set()
    for line in lines.splitlines():
        dash, name, signature = line.split(" ")
        number, signature = decode(signature)[:4], decode(signature)[4:]
        for key in logs + list(witnesses.values()):
            if key[:2] == (name, number) and key[2] in (1, 4):
                message = text
                if key[2] == 4:
                    message = f"cosignature/v1\ntime {int.from_bytes(signature[:8], 'big')}\n{text}"
                    signature = signature[8:]
                right = dash == "\u2014" and ed25519(key[3], message.encode(), signature)
                need(right, f"the signature of {name} is wrong")
                valid.add(key)
    is_signed = any(log in valid and log[0] == origin for log in logs)
    need(is_signed, f"no log of the policy signed this checkpoint of {origin}")
    def cosigned(name):
        if name in groups:
            return sum(map(cosigned, groups[name][1])) >= groups[name][0]
        return witnesses[name] in valid
    need(quorum == "none" or cosigned(quorum), f"too few witnesses cosigned: {quorum} must have")
    return origin, int(size), decode(root)

# The tree
def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()

def read(ledger, path):
    if "://" not in ledger:
        path = os.path.join(ledger, path)
        return open(path, "rb").read() if os.path.isfile(path) else None
    try:
        return urllib.request.urlopen(ledger.rstrip("/") + "/" + path).read()
    except urllib.error.HTTPError as error:
        need(error.code == 404, f"{path} cannot be read: {error}")

def read_tile(ledger, kind, index, width):
    """A partial tile has a name of its own, or is the beginning of a file that grows."""
    groups = [f"{index % 1000:03}"]
    while index := index // 1000:
        groups.insert(0, f"x{index % 1000:03}")
    path = f"tile/{kind}/{'/'.join(groups)}"
    data = read(ledger, f"{path}.p/{width}") if width < 256 else None
    data = read(ledger, path) if data is None else data
    need(data is not None, f"{path} is missing")
    return path, data

def verify_ledger(ledger, policy, older=None):
    origin, size, root = parse_checkpoint((read(ledger, "checkpoint") or b"").decode(), policy)
    roots = {size: [root]}
    if older:
        old_origin, old_size, old_root = parse_checkpoint(open(older).read(), policy)
        need(old_origin == origin, f"the older checkpoint is of {old_origin}")
        need(old_size <= size, f"there were {old_size} entries before, and {size} are left")
        roots.setdefault(old_size, []).append(old_root)
    stack, tiles = [], {}  # complete subtrees as (entries, hash), and the last tile of each level
    def check_root(count):
        total = stack[-1][1] if stack else sha256()
        for _, left in reversed(stack[:-1]):
            total = sha256(b"\1", left, total)
        need({total} == set(roots[count]), f"the first {count} entries do not have the signed root hash")
    def compare(level, index):
        hashes = b"".join(tiles.pop(level))
        path, data = read_tile(ledger, level, index, len(hashes) // 32)
        need(data[: len(hashes)] == hashes, f"{path} does not have the hashes of what is below it")
    def put(level, index, value):
        tiles.setdefault(level, []).append(value)
        if index % 256 == 255:
            compare(level, index // 256)
    for number in range(size):
        if number in roots:
            check_root(number)
        if number % 256 == 0:
            path, data = read_tile(ledger, "entries", number // 256, min(256, size - number))
        length = int.from_bytes(data[:2], "big")
        entry, data = data[2 : 2 + length], data[2 + length :]
        need(len(entry) == length and length > 0, f"{path} ends before entry {number}")
        need(number % 256 < 255 or not data, f"{path} continues after entry {number}")
        text = json.dumps(json.loads(entry), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        need(text.encode() == entry, f"entry {number} is not canonical JSON")
        count, value = 1, sha256(b"\0", entry)
        put(0, number, value)
        while stack and stack[-1][0] == count:
            count, value = 2 * count, sha256(b"\1", stack.pop()[1], value)
            if count.bit_length() % 8 == 1:
                put(count.bit_length() // 8, number // count, value)
        stack.append((count, value))
    for level in sorted(tiles):
        compare(level, (size >> 8 * level) // 256)
    check_root(size)
    return f"Verified {size} entries of {origin}. Their root hash is {root.hex()}."

def verify_proof(_, policy, file, entry):
    lines, _, note = open(file).read().partition("\n\n")
    first, *lines = lines.split("\n")
    need(first == "c2sp.org/tlog-proof@v1", f"{file} is not a proof")
    lines = lines[1:] if lines[0].startswith("extra ") else lines
    index, proof = int(lines[0].removeprefix("index ")), [decode(line) for line in lines[1:]]
    origin, size, root = parse_checkpoint(note, policy)
    at, last, value = index, size - 1, sha256(b"\0", open(entry, "rb").read())
    for other in proof:
        right = at % 2 == 1 or at == last
        value = sha256(b"\1", *((other, value) if right else (value, other)))
        while right and at % 2 == 0 and at:
            at, last = at // 2, last // 2
        at, last = at // 2, last // 2
    need(0 <= index < size and last == 0 and value == root, f"this is not entry {index} of {origin}")
    return f"Verified: entry {index} of {origin}, which has {size} entries."

if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    _, policy, ledger, *rest = sys.argv
    verify = verify_proof if ledger == "--proof" else verify_ledger
    try:
        print(verify(ledger, parse_policy(open(policy).read()), *rest))
    except (ValueError, KeyError, IndexError, OSError) as error:
        sys.exit(f"Not verified: {error}")
