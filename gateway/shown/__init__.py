"""What a gateway shows of itself: its status, its metrics, how much its counters grew lately."""
