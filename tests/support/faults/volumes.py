"""Small disks, which can be full: file systems in memory, mounted for one test.

Mounting needs root. Where it is refused the test is skipped, and failed where ``CI`` is set.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from support.servers import PREFIX, identity, unavailable


class Volume:
    """A small disk.

    :ivar path: where it is mounted.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ballast = path / "ballast"

    @property
    def free(self) -> int:
        """How many bytes are free."""
        status = os.statvfs(self.path)
        return status.f_bavail * status.f_frsize

    def fill(self, room: int = 0) -> None:
        """Let something else take the space, all but *room* bytes."""
        with self._ballast.open("wb") as file:
            # what is there may have left less than that
            if self.free > room:
                os.posix_fallocate(file.fileno(), 0, self.free - room)

    def clear(self) -> None:
        """Give it back."""
        self._ballast.unlink()


@contextlib.contextmanager
def mounted(path: Path, size: int, account: str | None = None) -> Iterator[Volume]:
    """A new volume of so many bytes at a directory, until the block ends.

    :param account: the user to whom it belongs, if that is not us.
    """
    unmount_leftovers()
    mount = shutil.which("mount")
    if os.geteuid() != 0 or mount is None:
        unavailable("a small file system cannot be mounted: it takes root")
    owner = identity(account) if account else {"user": 0, "group": 0}
    options = f"size={size},mode=0700,uid={owner['user']},gid={owner['group']}"
    path.mkdir(exist_ok=True)
    command = [mount, "-t", "tmpfs", "-o", options, f"{PREFIX}{os.getpid()}", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        unavailable(f"a small file system cannot be mounted: {done.stderr.strip()}")
    try:
        yield Volume(path)
    finally:
        unmount(path)


def unmount(path: Path | str) -> None:
    """Unmount a volume, even if somebody still has a file open there."""
    subprocess.run(["umount", "--lazy", str(path)], check=True)


def unmount_leftovers() -> None:
    """Unmount the volumes of earlier runs that were killed: the name of each says whose it was."""
    for line in Path("/proc/mounts").read_text().splitlines():
        source, path = line.split(" ")[:2]
        pid = source.removeprefix(PREFIX)
        if pid != source and not Path("/proc", pid).exists():
            unmount(path)
