"""From JSON to compressed JSON while hosts of both versions run: two steps, two deployments."""

import json
import zlib


class Serializer:
    """Reads both formats; which one it writes is the step."""

    def __init__(self, *, compress):
        self.compress = compress

    def dumps(self, data):
        plain = json.dumps(data, allow_nan=False, separators=(",", ":")).encode()
        # JSON of a dict begins with a brace, so another first byte tells the formats apart
        return b"z" + zlib.compress(plain) if self.compress else plain

    def loads(self, stored):
        return json.loads(zlib.decompress(stored[1:]) if stored[:1] == b"z" else stored)


first_step = Serializer(compress=False)
second_step = Serializer(compress=True)
