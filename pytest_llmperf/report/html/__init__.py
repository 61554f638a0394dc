"""How does a run look on a page of its own? One file that opens from a disk, without network."""
