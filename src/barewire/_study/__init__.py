"""What latency is worth: two receive paths, one market, one strategy, before and after."""
