"""A node: the one place that wires kernel, files, devices, store, runtime and mesh together."""
