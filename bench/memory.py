"""Print the peak memory, in megabytes, of a process with a number of documents in a memory database."""

from __future__ import annotations

import re
import resource
import sys
from pathlib import Path

from samples import make_documents

from couchdal import CouchDAL
from couchdal.backends.memory import MemoryBackend


def main(count: int) -> int:
    dal = CouchDAL(MemoryBackend(database="large"))
    for start in range(0, count, 1000):
        batch = make_documents(1000, start)
        dal.bulk_docs([{**document, "_id": f"{start:09d}-{document['_id']}"} for document in batch])
    return peak_kilobytes() // 1024


def peak_kilobytes() -> int:
    """Return the most memory that this process had."""
    status = Path("/proc/self/status")
    if status.exists():
        # What ``getrusage`` returns on Linux begins with the memory of the parent process.
        return int(re.findall(r"VmHWM:\s*(\d+) kB", status.read_text("ascii"))[0])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // 1024 if sys.platform == "darwin" else peak


if __name__ == "__main__":
    print(main(int(sys.argv[1])))
