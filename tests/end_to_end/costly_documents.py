"""Small documents in JSON that would cost a careless reader much memory or time."""

from __future__ import annotations

INPUTS, LONG = b'{"inputs":[%b]}', b"a" * 7_000_000


def data(values: bytes) -> bytes:
    """A request with these values as the data of its only input."""
    return INPUTS % (b'{"name":"inputs","shape":[1024,1,28,28],"datatype":"FP32","data":[%b]}' % values)


def many(item: bytes, count: int) -> bytes:
    """An item of a list, over and over."""
    return item + (b"," + item) * (count - 1)


GROWING = {
    "empty inputs": INPUTS % many(b"{}", 8_000_000),
    "fewer empty inputs": INPUTS % many(b"{}", 500_000),
    "few empty inputs": INPUTS % many(b"{}", 20_000),
    "numbers in place of inputs": INPUTS % many(b"1", 1_000_000),
    "outputs": b'{"inputs":[],"outputs":[%b]}' % many(b'{"name":"a"}', 600_000),
    "parameters of one name": b'{"inputs":[],"parameters":{%b}}' % many(b'"a":1', 1_300_000),
    "parameters of many names": b'{"inputs":[],"parameters":{%b}}'
    % b",".join(b'"%x":1' % number for number in range(20_000)),
    "empty lists as data": data(many(b"[]", 2_700_000)),
    "empty objects as data": data(many(b"{}", 800_000)),
    "texts as data": data(many(b'"a"', 800_000)),
    "a long text beside empty ones": data(b'"%b",%b' % (LONG[:100_000], many(b'""', 100_000))),
    "a long text beside numbers": data(b'"%b",%b' % (LONG[:1_000], many(b"0", 1024 * 784 - 1))),
    "a long and wide id": b'{"id":"\xf0\x9f\x98\x80%b","inputs":[]}' % LONG,
    "a long key": b'{"%b\\ud83d\\ude00":1,"inputs":[]}' % LONG,
    "a long number": data(b"1" * 7_000_000),
    "a long fraction": data(b"0." + b"1" * 7_000_000),
    "white space": b" " * 8_000_000,
    "depth": data(b"[" * 800_000),
    "bytes beyond the limit": bytes(32 * 2**20),
}
"""Documents of `/v2` that are small as gzip."""
PLAIN = {
    "unknown keys": b"{%b}" % b",".join(b'"%x":1' % number for number in range(7_000)),
    "empty lists": b'{"inputs":[%b]}' % many(b"[]", 20_000),
    "empty objects": b'{"latents":[%b]}' % many(b"{}", 20_000),
    "depth": b'{"inputs":' + b"[" * 60_000,
    "digits": b'{"count":' + b"9" * 60_000 + b"}",
    "text": b'{"from":"' + b"a" * 60_000 + b'"}',
}
"""Bodies of `/v1` and of the repository."""
OPERATIONS = ("sample", "interpolate", "encode", "decode", "reconstruct", "score")
