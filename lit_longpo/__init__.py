"""The method: packed-row engine, objectives, policy, command line."""
