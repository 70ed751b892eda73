"""From occupancy to topics: clouds, grids, markers."""
