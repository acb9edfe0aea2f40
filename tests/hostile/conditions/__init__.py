"""What a machine can lack: full disks, read-only folders, few descriptors; ``python -m tests.hostile.conditions``."""
