"""What a run will take, before anything is loaded: memory, FLOPs, time, and settings that cancel each other."""
