"""What a run takes: operations, time, memory, bytes sent."""
