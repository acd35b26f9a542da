"""A volume plugin: local volumes with named restore points, and with backups that are tar archives."""
