"""What this machine has: its GPUs and memory, who uses them, and how that changes."""
