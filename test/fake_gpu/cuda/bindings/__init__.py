"""Stand in for NVIDIA's bindings; see runtime.py."""
