"""Living beside other programs that have a say over our packets: one file each with detect, allow, undo."""
