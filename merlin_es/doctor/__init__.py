"""What is wrong with a state root, its host and its cluster, and what mends it? It only looks, unless told to mend."""
