"""The actor shell: supervision, the ring, and one module for each actor of the tree."""
