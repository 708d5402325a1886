"""An archive whose bytes depend on its content alone."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass

from tvm_bnn import artifact

#: 1980, as in artifacts: before it, some programs complain.
TIME = 315532800


@dataclass(frozen=True)
class Member:
    """One file."""

    content: bytes
    executable: bool = False


def write(path: artifact.PathLike, root: str, members: Mapping[str, Member]) -> None:
    """Write a .tar.gz with the members, by name, in one folder; whole or not at all. Raises OutputError."""
    with artifact.whole_file(path) as file:
        # a name or a time in gzip's header would be another difference
        with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed:
            with tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as archive:
                for name in sorted(members):
                    info = tarfile.TarInfo(f"{root}/{name}")
                    info.size, info.mtime = len(members[name].content), TIME
                    info.mode = 0o755 if members[name].executable else 0o644
                    archive.addfile(info, io.BytesIO(members[name].content))
