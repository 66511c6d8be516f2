"""What the rest runs on: devices and hosts, signals, compiled programs, workdirs and files."""
