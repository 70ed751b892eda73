"""The vocabulary of the project, numpy only: grids, cameras, labels, frames, configs."""
