"""Runtime services: devices and hosts, signals, compiled programs, workdirs and files."""
