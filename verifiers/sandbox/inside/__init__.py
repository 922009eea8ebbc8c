"""What runs inside the sandbox. Standard library only; the host reads nothing from here but ``wire`` and ``values``."""
