"""How hosts become one cluster: its founding, the listener that enrols others, joining and leaving, status."""
