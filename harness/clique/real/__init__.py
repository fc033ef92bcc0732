"""The real bench of takeover: real processes in network namespaces, at the speed of the clock on the wall."""
