"""The harness of `cigocc demo` and the soak: processes of a replay, and what they published."""
