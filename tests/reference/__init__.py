"""Slow, separate, obviously right: what the compiled core is compared with. Nothing here imports barewire."""
