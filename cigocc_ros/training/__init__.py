"""Losses, data loading and the loop that trains CIGOcc; the only layer beside model with torch."""
