"""Print the peak memory, in megabytes, of a process with a number of documents in a memory database."""

from __future__ import annotations

import resource
import sys

from samples import make_documents

from couchdal import CouchDAL
from couchdal.backends.memory import MemoryBackend


def main(count: int) -> int:
    dal = CouchDAL(MemoryBackend(database="large"))
    for start in range(0, count, 1000):
        batch = make_documents(1000, start)
        dal.bulk_docs([{**document, "_id": f"{start:09d}-{document['_id']}"} for document in batch])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts kilobytes, macOS bytes.
    return peak // (1024 * 1024 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    print(main(int(sys.argv[1])))
