"""Stand in for NVIDIA's bindings; see bindings/runtime.py."""
