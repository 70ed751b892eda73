"""Make a deployable model folder from a checkpoint, and refuse to make a wrong one."""
