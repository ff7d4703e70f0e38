"""What people have: classes and labeled images of every layout."""
