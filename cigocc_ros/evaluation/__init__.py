"""Scores of semantic scene completion, computed from arrays with numpy."""
