"""Where documents are kept: one contract, and its implementation in memory."""
