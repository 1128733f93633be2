"""The testbed: records real browsers, nginx, their packets and the kernel's sockets (Linux only)."""
