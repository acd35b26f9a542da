"""Living beside other programs that have a say over our packets or names: one file each with detect, allow, undo."""
