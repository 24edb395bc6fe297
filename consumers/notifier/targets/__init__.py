"""The kinds of targets, behind one port."""
