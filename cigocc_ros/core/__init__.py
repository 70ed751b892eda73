"""The vocabulary of the project: grids, cameras, labels, frames, configs and manifests (numpy only)."""
