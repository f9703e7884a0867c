//! Tensor I/O: ndarray arrays to and from safetensors (dense and sparse), read-only import of PyTorch .pt, memory-mapped token shards.
