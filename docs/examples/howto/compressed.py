"""Change from JSON to compressed JSON in two deployments."""

import json
import zlib


class Serializer:
    """Reads both formats; the step decides which one it writes."""

    def __init__(self, *, compress, longest=1024**2):
        self.compress = compress
        self.longest = longest

    def bounded_by(self, max_size):
        return Serializer(compress=self.compress, longest=max_size)

    def dumps(self, data):
        plain = json.dumps(data, allow_nan=False, separators=(",", ":")).encode()
        if len(plain) > self.longest:
            raise ValueError(f"{len(plain)} bytes are more than {self.longest}")
        # JSON of a dict begins with a brace, so the first byte tells the formats apart
        return b"z" + zlib.compress(plain) if self.compress else plain

    def loads(self, stored):
        if stored[:1] == b"z":
            stored = self._decompressed(stored[1:])
        return json.loads(stored)

    def _decompressed(self, stored):
        stream = zlib.decompressobj()
        # a kilobyte may decompress to a megabyte: stop at the limit
        plain = stream.decompress(stored, self.longest + 1)
        if len(plain) > self.longest or not stream.eof:
            raise ValueError(f"truncated, or more than {self.longest} bytes")
        return plain


first_step = Serializer(compress=False)
second_step = Serializer(compress=True)
