"""Storage of documents: the contract, its implementation in memory, and overlays for snapshots."""
